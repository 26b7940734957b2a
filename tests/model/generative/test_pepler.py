"""PEPLER: a tiny language model with random weights is taught sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from language_models import save_gpt2

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.model.pesi.sentence_data import as_text
from recbole_drex.training.trainer import make_trainer


def batch_of(experiment, n: int) -> Interaction:
    return experiment.parts.train_dataset.inter_feat[torch.arange(n)]


def test_losses_are_those_of_the_language_model(make_experiment):
    """Each sentence on its own, without padding."""
    experiment = make_experiment("PEPLER")
    model, batch = experiment.model.eval(), batch_of(experiment, 8)
    user, item = batch["user_id"], batch["item_id"]
    own = model.sentences.find(user, item)
    own[0] = -1
    score, loss = model.losses(user, item, own)
    assert (own >= 0).sum() > 4 and not loss[own < 0].any()
    network = model.language_model
    for k in torch.nonzero(own >= 0).flatten().tolist():
        pieces = [piece for piece in model.pieces[own[k]].tolist() if piece >= 0]
        words = network.get_input_embeddings()(torch.tensor(pieces[:-1], dtype=torch.int64))
        inputs = torch.cat([model.user.weight[user[k]][None], model.item.weight[item[k]][None], words])
        logits = network(inputs_embeds=inputs[None]).logits[0, 1:]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(pieces))
        np.testing.assert_allclose(float(loss[k].detach()), float(expected.detach()), rtol=1e-4)
    np.testing.assert_allclose(score.detach(), model.pair_score(user, item).detach())


def test_the_language_model_is_frozen_at_first(make_experiment, tmp_path):
    experiment = make_experiment("PEPLER", epochs=2, frozen_epochs=1)
    model, states = experiment.model, []

    def after_epoch(entry):
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    start = {name: value.clone() for name, value in model.state_dict().items()}
    make_trainer(experiment.config, model, tmp_path, experiment.parts).train_model(after_epoch)
    ours = [name for name in start if name.startswith("language_model.transformer.h") and name.endswith("weight")]
    assert all(torch.equal(start[name], states[0][name]) for name in ours)
    assert not all(torch.equal(states[0][name], states[1][name]) for name in ours)
    assert not torch.equal(start["user.weight"], states[0]["user.weight"])


@pytest.mark.parametrize("end", (True, False))
def test_it_learns_its_sentences_by_heart(end, make_experiment, tmp_path):
    """With and without a token for the end of a text; neither tokenizer has one for padding."""
    folder = save_gpt2(tmp_path / "lm", ["the story is good and the end is bad"] * 9, end=end)
    experiment = make_experiment("PEPLER", language_model=str(folder), sentence_pieces=12, frozen_epochs=0)
    model, batch = experiment.model.train(), batch_of(experiment, 40)
    own = model.sentences.find(batch["user_id"], batch["item_id"])
    batch = batch[torch.nonzero(own >= 0).flatten()[:3]]
    own = model.sentences.find(batch["user_id"], batch["item_id"])
    model.eval()  # without dropout, which the language model has
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    written = model.generate(batch["user_id"], batch["item_id"])
    for text, number in zip(written, own.tolist(), strict=True):
        target = as_text(model.sentences.chosen[number][0])
        assert text and target.startswith(text)
    assert model.generate([], []) == []
    assert (model.end is None) == (not end)


def test_a_missing_name_or_model_is_one_line(make_experiment, tmp_path, language_model):
    with pytest.raises(ConfigError, match=r"^PEPLER needs a language model: set language_model to a Hugging Face name"):
        make_experiment("PEPLER", language_model=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^language model '.*empty': .* has no model.safetensors") as caught:
        make_experiment("PEPLER", language_model=str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^parameter 'sentence_pieces' must be 63 or less with language model"):
        make_experiment("PEPLER", sentence_pieces=64)


def test_a_damaged_language_model(make_experiment, tmp_path):
    folder = save_gpt2(tmp_path / "lm", ["a text"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 2}))
    with pytest.raises(DataError, match=r"lacks weights, such as transformer\.h\.1"):
        make_experiment("PEPLER", language_model=str(folder))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be loaded from"):
        make_experiment("PEPLER", language_model=str(folder))
