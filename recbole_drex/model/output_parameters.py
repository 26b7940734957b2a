"""Parameters of the output and the loss of rating models."""

from __future__ import annotations

from recbole_drex.config.parameters import Parameter

OUTPUTS = ("point", "ordinal")
TARGETS = ("rating", "implicit")
LOSSES = ("mse", "huber", "l1")
WEIGHTS = ("equal", "rating", "gain")
OUTPUT = (
    Parameter("output", str, "point", "A rating, or a distribution over the rating levels.", choices=OUTPUTS),
    Parameter("loss", str, "mse", "Loss of point output.", choices=LOSSES),
    Parameter(
        "threshold_reg_weight", float, 0.01,
        "lambda_t of ordinal output: L2 on the users' offsets of the thresholds.", least=0,
    ),
    Parameter("threshold_rate", float, 5.0, "How much faster these offsets learn than other parameters.", least=0),
)  # fmt: skip
