"""The progress of a search on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from ray.tune import Callback
from tqdm import tqdm

from recbole_drex.utils.progress import WITHOUT_REST


class Progress(Callback):
    """A progress bar of ended trials with the best score so far.

    Args:
        model: name of the model.
        metric: name of the score.
        number: of trials.
        mode: ``min`` or ``max``.
    """

    def __init__(self, model: str, metric: str, number: int, mode: str):
        self.metric, self.better = metric, max if mode == "max" else min
        self.best: float | None = None
        options: dict[str, Any] = {"unit": "trial", "bar_format": WITHOUT_REST, "file": sys.stderr}
        self.bar: tqdm | None = tqdm(total=number, desc=f"tune {model}", **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "bar": None}  # Ray stores its callbacks; a bar belongs to its terminal

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        score = (trial.last_result or {}).get("score")
        if score is not None:
            self.best = score if self.best is None else self.better(self.best, score)
        self._count()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.num_failures > 1:  # the first failure is tried again
            self._count()

    def _count(self) -> None:
        if self.bar is not None:
            if self.best is not None:
                self.bar.set_postfix_str(f"best {self.metric} {self.best:.4f}")
            self.bar.update()

    def close(self) -> None:
        """Do not change the bar."""
        if self.bar is not None:
            self.bar.close()
