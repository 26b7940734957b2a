"""DReX against literal computations, and the leak rule inside its training step."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from altered import copy_of, shake, twin
from conftest import FEW_EPOCHS, NAME, SETTINGS
from scored import every_pair, fixed_epochs, pair_by_pair

from recbole.data.interaction import Interaction

from recbole_drex.errors import ConfigError
from recbole_drex.experiments.quick_start import run
from recbole_drex.model.drex.refinement import StateRefiner
from recbole_drex.training.trainer import make_trainer

SMALL = {"embedding_size": 8, "dropout": 0.0}
RULES = [
    *({"refinement": "leave_one_out", "start": start} for start in ("zero", "random", "mlp")),
    *({"refinement": "sequential", "aspects": 0, "start": start} for start in ("zero", "random", "mlp")),
]
LEAVE_ONE_OUT = [
    {"start": start, "output": output, "aspects": aspects}
    for start, output, aspects in itertools.product(("zero", "random", "mlp"), ("ordinal", "point"), (0, 32))
]


def name_of(rule) -> str:
    return "-".join(map(str, rule.values()))


every_rule = pytest.mark.parametrize("rule", RULES, ids=name_of)
every_leave_one_out = pytest.mark.parametrize("rule", LEAVE_ONE_OUT, ids=name_of)


@pytest.fixture
def shaken(make_experiment):
    """``shaken(**parameters)``: an untrained DReX whose parameters are random, so that every part of it acts."""

    def make(**parameters):
        return shake(make_experiment("DReX", **{**SMALL, **parameters}))

    return make


def targets(experiment, n: int) -> list[int]:
    """Some training rows that have a review."""
    feat = experiment.parts.train_dataset.inter_feat
    reviewed = torch.nonzero(feat["review_row"] >= 0).flatten()
    return reviewed[torch.randperm(len(reviewed), generator=torch.Generator().manual_seed(2))[:n]].tolist()


def other_content(feat: Interaction, k: int) -> Interaction:
    """The rows with another rating and another review in row ``k``."""
    changed = Interaction({key: value.clone() for key, value in feat.interaction.items()})
    changed["rating"][k] = 1.0 if changed["rating"][k] > 3 else 5.0
    rows = changed["review_row"]
    rows[k] = rows[(k + 1 + torch.nonzero(rows[k + 1 :] >= 0)[0]) % len(rows)]
    assert changed["review_row"][k] != feat["review_row"][k]
    return changed


# The leak rule -----------------------------------------------------------------------------------------------------


def inputs_in_training(model, user, item) -> list[torch.Tensor]:
    """What a target is scored by in a training step, after attention and aspects have moved on since the refresh."""
    model.train()
    model._refresh()
    moved = [] if model.attention is None else [model.attention.scorer.weight]
    if model.aspects is not None:
        moved += [model.aspects._sentiment, model.aspects._importance]
    with torch.no_grad():
        for parameter in moved:
            parameter *= 1.5
        row = model.table.find(user, item)
        torch.manual_seed(11)
        *sides, _ = model._for_training(user, item, row)
        inputs = [part for side in sides for part in side]
        for parameter in moved:
            parameter /= 1.5
    model.eval()
    return inputs


@every_rule
def test_a_target_has_no_effect_on_its_own_state(rule, shaken):
    """In training, another rating and review of the target change nothing that it is predicted from."""
    experiment = shaken(**rule)
    feat = experiment.parts.train_dataset.inter_feat
    for k in targets(experiment, 4):
        user, item = feat["user_id"][k : k + 1], feat["item_id"][k : k + 1]
        pair = Interaction({"user_id": user, "item_id": item})
        changed = twin(experiment, other_content(feat, k))
        before, after = inputs_in_training(experiment.model, user, item), inputs_in_training(changed, user, item)
        for one, other in zip(before, after, strict=True):
            torch.testing.assert_close(one, other, atol=3e-6, rtol=0)
        torch.testing.assert_close(changed.predict(pair), experiment.model.predict(pair), atol=1e-5, rtol=0)
        # The change is large: predictions of other pairs change.
        for one, other in zip(changed._users, experiment.model._users, strict=True):
            assert not one.numel() or (one - other).abs().max() > 1e-3


@every_leave_one_out
def test_leaving_out_equals_never_having_seen(rule, shaken):
    """A known pair is predicted as by a model from whose evidence that interaction was physically removed."""
    experiment = shaken(**rule, taste=[])  # only a pair that is no evidence gets a taste
    feat = experiment.parts.train_dataset.inter_feat
    for k in targets(experiment, 4):
        pair = Interaction({"user_id": feat["user_id"][k : k + 1], "item_id": feat["item_id"][k : k + 1]})
        without = twin(experiment, feat[torch.arange(len(feat)) != k])
        assert len(without.table) == len(experiment.model.table) - 1
        torch.testing.assert_close(experiment.model.predict(pair), without.predict(pair), atol=1e-5, rtol=0)


# The states from scratch -------------------------------------------------------------------------------------------


def gru_step(gru: torch.nn.GRU, message: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """One step of a GRU by its equations."""
    from_message = gru.weight_ih_l0 @ message + gru.bias_ih_l0
    from_state = gru.weight_hh_l0 @ state + gru.bias_hh_l0
    (ir, iz, in_), (hr, hz, hn) = from_message.chunk(3), from_state.chunk(3)
    reset, update = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
    return (1 - update) * torch.tanh(in_ + reset * hn) + update * state


class Literal:
    """Messages and states by the equations, one interaction at a time, straight from the rows of the data set."""

    def __init__(self, experiment):
        self.model, config = experiment.model, experiment.config
        dataset = experiment.parts.train_dataset
        parts = [dataset.inter_feat, dataset.unrated]
        columns = {
            key: np.concatenate([part[key].numpy().astype(float) for part in parts])
            for key in ("user_id", "item_id", "timestamp", "review_row")
        }
        rating = np.concatenate([parts[0]["rating"].numpy(), np.full(len(parts[1]), np.nan)])
        self.frame = pd.DataFrame({**columns, "rating": rating})
        self.frame = self.frame.astype({"user_id": int, "item_id": int, "review_row": int})
        self.levels = sorted(set(rating[~np.isnan(rating)]))
        self.damping, self.shrinkage = config["bias_damping"], config["shrinkage"]
        ordered = np.sort(rating[~np.isnan(rating)])
        self.centre = ordered[(len(ordered) - 1) // 2]

    def mean(self, key: str, one: int) -> float:
        """Damped mean of a user's or an item's centred ratings."""
        ratings = self.frame.loc[self.frame[key] == one, "rating"].dropna() - self.centre
        return ratings.sum() / (len(ratings) + self.damping)

    def adjusted(self, row, other: str) -> float:
        """A rating minus what the other ratings of the item explain (``other`` is item_id), or of the user."""
        own = "user_id" if other == "item_id" else "item_id"
        same = self.frame[(self.frame[other] == getattr(row, other)) & self.frame["rating"].notna()]
        rest = [
            one.rating - self.centre - self.mean(own, getattr(one, own))
            for one in same.itertuples()
            if getattr(one, own) != getattr(row, own)
        ]
        return row.rating - self.centre - sum(rest) / (len(rest) + self.damping)

    def message(self, row, side: int) -> torch.Tensor:
        model = self.model
        store, d = model.attention.store, model.fuse.out_features
        text, rating, adjusted = torch.zeros(d), torch.zeros(d), 0.0
        if row.review_row >= 0:
            row_of_store = int(row.review_row)
            words = store.read(np.arange(store.offsets[row_of_store], store.offsets[row_of_store + 1]))
            z = model.attention.projection(words)
            text = torch.softmax(z @ model.attention.scorer.weight[0], 0) @ z
        if not np.isnan(row.rating):
            rating = model.projections["rating"](torch.tensor([float(row.rating == level) for level in self.levels]))
            other = ("item_id", "user_id")[side]
            adjusted = self.adjusted(row, other)
        message = model.fuse(torch.cat([text, rating]))
        return message + model.adjust[side].weight[:, 0] * adjusted

    def rows(self, side: int, entity: int, without: tuple[int, int] | None = None) -> list:
        """Interactions of a user (side 0) or an item (side 1), by time."""
        frame = self.frame[self.frame[("user_id", "item_id")[side]] == entity]
        frame = frame.sort_values(["timestamp", "user_id", "item_id"], kind="stable")
        return [row for row in frame.itertuples() if (row.user_id, row.item_id) != without]

    def deviation(self, side: int, rows: list) -> float:
        """Mean of the ratings among ``rows``, each minus the other side's mean, shrunken."""
        other = ("item_id", "user_id")[side]
        result = [self.adjusted(row, other) for row in rows if not np.isnan(row.rating)]
        return sum(result) / (len(result) + float(self.model.pseudo_counts[side].exp()))

    def habits(self, side: int, rows: list) -> list[float]:
        """Log shares of the levels but the highest in the ratings among ``rows``, shrunken, minus those of all ratings;
        of the lowest level the log odds."""
        if side:
            return []
        ratings, everyones = [row.rating for row in rows if not np.isnan(row.rating)], self.frame["rating"].dropna()
        pseudo_count, result = float(self.model.habit_count.exp()), []
        for level in self.levels[:-1]:
            share = float((everyones == level).mean())
            own = (ratings.count(float(level)) + pseudo_count * share) / (len(ratings) + pseudo_count)
            if result:
                result.append(np.log(own) - np.log(share))
            else:
                result.append(np.log(own / (1 - own)) - np.log(share / (1 - share)))
        return result

    def gru(self, side: int) -> torch.nn.GRU:
        return (self.model.user_refiner, self.model.item_refiner)[side].gru


