"""The contract of every model: those of the project and some of RecBole's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from altered import NAME, copy_of, pairs, rows_of, scramble_words
from scored import every_pair, fixed_epochs, pair_by_pair

from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import DataError
from recbole_drex.evaluation.metrics import predicts_ratings
from recbole_drex.registry import PRESETS, own_models
from recbole_drex.training.trainer import load_model_state
from recbole_drex.utils import checkpoint

RECBOLE = ("BPR", "LightGCN", "EASE", "ItemKNN", "DMF", "Pop")
OURS = tuple(own_models())
RATING_MODELS = tuple(name for name in OURS if predicts_ratings(Config(name, NAME)))  # the others give scores
DREX = tuple(name for name in OURS if PRESETS.get(name, name) == "DReX")
MULTIMODAL = ("LIRDRec", "VBPR")  # know items by vectors, and of an interaction that it is there, not its rating
REVIEW_BASED = ("DAML", "DeepCoNN", "HFT", "HRDR", "NARRE", "PEPLER", "PESI", "PETER")
TEXT = (*DREX, *REVIEW_BASED, *MULTIMODAL)
NEED_REVIEWS = {
    **dict.fromkeys(MULTIMODAL, "no item of data set 'small' has the modality 'reviews'"),
    **dict.fromkeys(REVIEW_BASED, "needs reviews.* use DReX, which then reads ratings only"),
}
RATING, REVIEW = "rating:float", "review_row:float"

LEARNS = {"DReX-MLP-paper": {"learning_rate": 0.01}}  # at the paper's 0.1 it does not on so little data

every_model = pytest.mark.parametrize("name", OURS + RECBOLE)
every_drex = pytest.mark.parametrize("name", DREX)


@pytest.fixture(scope="module")
def trained(make_experiment, tmp_path_factory):
    """``trained(name)``: the model after two epochs, made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = fixed_epochs(make_experiment(name), tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.mark.parametrize("name", RATING_MODELS)
def test_rating_models_beat_the_mean(name, make_experiment, train):
    experiment = make_experiment(name, epochs=15, stopping_step=15, valid_metric="rmse", **LEARNS.get(name, {}))
    metrics = train(experiment).evaluate_part(experiment.parts.valid).metrics
    mean = experiment.parts.train_dataset.inter_feat["rating"].double().mean()
    valid = experiment.parts.valid.rows._dataset.inter_feat["rating"].double()
    rmse_of_mean = float((valid - mean).square().mean().sqrt())
    if name == "GlobalMean":
        assert metrics["rmse"] == pytest.approx(rmse_of_mean, abs=1e-6)
    else:
        assert metrics["rmse"] < rmse_of_mean


@every_model
def test_predictions_are_finite_and_full_sort_agrees_with_predict(name, trained):
    experiment = trained(name)
    full, single = every_pair(experiment), pair_by_pair(experiment)
    assert np.isfinite(full).all()
    if name == "DMF":  # gives probabilities in predict and the logits before them in full_sort_predict
        full = 1 / (1 + np.exp(-full)) if (full < 0).any() or (full > 1).any() else full
    np.testing.assert_allclose(full, single, atol=1e-5)


@every_model
def test_a_saved_model_predicts_the_same(name, trained, make_experiment, tmp_path):
    experiment = trained(name)
    model = experiment.model
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"state_dict": dict(model.state_dict()), "other_parameter": model.other_parameter()})
    fresh = make_experiment(name)
    load_model_state(fresh.model, checkpoint.load(path), tmp_path)
    fresh.model.eval()
    np.testing.assert_array_equal(every_pair(fresh), every_pair(experiment))
    np.testing.assert_array_equal(pair_by_pair(fresh), pair_by_pair(experiment))


@every_model
def test_a_seed_decides_everything(name, trained, make_experiment, tmp_path):
    experiment = make_experiment(name)
    untrained = make_experiment(name)
    for (key, one), (_, other) in zip(
        experiment.model.state_dict().items(), untrained.model.state_dict().items(), strict=True
    ):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), key
    again = fixed_epochs(experiment, tmp_path)
    np.testing.assert_array_equal(every_pair(again), every_pair(trained(name)))


@pytest.mark.parametrize("name", ("DReX", "DReX-paper", "BiasedMF", "BPR"))
def test_another_seed_splits_and_starts_otherwise(name, make_experiment):
    one, other = make_experiment(name), make_experiment(name, seed=7)
    assert pairs(one, "test") != pairs(other, "test")
    assert not np.array_equal(every_pair(one), every_pair(other))


