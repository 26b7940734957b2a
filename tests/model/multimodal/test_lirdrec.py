"""LIRDRec against its eight steps on dense matrices, missing vectors, and its ablations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from altered import copy_of, pairs, rows_of, shake, with_item_vectors
from literal_graphs import literal_items, literal_user_items

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError, DataError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.model.multimodal.fusion import learned_share
from recbole_drex.model.multimodal.lirdrec import shared_features
from recbole_drex.training.trainer import make_trainer

MISSING = {"text": [4, 9, 30], "image": [2, 9, 17, 31]}  # item 9 has neither
SMALL = {"embedding_size": 8, "knn_k": 4}
MULTIMODAL = {"item_modalities": ["image", "text", "reviews"]}


@pytest.fixture(scope="module")
def items(small, tmp_path_factory):
    """The data set whose items have vectors of text and image too, but for some."""
    return with_item_vectors(small.root, tmp_path_factory.mktemp("items") / "data", MISSING)


@pytest.fixture(scope="module")
def make(items, make_experiment):
    """``make(**parameters)``: an untrained, small LIRDRec on :func:`items`."""

    def build(**options):
        return make_experiment("LIRDRec", **{**SMALL, "data_path": str(items), **options})

    return build


def literal(experiment) -> tuple[torch.Tensor, torch.Tensor]:
    """The eight steps, block by block on dense matrices: representations of users and items."""
    model, config, dataset = experiment.model, experiment.config, experiment.parts.train_dataset
    names = config["item_modalities"]
    raw = {name: dataset.item_vectors(name) for name in names}
    cosines = [scipy.fft.dct(raw[name].double().numpy(), type=2, norm="ortho") for name in names]
    raw["shared"] = torch.from_numpy(np.concatenate(cosines, axis=1)).float()
    blocks = config["blocks"] or [*names, "shared"]
    feat = dataset.inter_feat
    pairs = list(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))
    adjacency = torch.from_numpy(literal_user_items(pairs, model.n_users, model.n_items)).float()
    users, items = [], []
    for number, name in enumerate(blocks):
        first, _, second = model.encoders[number].layers
        encoded = second.weight @ torch.nn.functional.leaky_relu(first.weight @ raw[name].T + first.bias[:, None])
        length = encoded.square().sum(0).sqrt()
        own = torch.where(raw[name].abs().sum(1) > 0, encoded / length, torch.zeros(()))
        free = model.user_blocks[:, number]
        nodes = torch.cat([free / free.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12), own.T])
        layers = [nodes]
        for _ in range(config["n_layers"]):
            layers.append(adjacency @ layers[-1])
        total = sum(layers)
        users.append(total[: model.n_users])
        items.append(total[model.n_users :])
    if config["weigh_blocks"]:
        fusion = model.fusion
        logits = [
            fusion.w1 * scorer(block).squeeze(1) + fusion.w2 * fusion.theta[:, number]
            for number, (scorer, block) in enumerate(zip(fusion.scorers, users, strict=True))
        ]
        weights = torch.softmax(torch.stack(logits), dim=0)
    else:
        weights = torch.full((len(blocks), model.n_users), 1 / len(blocks))
    user = torch.cat([weight[:, None] * block for weight, block in zip(weights, users, strict=True)], dim=1)
    item = torch.cat(items, dim=1)
    if config["item_graph"]:
        shares = config["modality_weights"] or [1 / len(names)] * len(names)
        graph = literal_items([raw[name].numpy() for name in names], shares, config["knn_k"])
        item = item + torch.from_numpy(graph).float() @ item
    return user, item


def test_cosine_transform_is_that_of_scipy_and_of_its_definition():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 7)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    other[2] = 0.0
    result = shared_features([torch.from_numpy(one), torch.from_numpy(other)])
    np.testing.assert_allclose(result[:, :7], scipy.fft.dct(one.astype(np.float64), type=2, norm="ortho"), atol=1e-6)
    n = np.arange(7)
    for k in range(7):
        scale = np.sqrt((1 if k == 0 else 2) / 7)
        np.testing.assert_allclose(result[:, k], scale * one @ np.cos(np.pi * k * (2 * n + 1) / 14), atol=1e-6)
    assert not result[2, 7:].any()
    np.testing.assert_allclose(result[:, 7:].norm(dim=1), np.linalg.norm(other, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**MULTIMODAL, "modality_weights": [0.1, 0.6, 0.3], "n_layers": 2},
        {**MULTIMODAL, "blocks": ["shared", "text"], "n_layers": 4, "pwc_schedule": "power"},
        {"item_modalities": ["text"], "item_graph": False, "n_layers": 1},
        {"item_modalities": ["text", "image"], "weigh_blocks": False, "n_layers": 0, "knn_k": 100},
    ],
    ids=lambda options: ",".join(options) or "default",
)
def test_representations_loss_and_gradient_are_those_of_the_steps(options, make):
    experiment = shake(make(**options))
    model = experiment.model
    model.user_blocks.data[0] = 0.0  # shaken too, but padding is zero
    for epoch in range(3):
        model.before_epoch(epoch)
    fast, slow = model.representations(), literal(experiment)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    user, item = slow
    assert user[1:].std() > 0.01 and item[1:].std() > 0.01
    feat = experiment.parts.train_dataset.inter_feat
    batch = {"user_id": feat["user_id"][:50], "item_id": feat["item_id"][:50], "neg_item_id": feat["item_id"][50:100]}
    margin = (user[batch["user_id"]] * (item[batch["item_id"]] - item[batch["neg_item_id"]])).sum(1)
    penalty = user[1:].square().mean() + item[1:].square().mean()
    loss = -torch.log(torch.sigmoid(margin)).mean() + model.reg_weight * penalty
    result = model.calculate_loss(Interaction(batch))
    torch.testing.assert_close(result, loss)
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(loss, list(parameters.values()))
    gradients = torch.autograd.grad(result, list(parameters.values()))
    for name, gradient, wanted in zip(parameters, gradients, expected, strict=True):
        if name == "user_blocks":  # the literal length of a row of zeros has no gradient
            gradient, wanted = gradient[1:], wanted[1:]
        torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=2e-3, msg=name)


def test_scores_are_products_of_fresh_representations(make):
    experiment = shake(make(**MULTIMODAL))
    model = experiment.model
    everyone = Interaction({"user_id": torch.arange(model.n_users)})

    def scores():
        return model.full_sort_predict(everyone).view(model.n_users, -1)

    with torch.no_grad():
        first = scores()
        users, items = model.representations()
        torch.testing.assert_close(first[1:], (users @ items.T)[1:])
        # What training changes shows in the next evaluation, also if only the copied weights changed.
        model.train()
        model.encoders[0].layers[2].weight.mul_(-1.0)
        model.eval()
        second = scores()
        assert not torch.equal(first, second)
        for epoch in range(1, 12):
            model.before_epoch(epoch)
        assert not torch.equal(second, scores())


# What is missing ----------------------------------------------------------------------------------------------------


def test_items_that_lack_a_modality_or_all(make, train):
    experiment = make(**MULTIMODAL, embedding_size=8, epochs=2)
    model, dataset = experiment.model, experiment.dataset
    tokens = sorted(dataset.field2id_token["item_id"][1:])
    text = [dataset.token2id("item_id", tokens[index]) for index in MISSING["text"]]
    image = [dataset.token2id("item_id", tokens[index]) for index in MISSING["image"]]
    train(experiment)
    with torch.no_grad():
        blocks = [encoder() for encoder in model.encoders]
        edges = model.items.matrix.to_dense()
        for block, missing in zip(blocks[:2], (image, text), strict=True):
            assert torch.nonzero(~block.any(1)).flatten().tolist() == sorted([0, *missing])
            lengths = block[block.any(1)].norm(dim=1)
            torch.testing.assert_close(lengths, torch.ones_like(lengths))
        assert blocks[3][1:].any(1).all()  # reviews are there for all
        # A third of the item graph belongs to each modality.
        torch.testing.assert_close(edges[text[0]].sum(), torch.tensor(2 / 3))
        scores = model.full_sort_predict(Interaction({"user_id": torch.arange(model.n_users)}))
        assert torch.isfinite(scores).all()


def test_an_item_without_any_modality_is_what_its_users_are(make):
    experiment = shake(make(item_modalities=["text", "image"], n_layers=1))
    model, dataset = experiment.model, experiment.dataset
    item = dataset.token2id("item_id", sorted(dataset.field2id_token["item_id"][1:])[9])
    with torch.no_grad():
        _, items = model.representations()
        users = torch.nn.functional.normalize(model.user_blocks, dim=-1).flatten(1)
        row = model.user_items.matrix.to_dense()[model.n_users + item, : model.n_users]
    assert not model.items.matrix.to_dense()[item].any()
    torch.testing.assert_close(items[item], row @ users)


def test_a_user_without_training_rows_has_the_mean_of_the_others(small, make_experiment, tmp_path):
    """The newest rows are the test part, and those of one user are all new."""

    def change(frame):
        frame.loc[frame["user_id:token"] == frame["user_id:token"].iloc[0], "timestamp:float"] += 10**9
        return frame

    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "order": "TO", "mode": "full"}
    root = copy_of(small.root, tmp_path / "data", change)
    experiment = shake(make_experiment("LIRDRec", data_path=str(root), eval_args=eval_args, **SMALL))
    model, seen = experiment.model, experiment.parts.train_dataset.inter_feat["user_id"].unique()
    unseen = sorted(set(range(1, model.n_users)) - set(seen.tolist()))
    assert unseen
    with torch.no_grad():
        users, items = model.representations()
        scores = model.full_sort_predict(Interaction({"user_id": torch.tensor(unseen[:1])}))
    torch.testing.assert_close(scores, users[seen].mean(0) @ items.T)
    assert scores.std() > 0.01


# Training -----------------------------------------------------------------------------------------------------------


def test_it_learns_to_rank_and_predicts_no_rating(make_experiment, train):
    experiment = make_experiment("LIRDRec", epochs=12, stopping_step=12, train_batch_size=256, learning_rate=0.003)
    assert not predicts_ratings(experiment.config)
    trainer = train(experiment)
    metrics = trainer.evaluate_part(experiment.parts.valid).metrics
    assert not {"rmse", "mae"} & set(metrics) and "full_recall@20" in metrics
    losses = [entry["train_loss"] for entry in trainer.history]
    assert losses[-1] < 0.9 * losses[0]
    assert all(np.diff([entry["epoch"] for entry in trainer.history]) == 1)


@pytest.mark.parametrize("schedule", ("official", "power"))
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(schedule, make, tmp_path):
    """Also in what was copied before each epoch: after five epochs, three of them after a resume."""
    states = {}
    for name, stops in (("whole", [5]), ("resumed", [2, 5])):
        for epochs in stops:
            experiment = make(**MULTIMODAL, pwc_schedule=schedule, epochs=epochs, valid_metric="full_ndcg@10")
            trainer = make_trainer(experiment.config, experiment.model, tmp_path / name, experiment.parts)
            (tmp_path / name).mkdir(exist_ok=True)
            assert trainer.resume() == (epochs != stops[0])
            trainer.train_model()
        trainer.resume()  # the last epoch, not the best
        states[name] = {key: value.clone() for key, value in experiment.model.state_dict().items()}
        assert [entry["epoch"] for entry in trainer.history] == [0, 1, 2, 3, 4]
    for key, value in states["whole"].items():
        assert torch.equal(value, states["resumed"][key]), key
    assert states["whole"]["fusion.w1"].item() == pytest.approx(learned_share(schedule, 5, 0.9, 0.9))
    assert states["whole"]["fusion.theta"].std() > 0


@pytest.mark.parametrize(
    "options, holds",
    [
        ({"blocks": ["text", "reviews"]}, lambda model: len(model.encoders) == 2),
        ({"blocks": ["image", "shared"]}, lambda model: model.user_blocks.shape[1] == 2),
        ({"item_graph": False}, lambda model: model.items is None),
        ({"weigh_blocks": False}, lambda model: model.fusion is None),
        ({"pwc_schedule": "none"}, lambda model: model.fusion.w2 == 0),
        ({"item_modalities": ["image"], "blocks": ["image"]}, lambda model: model.blocks == ["image"]),
        ({"item_modalities": ["text"]}, lambda model: model.blocks == ["text", "shared"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_ablations_are_reached_by_parameters(options, holds, make, train):
    experiment = make(**{**MULTIMODAL, "epochs": 1, **options})
    trainer = train(experiment)
    assert np.isfinite(trainer.evaluate_part(experiment.parts.valid).full).all()
    assert holds(experiment.model)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"item_modalities": ["texts"]}, "value of 'item_modalities': 'texts'; did you mean 'text'"),
        ({"item_modalities": []}, "'item_modalities' must be a list of one name or more"),
        ({"item_modalities": ["text", "text"]}, "'item_modalities' must be a list of one name or more, each once"),
        ({"item_modalities": [["text"]]}, "'item_modalities' must be a list"),
        ({"blocks": ["share"]}, "value of 'blocks': 'share'; did you mean 'shared'"),
        ({"blocks": ["text"]}, "value of 'blocks': 'text'"),  # not among the modalities of this model
        ({"blocks": []}, "'blocks' must be a list of one name or more"),
        ({"blocks": "shared"}, "'blocks' must be list"),
        ({"modality_weights": [0.5, 0.5]}, r"'modality_weights' must have a number for each of \['reviews'\]"),
        ({**MULTIMODAL, "modality_weights": [0.5, 0.2, 0.2]}, "sum to 1"),
        ({**MULTIMODAL, "modality_weights": [1.5, -0.3, -0.2]}, "0 or more"),
        ({"modality_weights": ["all"]}, "'modality_weights' must be numbers"),
        ({"modality_weights": 1.0}, "'modality_weights' must be list"),
        ({"pwc_schedule": "officiel"}, "value of 'pwc_schedule': 'officiel'; did you mean 'official'"),
        ({"train_target": "rating"}, "value of 'train_target': 'rating'"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(options, message, make):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "value, message",
    [
        ({"knn_k": 0}, "'knn_k' must be 1 or more"),
        ({"n_layers": -1}, "'n_layers' must be 0 or more"),
        ({"decay_weight": 1.5}, "'decay_weight' must be 0 to 1, not 1.5"),
        ({"decay_base": -0.1}, "'decay_base' must be 0 to 1, not -0.1"),
    ],
)
def test_numbers_out_of_range(value, message, make_config):
    with pytest.raises(ConfigError, match=message):
        make_config("LIRDRec", **value)


@pytest.mark.parametrize("model", ("LIRDRec", "VBPR"))
def test_data_without_item_vectors(model, small, make_experiment, tmp_path):
    root = copy_of(small.root, tmp_path / "data", lambda f: f[[c for c in f if not c.startswith("review")]])
    options = {"data_path": str(root), "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    with pytest.raises(DataError, match="neither reviews nor other vectors of items, which the parameter 'item_mod"):
        make_experiment(model, **options)


def test_a_modality_that_no_item_has_in_training(small, make_experiment, tmp_path):
    """Reviews of only validation and test rows count as no reviews."""
    seen = pairs(make_experiment("GlobalMean"), "train")

    def change(frame):
        frame.loc[rows_of(frame, seen) | frame["rating:float"].isna(), "review_row:float"] = np.nan
        return frame

    root = copy_of(small.root, tmp_path / "data", change)
    with pytest.raises(DataError, match="modality 'reviews' of the parameter 'item_modalities' in the training part"):
        make_experiment("LIRDRec", data_path=str(root))