@torch.no_grad()
def test_leave_one_out_states_from_scratch(shaken):
    experiment = shaken(refinement="leave_one_out", start="zero")
    model, literal = experiment.model, Literal(experiment)
    model._refresh()
    feat = experiment.parts.train_dataset.inter_feat
    for k in targets(experiment, 3):
        pair = (int(feat["user_id"][k]), int(feat["item_id"][k]))
        row = model.table.find(*(torch.tensor([one]) for one in pair))
        for side in (0, 1):
            for left_out, at in ((pair, row), (None, torch.tensor([-1]))):
                messages = [literal.message(other, side) for other in literal.rows(side, pair[side], left_out)]
                mean = torch.stack(messages).sum(0) / (len(messages) + literal.shrinkage)
                expected = gru_step(literal.gru(side), mean, torch.zeros(8))
                result = model._leave_one_out(torch.tensor([pair[side]]), at, side)
                torch.testing.assert_close(result.state[0], expected, atol=1e-5, rtol=1e-5)
                deviation = literal.deviation(side, literal.rows(side, pair[side], left_out))
                assert float(result.deviation) == pytest.approx(deviation, abs=1e-5)
                habits = literal.habits(side, literal.rows(side, pair[side], left_out))
                assert result.habits[0].tolist() == pytest.approx(habits, abs=1e-5)


