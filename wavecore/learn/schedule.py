"""What happens at which step, as pure functions of the settings, the seed and the step."""

from __future__ import annotations

import math

import numpy as np

from wavecore.config import TrainSettings
from wavecore.seeds import generator


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step, counted from 0.

    `warmup_steps` = W rises linearly, (step + 1) / W. After it `constant` stays, `cosine` falls to zero at `steps`,
    ½ (1 + cos π (step - W) / (steps - W)); `halving` halves at every multiple of `halve_every`.
    """
    rate = settings.learning_rate
    if settings.schedule == "halving":
        rate *= 0.5 ** (step // settings.halve_every)
    if step < settings.warmup_steps:
        return rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "cosine":
        # A run that is all warm-up has no step after it.
        share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return rate


class WindowOrder:
    """Which windows each step sees: epoch after epoch, each a permutation of its own.

    The epochs are joined to one long row and cut into batches, so every batch is full and every window is seen equally
    often. A step's batch depends on the seed and the step alone.

    Args:
        origins: [M] of the train windows, at least one.
        batch: windows per step; never more than M.
        seed: of the run.
    """

    def __init__(self, origins: np.ndarray, batch: int, seed: int) -> None:
        self.origins = origins
        self.batch = min(batch, len(origins))
        self.seed = seed
        self._epoch = -1
        self._order = origins

    def epoch(self, number: int) -> np.ndarray:
        """[M] origins in the order of one epoch."""
        if number != self._epoch:
            self._order = self.origins[generator(self.seed, "epoch", number).permutation(len(self.origins))]
            self._epoch = number
        return self._order

    def at(self, step: int) -> np.ndarray:
        """[batch] origins of a step, counted from 0."""
        number, start = divmod(step * self.batch, len(self.origins))
        chosen = self.epoch(number)[start : start + self.batch]
        if len(chosen) < self.batch:
            chosen = np.concatenate([chosen, self.epoch(number + 1)[: self.batch - len(chosen)]])
        return chosen


def validation_subset(origins: np.ndarray, count: int) -> np.ndarray:
    """The windows scored at every validation: all where `count` is 0 or large, else a fixed draw in time order.

    The draw is the same for every seed and stage, so that their curves can be compared.
    """
    if count == 0 or count >= len(origins):
        return origins
    return np.sort(generator(0, "validation").choice(origins, size=count, replace=False))
