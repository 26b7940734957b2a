"""The parameters of DReX and its presets."""

from __future__ import annotations

from recbole_drex.config.general_parameters import RATING_TRAINING, ablations_parameter, general
from recbole_drex.config.parameters import Parameter, names_once, with_defaults
from recbole_drex.model.output_parameters import OUTPUT, TARGETS, WEIGHTS

DREX_PARAMETERS = (
    Parameter("embedding_size", int, 64, "d: width of messages and states.", least=1),
    Parameter(
        "modalities", list, ["review", "rating"],
        "What a message is made of; further names are item modalities or float_seq fields of the .inter file.",
        accepts=names_once, legal="a list of one name or more, each once",
    ),
    Parameter(
        "refinement", str, "leave_one_out",
        "leave_one_out: one GRU step with the mean of the other messages; sequential: one GRU step per interaction, in "
        "time order.",
        choices=("leave_one_out", "sequential"),
    ),
    Parameter(
        "start", str, "zero",
        "State before any message: zero, random (learned per user and item) or mlp (made from the rating vector).",
        choices=("zero", "random", "mlp"),
    ),
    Parameter(
        "use_bias", bool, True,
        "Add the global mean and the shrunken means of the user's and the item's other ratings.",
    ),
    Parameter(
        "bias_damping", float, 5.0, "Pseudo-count of the means that use_bias and adjust_rating subtract.", least=0
    ),
    Parameter("adjust_rating", bool, True, "Messages also carry the rating minus the other side's mean."),
    Parameter("use_mlp", bool, True, "The score is an MLP of the states of user and item."),
    Parameter("use_bilinear", bool, True, "Add h_u' B h_i to the MLP's output, with a learned matrix B."),
    Parameter(
        "factor_size", int, 0,
        "Width of free vectors of users and items whose product p_u' q_i is added to the score; 0 for none.", least=0,
    ),
    Parameter(
        "aspects", int, 32,
        "Number of aspects that are learned from reviews and added to the score; 0 for none. They need the "
        "leave-one-out rule.",
        least=0,
    ),
    Parameter("aspect_rate", float, 10.0, "How much faster aspects learn than other parameters.", least=0),
    Parameter(
        "taste", list, ["encoder", "words"],
        "Item text for the users' tastes: encoder (mean word vectors), words (tf-idf, decomposed), both, or none.",
        choices=("encoder", "words"),
    ),
    Parameter("taste_size", int, 128, "Directions kept, in which item texts differ most.", least=1),
    Parameter(
        "taste_weight", float, 0.15,
        "w: how far a taste may go; the penalty of its regression is 1 / w.", least=0,
    ),
    Parameter(
        "source", str, None,
        "Another prepared data set with the same encoder, whose training part is learned from first: attention over "
        "words and aspects start from there.",
    ),
    Parameter("source_epochs", int, 20, "Epochs on the source, without validation.", least=1),
    Parameter(
        "item_content", (str, list), "auto",
        "Item modalities from which the evidence about new items is predicted; auto: text and image, where the data "
        "have them, if the split holds items out (cold_items).",
        accepts=lambda names: names in ("auto", []) or (isinstance(names, list) and names_once(names)),
        legal="auto or a list of names, each once",
    ),
    Parameter(
        "shrinkage", float, 5.0, "c in sum / (count + c): few messages give a state nearer to the start.", least=0
    ),
    Parameter(
        "message_samples", int, 256,
        "Targets per step whose user's and item's reviews teach the attention.", least=0,
    ),
    Parameter("dropout", float, 0.2, "Dropout on what is scored: the MLP's input, or the states.", least=0, most=1),
    Parameter("reg_weight", float, 0.0001, "lambda: weight of the squared norms of states.", least=0),
    Parameter(
        "reg_states", str, "targets",
        "Whose states lambda weighs: targets (mean over the targets of a step) or all (sums over P and Q).",
        choices=("targets", "all"),
    ),
    Parameter(
        "train_target", str, "rating", "implicit ranks interactions before sampled items; see DReX-implicit.",
        choices=TARGETS,
    ),
    Parameter(
        "target_weight", str, "gain",
        "What an interaction counts in the loss of ranking: equal, rating, or gain (2^rating - 1).",
        choices=WEIGHTS,
    ),
    *with_defaults(OUTPUT, output="ordinal"),
    general("learning_rate", 0.002),
    general("weight_decay", 0.00001),
    *RATING_TRAINING,
    ablations_parameter(
        [{"use_bilinear": False}, {"use_bias": False}, {"adjust_rating": False}, {"aspects": 0}, {"taste": []}],
        "modalities",
    ),
)  # fmt: skip