@torch.no_grad()
def test_sequential_states_from_scratch(shaken):
    experiment = shaken(refinement="sequential", start="random", aspects=0)
    model, literal = experiment.model, Literal(experiment)
    model._refresh()
    for side, before, last, start in (
        (0, model._users_before, model._users, model.user_start),
        (1, model._items_before, model._items, model.item_start),
    ):
        for entity in (1, 7, 20):
            state = start.embedding.weight[entity]
            rows = literal.rows(side, entity)
            for k, row in enumerate(rows):
                index = model.table.find(torch.tensor(row.user_id), torch.tensor(row.item_id))
                torch.testing.assert_close(before.state[index], state, atol=1e-5, rtol=1e-5)
                assert float(before.deviation[index]) == pytest.approx(literal.deviation(side, rows[:k]), abs=1e-5)
                assert before.habits[index].tolist() == pytest.approx(literal.habits(side, rows[:k]), abs=1e-5)
                state = gru_step(literal.gru(side), literal.message(row, side), state)
            torch.testing.assert_close(last.state[entity], state, atol=1e-5, rtol=1e-5)
            assert float(last.deviation[entity]) == pytest.approx(literal.deviation(side, rows), abs=1e-5)
            assert last.habits[entity].tolist() == pytest.approx(literal.habits(side, rows), abs=1e-5)


