"""`wavecore plan`: what a matrix would do, and how many steps of training fit into some minutes. Trains nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assets.project import Project
from pipelines.dvc import dirty
from pipelines.steps import steps_of
from wavecore import stages
from wavecore.errors import StorageError

if TYPE_CHECKING:
    from assets.training import Ground


@dataclass(frozen=True)
class Estimate:
    """The cost of one benchmark × stage on this machine, per seed.

    Attributes:
        step_seconds, test_seconds: measured: an optimizer step; a pass over the test windows (scaled up).
        steps: as params.yaml sets them.
        minutes: training with all its validations, and the test, if nothing stops early.
        steps_that_fit: of training with its validations, into the minutes asked about; the test comes on top, since a
            forecaster may well take longer to judge than it is given to learn. None if not asked.
    """

    benchmark: str
    stage: str
    step_seconds: float
    test_seconds: float
    steps: int
    minutes: float
    steps_that_fit: int | None


def ground_of(project: Project, benchmark: str) -> Ground:
    """A benchmark's series and splits, for a command that makes neither.

    Raises:
        StorageError: they are not made yet; the fix is the shortest run that makes them.
    """
    from assets.training import Ground

    try:
        return Ground.load(project, benchmark)
    except StorageError as error:
        raise StorageError(error.problem, f"wavecore run --benchmark {benchmark} --stage seasonal_naive") from error


def estimate(project: Project, benchmark: str, stage: str, minutes: float | None) -> Estimate:
    """Measure a few real steps and one batch of windows.

    Raises:
        StorageError: the benchmark's series and splits are not made yet.
    """
    from wavecore.judge.robustness import DISTURBANCES
    from wavecore.learn.estimate import estimate_seconds
    from wavecore.model.build import build
    from wavecore.model.regression import Regression
    from wavecore.series.splits import origins

    chosen = stages.get(stage)
    ground = ground_of(project, benchmark)
    settings = ground.train_settings(chosen)
    module = build(chosen, ground.geometry_of(chosen), ground.settings, benchmark, seed=0)
    linear = getattr(module, "linear", None)
    if isinstance(linear, Regression):  # not found yet, and zeros take as long as what will be
        linear.become(linear.weight, linear.bias)
    found = estimate_seconds(module, ground.windows, ground.borders, settings)
    windows = len(origins(ground.borders, "test", ground.benchmark.window, ground.benchmark.horizon))
    every = ground.settings.judge.robust_every
    # Some are forecast again as they are, and once for each disturbance.
    windows += math.ceil(windows / every) * (1 + len(DISTURBANCES)) if every else 0
    test = windows * found.eval_window
    training = found.training(settings)
    fit = None if minutes is None else found.steps_in(minutes * 60, settings)
    steps = settings.steps if chosen.trained else 0
    return Estimate(benchmark, stage, found.step, test, steps, (training + test) / 60, fit if chosen.trained else None)


def pending(project: Project, benchmarks: tuple[str, ...], chosen: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """asset, partition and `to do`, `if changed` (something that it reads will be made anew) or `up to date`."""
    steps = steps_of(project, benchmarks, chosen)
    stale = dirty(project, steps)
    remade: set[str] = set()
    found = []
    for step in steps:
        state = "to do" if step.name in stale else "if changed" if remade & set(step.deps) else "up to date"
        if state != "up to date":
            remade |= set(step.outs)
        found.append((step.asset, step.key, state))
    return found