# The leak rule -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy(small, make_experiment, tmp_path_factory):
    """The data set with noise for the ratings, the review rows and the words of all validation and test rows."""
    held_out = pairs(make_experiment("GlobalMean"), "valid", "test")

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(1)
        mask = rows_of(frame, held_out)
        assert mask.sum() > 200
        reviewed = frame.loc[mask, REVIEW].to_numpy()
        change.own = reviewed[~np.isnan(reviewed)].astype(int)
        frame.loc[mask, RATING] = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], mask.sum())
        frame.loc[mask, REVIEW] = np.where(rng.random(mask.sum()) < 0.3, np.nan, rng.permutation(reviewed))
        return frame

    root = copy_of(small.root, tmp_path_factory.mktemp("canary") / "data", change, texts=True)
    scramble_words(root, change.own)
    return root


@every_model
def test_canary(name, trained, noisy, make_experiment, tmp_path):
    """Validation and test rows reach no model: with noise for their ratings and reviews, every bit is the same."""
    honest = trained(name)
    experiment = make_experiment(name, data_path=str(noisy))
    assert pairs(experiment, "train") == pairs(honest, "train")
    assert pairs(experiment, "test") == pairs(honest, "test")
    ratings = [e.parts.test.rows._dataset.inter_feat["rating"] for e in (honest, experiment)]
    assert not torch.equal(*ratings)
    fixed_epochs(experiment, tmp_path)
    np.testing.assert_array_equal(every_pair(experiment), every_pair(honest))
    np.testing.assert_array_equal(pair_by_pair(experiment), pair_by_pair(honest))


@pytest.mark.parametrize(("refinement", "aspects"), [("leave_one_out", 0), ("leave_one_out", 7), ("sequential", 0)])
@pytest.mark.parametrize("start", ("zero", "random", "mlp"))
def test_canary_of_every_rule(refinement, aspects, start, noisy, small, make_experiment, tmp_path):
    options = {"refinement": refinement, "aspects": aspects, "start": start, "embedding_size": 8}
    predictions = []
    for root in (small.root, noisy):
        experiment = make_experiment("DReX", data_path=str(root), **options)
        predictions.append(every_pair(fixed_epochs(experiment, tmp_path / root.name, epochs=1)))
    np.testing.assert_array_equal(*predictions)


@pytest.fixture(scope="module")
def other_reviews(small, trained, tmp_path_factory):
    """The data set with the reviews of training rows permuted."""

    def change(frame):
        mask = rows_of(frame, pairs(trained("GlobalMean"), "train"))
        frame.loc[mask, REVIEW] = np.random.default_rng(2).permutation(frame.loc[mask, REVIEW].to_numpy())
        return frame

    return copy_of(small.root, tmp_path_factory.mktemp("reviews") / "data", change, texts=True)


@pytest.fixture(scope="module")
def other_ratings(small, trained, tmp_path_factory):
    """The data set with the ratings of training rows in reverse order."""

    def change(frame):
        mask = rows_of(frame, pairs(trained("GlobalMean"), "train"))
        frame.loc[mask, RATING] = 6.0 - frame.loc[mask, RATING]
        return frame

    return copy_of(small.root, tmp_path_factory.mktemp("ratings") / "data", change, texts=True)


@every_model
def test_training_reviews_matter_to_text_models_only(name, trained, other_reviews, make_experiment, tmp_path):
    changed = fixed_epochs(make_experiment(name, data_path=str(other_reviews)), tmp_path)
    same = np.array_equal(every_pair(changed), every_pair(trained(name)))
    assert same == (name not in TEXT)


@pytest.mark.parametrize("name", OURS)
def test_training_ratings_matter(name, trained, other_ratings, make_experiment, tmp_path):
    changed = fixed_epochs(make_experiment(name, data_path=str(other_ratings)), tmp_path)
    different = (every_pair(changed) != every_pair(trained(name))).mean()
    assert different == 0 if name in MULTIMODAL else different > 0.9


# Missing modalities, unseen users and items -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviewless(small, tmp_path_factory):
    return copy_of(
        small.root, tmp_path_factory.mktemp("none") / "data", lambda f: f.assign(**{REVIEW: np.nan}), texts=True
    )


@pytest.fixture(scope="module")
def half_reviewed(small, tmp_path_factory):
    def change(frame):
        frame.loc[np.random.default_rng(3).random(len(frame)) < 0.5, REVIEW] = np.nan
        return frame

    return copy_of(small.root, tmp_path_factory.mktemp("half") / "data", change, texts=True)