@torch.no_grad()
def test_a_target_without_a_message_has_the_state_of_all_evidence(shaken):
    """With reviews as the only modality, a target without one is not in the table; both rules, in a training step."""
    for refinement in ("leave_one_out", "sequential"):
        experiment = shaken(refinement=refinement, modalities=["review"], message_samples=0, aspects=0)
        feat = experiment.parts.train_dataset.inter_feat
        silent = torch.nonzero(feat["review_row"] < 0).flatten()[:5]
        user, item = feat["user_id"][silent], feat["item_id"][silent]
        model = experiment.model
        assert (model.table.find(user, item) == -1).all()
        result = inputs_in_training(model, user, item)
        wanted = [*(part[user] for part in model._users), *(part[item] for part in model._items)]
        for one, other in zip(result, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_state_without_messages_stays_at_its_start():
    torch.manual_seed(0)
    refiner, start = StateRefiner(4, 1.0), torch.randn(3, 4)
    count = torch.tensor([[0.0], [2.0], [0.0]])
    state = refiner.from_sum(torch.randn(3, 4), count, start)
    assert torch.equal(state[[0, 2]], start[[0, 2]])
    assert not torch.equal(state[1], start[1])
    group = torch.tensor([2, 0, 2])
    before, last = refiner.in_order(torch.randn(3, 4), group, torch.tensor([5.0, 1.0, 4.0]), start)
    assert torch.equal(last[1], start[1])
    assert torch.equal(before[1], start[0])
    assert torch.equal(before[2], start[2])
    assert not torch.equal(before[0], start[2])


@torch.no_grad()
def test_start_of_the_mlp_equals_a_dense_computation(shaken):
    experiment = shaken(start="mlp")
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    ratings = torch.zeros(model.n_users, model.n_items)
    ratings[feat["user_id"], feat["item_id"]] = feat["rating"] / feat["rating"].max()
    for start, matrix in ((model.user_start, ratings), (model.item_start, ratings.T)):
        everyone = torch.arange(len(matrix))
        dense = start.from_hidden(torch.relu(matrix @ start.into_hidden.weight + start.hidden_bias))
        torch.testing.assert_close(start(everyone, torch.full_like(everyone, -1)), dense, atol=1e-5, rtol=1e-5)
    for k in targets(experiment, 5):
        user, item = feat["user_id"][k], feat["item_id"][k]
        row = model.table.find(user, item)[None]
        others = ratings.clone()
        others[user, item] = 0
        sides = ((model.user_start, others[user], user), (model.item_start, others[:, item], item))
        for start, vector, entity in sides:
            dense = start.from_hidden(torch.relu(vector @ start.into_hidden.weight + start.hidden_bias))
            torch.testing.assert_close(start(entity[None], row)[0], dense, atol=1e-5, rtol=1e-5)


# The gradient of the attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", (1000, 6))
def test_sampled_reviews_give_the_right_gradient_on_average(samples, shaken):
    """Corrections of the leave-one-out sums and their gradient, averaged over draws, against all reviews read again."""
    experiment = shaken(message_samples=samples)
    model = experiment.model
    table, attention = model.table, model.attention
    table.refresh(attention)
    with torch.no_grad():
        attention.scorer.weight *= 1.3
    feat = experiment.parts.train_dataset.inter_feat
    some = torch.tensor(targets(experiment, 12))
    row = table.find(feat["user_id"][some], feat["item_id"][some])
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(len(row), table.width, generator=generator) for _ in range(2)]

    def gradient(corrections):
        value = sum((one * weight).sum() for one, weight in zip(corrections, weights, strict=True))
        return torch.autograd.grad(value, attention.scorer.weight)[0][0], [one.detach() for one in corrections]

    exact = []
    for group in (table.user, table.item):
        sums = []
        for target in row.tolist():
            other = torch.nonzero((group == group[target]) & (table.review >= 0)).flatten()
            other = other[other != target]
            drift = (attention(table.review[other]) - table.pooled[other]).sum(0)
            full = torch.zeros(table.width).index_put((torch.arange(len(drift)),), drift)
            sums.append(full)
        exact.append(torch.stack(sums))
    assert table.review_columns.start == 0
    wanted, values = gradient(exact)
    torch.manual_seed(0)
    draws = [gradient(model.sampler.corrections(table, attention, row)) for _ in range(300)]
    gradients = torch.stack([one for one, _ in draws])
    error = (gradients.mean(0) - wanted) / (gradients.std(0) / len(draws) ** 0.5)
    assert error.abs().max() < 4.5
    assert wanted.abs().max() > 0
    if samples >= len(row):
        for side in (0, 1):
            drawn = torch.stack([value[side] for _, value in draws])
            spread = drawn.std(0) / len(draws) ** 0.5
            assert ((drawn.mean(0) - values[side]).abs() <= 5.5 * spread + 1e-5).all()


