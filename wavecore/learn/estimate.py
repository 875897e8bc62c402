"""How long a run will take, from a few real steps. The only place in wavecore where a clock is read."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import nn

from wavecore.config import TrainSettings
from wavecore.learn.calibrate import most_windows
from wavecore.learn.checkpoint import trainable
from wavecore.learn.curriculum import Loss
from wavecore.learn.device import accelerator, place_of, threads
from wavecore.learn.forecast import device_of
from wavecore.learn.loop import evaluate, gradients, optimizer_of, update
from wavecore.learn.schedule import WindowOrder, validation_subset
from wavecore.model.groups import declared
from wavecore.seeds import derive, isolated
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData


class Estimate(NamedTuple):
    """Measured seconds.

    Attributes:
        step: per optimizer step; 0 where nothing is learned.
        eval_window: per window forecast.
        validation_windows: windows scored at each validation of this run.
        calibration_windows: windows forecast after training, while a token budget's sizes are chosen, at most.
            (A regression to average with is not counted: seconds at a window of 512.)
        watched_windows: scored at each look of a curriculum.
    """

    step: float
    eval_window: float
    validation_windows: int
    calibration_windows: int = 0
    watched_windows: int = 0

    def training(self, settings: TrainSettings) -> float:
        """Seconds for all steps and validations, none of them saved by early stopping, and the choice of a budget."""
        if not self.step:
            return 0.0
        validations = -(-settings.steps // settings.eval_every)
        looks = settings.steps // settings.wavelet_loss.every(settings.steps)
        windows = validations * self.validation_windows + self.calibration_windows + looks * self.watched_windows
        return settings.steps * self.step + windows * self.eval_window

    def steps_in(self, seconds: float, settings: TrainSettings) -> int:
        """Steps, with their validations, that fit into `seconds`; 0 where nothing is learned."""
        if not self.step:
            return 0
        looked_at = self.watched_windows / settings.wavelet_loss.every(settings.steps)
        each = self.step + (self.validation_windows / settings.eval_every + looked_at) * self.eval_window
        return max(0, int((seconds - self.calibration_windows * self.eval_window) / each))


def estimate_seconds(
    model: nn.Module, data: WindowData, borders: Borders, settings: TrainSettings, steps: int | None = None
) -> Estimate:
    """Time a few real steps and one batch of validation on a copy of the model.

    The model itself is left as it was. Frozen weights are shared with the copy where they need not be moved.

    Args:
        steps: timed ones, after one that is not timed (the first does what later ones need not). By default 3, of which
            the median counts; with a token budget, whose steps differ in size, 15, of which the mean counts.
    """
    varied = getattr(model, "budget", None) is not None
    steps = steps or (15 if varied else 3)
    place = place_of(settings)
    frozen: dict[int, Any] = {id(p): p for p in model.parameters() if not p.requires_grad}
    probe = copy.deepcopy(model, frozen if device_of(model).type == place.device else None)
    device = torch.device(place.device)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with threads(settings.threads), isolated(device), accelerator(place) as engine:
        probe.to(engine.device)
        placed = data.to(engine.device)
        step_seconds = 0.0
        if trainable(probe):
            optimizer = optimizer_of(declared(probe), settings)
            order = WindowOrder(origins(borders, "train", data.window, data.horizon), settings.batch_windows, seed=0)
            loss = Loss(settings, data.horizon).to(engine.device)
            taken = []
            probe.train()
            for step in range(steps + 1):
                start = now()
                optimizer.zero_grad()
                gradients(probe, placed.batch(order.at(step)), engine, loss, derive(0, "noise", step))
                update(optimizer, engine, settings, settings.learning_rate)
                taken.append(now() - start)
            step_seconds = (statistics.mean if varied else statistics.median)(taken[1:])
        every = origins(borders, "select", data.window, data.horizon)
        select = validation_subset(every, settings.eval_windows)
        chosen = select[: settings.batch_windows]
        evaluate(probe, placed, chosen, engine, settings)
        start = now()
        evaluate(probe, placed, chosen, engine, settings)
        window_seconds = (now() - start) / len(chosen)
        choice = most_windows(probe, placed, borders) if varied else 0
    curriculum = settings.wavelet_loss
    moving = curriculum.enabled and curriculum.curriculum == "improving"
    watched = len(validation_subset(every, curriculum.windows)) if moving else 0
    return Estimate(step_seconds, window_seconds, len(select), choice, watched)