@every_model
@pytest.mark.parametrize("missing", ("reviewless", "half_reviewed"))
def test_missing_reviews(name, missing, request, make_experiment, tmp_path):
    options = {"data_path": str(request.getfixturevalue(missing))}
    if name in NEED_REVIEWS and missing == "reviewless":
        with pytest.raises(DataError, match=NEED_REVIEWS[name]):
            make_experiment(name, **options)
        return
    experiment = make_experiment(name, **options)
    if name in DREX:
        notes = [f"{name} reads ratings only: no review of the training part has words"]
        assert experiment.model.notes == (notes if missing == "reviewless" else [])
    assert np.isfinite(every_pair(fixed_epochs(experiment, tmp_path, epochs=1))).all()


@every_drex
@pytest.mark.parametrize("keep_unrated", (True, False))
def test_rows_without_a_rating(name, keep_unrated, make_experiment, tmp_path):
    experiment = make_experiment(name, keep_unrated=keep_unrated)
    assert (len(experiment.dataset.unrated) > 50) == keep_unrated
    unrated_rows = int((~experiment.model.table.rated).sum())
    assert unrated_rows == len(experiment.dataset.unrated)
    assert np.isfinite(every_pair(fixed_epochs(experiment, tmp_path, epochs=1))).all()


@every_drex
@pytest.mark.parametrize("modality", ("review", "rating"))
@pytest.mark.parametrize("missing", ("small", "half_reviewed"))
def test_a_single_modality(name, modality, missing, request, small, make_experiment, tmp_path):
    root = small.root if missing == "small" else request.getfixturevalue(missing)
    experiment = make_experiment(name, modalities=[modality], data_path=str(root))
    fixed_epochs(experiment, tmp_path, epochs=1)
    full = every_pair(experiment)
    assert np.isfinite(full).all()
    np.testing.assert_allclose(full, pair_by_pair(experiment), atol=1e-5)


def test_no_evidence_at_all(reviewless, make_experiment):
    with pytest.raises(DataError, match=r"any of the modalities \['review'\]"):
        make_experiment("DReX", modalities=["review"], data_path=str(reviewless))


@every_drex
def test_a_data_set_without_reviews_trains_on_ratings_alone(name, small, make_experiment, tmp_path):
    """As if they were the only modality, to the bit."""
    root = copy_of(small.root, tmp_path / "data", lambda f: f[[c for c in f if not c.startswith("review")]])
    (root / "small" / "features").unlink()
    options = {"data_path": str(root), "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    experiment = make_experiment(name, **options)
    full = every_pair(fixed_epochs(experiment, tmp_path / "run", epochs=1))
    assert np.isfinite(full).all()
    output = make_experiment(name, modalities=["rating"], **options)
    np.testing.assert_array_equal(full, every_pair(fixed_epochs(output, tmp_path / "output", epochs=1)))


def test_lost_word_features_are_no_lack_of_reviews(small, make_experiment, tmp_path):
    root = copy_of(small.root, tmp_path / "data", lambda frame: frame)
    (root / "small" / "features").unlink()
    for name in ("DReX", "NARRE"):
        with pytest.raises(DataError, match="no word features"):
            make_experiment(name, data_path=str(root))


@every_model
def test_users_and_items_unseen_in_training(name, small, make_experiment, tmp_path):
    """The latest rows of all make the test part, and hold a new user, a new item, and both together."""

    def change(frame):
        late = frame["timestamp:float"].max() + np.arange(1, 4)
        new = pd.DataFrame(
            {
                "user_id:token": ["newcomer", frame["user_id:token"].iloc[0], "newcomer"],
                "item_id:token": [frame["item_id:token"].iloc[0], "novelty", "novelty"],
                RATING: [5.0, 1.0, 4.0],
                "timestamp:float": late,
                REVIEW: [0.0, np.nan, 1.0],
            }
        )
        return pd.concat([frame, new], ignore_index=True)

    root = copy_of(small.root, tmp_path / "data", change, texts=True)
    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "order": "TO", "mode": "full"}
    experiment = make_experiment(name, data_path=str(root), eval_args=eval_args)
    assert {("newcomer", "novelty")} <= pairs(experiment, "test")
    seen = pairs(experiment, "train")
    assert "newcomer" not in {user for user, _ in seen} and "novelty" not in {item for _, item in seen}
    fixed_epochs(experiment, tmp_path / "run", epochs=1)
    assert np.isfinite(every_pair(experiment)).all()
    assert np.isfinite(pair_by_pair(experiment)).all()