def test_the_attention_learns(make_experiment, tmp_path):
    experiment = make_experiment("DReX")
    before = experiment.model.attention.scoring_vector().detach().clone()
    fixed_epochs(experiment, tmp_path)
    assert (experiment.model.attention.scoring_vector() - before).abs().max() > 1e-4


# What is cached ----------------------------------------------------------------------------------------------------


def test_what_is_remembered_lasts_until_parameters_change(shaken, monkeypatch):
    """An epoch starts with what the evaluation before it made; a step of any optimiser or a checkpoint ends that."""
    experiment = shaken()
    model, feat = experiment.model, experiment.parts.train_dataset.inter_feat
    batch, refresh, refreshed = feat[torch.arange(60)], model._refresh, []
    monkeypatch.setattr(model, "_refresh", lambda: refreshed.append(1) or refresh())

    def evaluate() -> int:
        """Refreshes so far, after an evaluation that must equal that of a new model with these parameters."""
        model.eval()
        with torch.no_grad():
            torch.testing.assert_close(model.predict(batch), twin(experiment, feat).predict(batch))
        return len(refreshed)

    def epoch(optimizer=None) -> int:
        """Refreshes so far, after an epoch's first loss, or after two steps of the optimizer and one more loss."""
        model.train()
        for _ in range(0 if optimizer is None else 2):
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
        model.calculate_loss(batch)
        return len(refreshed)

    assert (evaluate(), evaluate(), epoch(), evaluate(), epoch()) == (1, 1, 1, 1, 1)
    for name in ("Adam", "SGD", "Adagrad", "RMSprop"):
        done, optimizer = len(refreshed), getattr(torch.optim, name)(model.parameters(), lr=0.01)
        assert (epoch(optimizer), evaluate(), epoch(), evaluate()) == (done, done + 1, done + 1, done + 1)
    # Two epochs without an evaluation between them.
    assert (epoch(optimizer), epoch(optimizer)) == (done + 1, done + 2)
    done = evaluate()
    state = {key: 1.1 * value for key, value in model.state_dict().items()}
    model.load_state_dict(state)  # and no call of eval() after it
    before = len(refreshed)
    loaded = model.predict(batch)
    assert (before, len(refreshed)) == (done, done + 1)
    torch.testing.assert_close(loaded, twin(experiment, feat).predict(batch))
    assert evaluate() == epoch()


# The presets of the paper ---------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_over_the_first_steps(make_experiment, tmp_path):
    """Also if a run is resumed before the first refresh."""

    def trainer(folder: str, epochs: int):
        experiment = make_experiment("DReX-paper", warmup_steps=30, epochs=epochs, stopping_step=9)
        return make_trainer(experiment.config, experiment.model, tmp_path / folder, experiment.parts)

    whole = trainer("whole", 8)
    steps = len(whole.parts.train)
    whole.train_model()
    assert 3 * steps < 30 < 8 * steps
    first = trainer("parts", 3)
    first.train_model()
    second = trainer("parts", 8)
    assert first.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 3 * steps / 30)
    assert second.resume()
    second.train_model()
    assert whole.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"] == 0.1
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key


@pytest.mark.parametrize("start", ("random", "mlp"))
@pytest.mark.parametrize("refinement", ("sequential", "leave_one_out"))
def test_the_penalty_of_the_paper_is_on_the_states_of_all(refinement, start, make_experiment):
    """Equation 8: lambda times the squared Frobenius norms of P and Q, whoever is in the batch."""
    options = {"refinement": refinement, "start": start, "message_samples": 0}
    experiment = make_experiment("DReX-paper", **options)
    model, batch = experiment.model.train(), next(iter(experiment.parts.train))[:5]
    losses = []
    for weight in (0.0, 0.5):
        model.reg_weight = weight
        losses.append(model.calculate_loss(batch))
    norms = [known.state[1:].square().sum() for known in (model._users, model._items)]
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * (norms[0] + norms[1]))
    others = set(range(1, model.n_users)) - set(batch["user_id"].tolist())
    if start == "random":
        (losses[1] - losses[0]).backward()
        assert all(model.user_start.embedding.weight.grad[user].abs().sum() > 0 for user in others)


def test_a_model_worse_than_the_mean_says_so(small, tmp_path, capfd):
    free = {"learning_rate": 1.0, "warmup_steps": 0, "clip_grad_norm": None}
    for more, given in ((free, True), ({"learning_rate": 0.01}, False)):
        parameters = {**SETTINGS, **FEW_EPOCHS, "epochs": 6, "explained_users": 0, **more}
        options = {"data_path": small.root, "output": tmp_path / str(given), "references": False}
        run(["DReX-paper"], NAME, parameters=parameters, **options)
        assert ("that of the mean training rating" in capfd.readouterr().err) == given


# Configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"modalities": ["review", "ratings"]}, "did you mean 'rating'"),
        ({"modalities": []}, "modalities"),
        ({"modalities": ["rating", "rating"]}, "each once"),
        ({"refinement": "leave_two_out"}, "did you mean 'leave_one_out'"),
        ({"start": "ones"}, "mlp, random, zero"),
        ({"refinement": "sequential"}, "aspects need refinement: leave_one_out"),
    ],
)
def test_illegal_values_are_named(parameters, message, make_experiment):
    with pytest.raises(ConfigError, match=message):
        make_experiment("DReX", **parameters)


@pytest.mark.parametrize("model", ("DReX", "DReX-MLP-paper"))
@pytest.mark.parametrize(("unrated_have_it", "keep_unrated"), [(True, True), (False, True), (True, False)])
def test_a_third_modality_needs_nothing_but_configuration(
    model, unrated_have_it, keep_unrated, small, make_experiment, tmp_path
):
    def change(frame):
        rng = np.random.default_rng(0)
        vectors = [" ".join(f"{x:.3f}" for x in rng.normal(size=3)) for _ in range(len(frame))]
        there = (rng.random(len(frame)) < 0.7) & (unrated_have_it | frame["rating:float"].notna())
        frame["image:float_seq"] = np.where(there, vectors, "")
        return frame

    root = copy_of(small.root, tmp_path / "data", change)
    options = {
        "data_path": str(root),
        "keep_unrated": keep_unrated,
        "modalities": ["review", "rating", "image"],
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp", "review_row", "image"]},
    }
    experiment = make_experiment(model, **options)
    modality = experiment.model.table.modalities[2]
    assert (modality.name, modality.width) == ("image", 3)
    vector, present = modality.split(experiment.model.table.rows_at(slice(None)))
    assert 0.5 < present.mean() < 0.8
    assert (vector[present[:, 0] == 0] == 0).all()
    fixed_epochs(experiment, tmp_path / "run", epochs=1)
    full = every_pair(experiment)
    np.testing.assert_allclose(full, pair_by_pair(experiment), atol=1e-5)
    two = fixed_epochs(make_experiment(model, keep_unrated=keep_unrated), tmp_path / "run2", epochs=1)
    assert not np.allclose(full, every_pair(two))
