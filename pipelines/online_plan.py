"""`wavecore stream --dry-run`: how long the streams take on this machine, from some of their rows. Nothing is kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from assets.project import Project, seed_folder
from pipelines.plan import ground_of
from wavecore import stages as ladder

if TYPE_CHECKING:
    from torch import nn

    from assets.training import Ground
    from wavecore.stream.settings import OnlineSettings

# Timed, once labels come.
ROWS = 48


def plan_rows(project: Project, benchmark: str, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row per stage and learner: milliseconds of a row, rows that are pushed for one seed, those of the search for a
    rate included, seeds that are left, and the minutes of all of them. Training comes on top (`wavecore plan`).

    Raises:
        StorageError: the benchmark's series and splits are not made yet.
    """
    from assets.online import settings_of
    from wavecore.learn.device import threads
    from wavecore.model.build import build
    from wavecore.model.regression import Regression
    from wavecore.series.splits import origins
    from wavecore.stream.run import learners_in
    from wavecore.stream.search import SEARCHED
    from wavecore.stream.session import Shape

    ground = ground_of(project, benchmark)
    shape = Shape(ground.benchmark.window, ground.benchmark.horizon, ground.arrays.channels)
    test, decide = (len(origins(ground.borders, split, shape.window, shape.horizon)) for split in ("test", "decide"))
    found = []
    for stage in stages:
        chosen, online = ladder.get(stage), settings_of(ground, stage)
        model = build(chosen, ground.geometry_of(chosen), ground.settings, benchmark, seed=0)
        linear = getattr(model, "linear", None)
        if isinstance(linear, Regression):  # not found yet, and zeros take as long as what will be
            linear.become(linear.weight, linear.bias)
        left = _seeds_left(project, ground, stage)
        for learner in learners_in(model, online, shape, test):
            rates = len(online.search) if learner in SEARCHED else 0
            with threads(ground.settings.train.threads):
                seconds = _seconds(learner, model, ground, online, shape)
            rows = test + rates * decide
            found.append(
                {
                    "benchmark": benchmark, "stage": stage, "learner": learner, "ms": round(1000 * seconds, 2),
                    "rows": rows, "seeds": len(left), "minutes": round(seconds * rows * len(left) / 60, 1),
                }
            )  # fmt: skip
    return found


def _seconds(name: str, model: nn.Module, ground: Ground, online: OnlineSettings, shape: Any) -> float:
    """Of a row of the stream, once labels come."""
    from wavecore.series.splits import origins
    from wavecore.stream.fourier import warm_labels
    from wavecore.stream.matrix import learner_of
    from wavecore.stream.session import Session

    first = int(origins(ground.borders, "test", shape.window, shape.horizon)[0]) - shape.window
    session = Session(learner_of(name, model, shape, online, 0), shape, online, first)
    warm = shape.window + shape.horizon + online.delay.steps + online.every
    warm += warm_labels(shape.window) if name == "elf" else 0
    values = ground.windows.values[first : first + warm + ROWS]
    timed = min(ROWS, len(values))
    for row in values[:-timed]:
        session.push(row)
    began = time.perf_counter()
    for row in values[-timed:]:
        session.push(row)
    return (time.perf_counter() - began) / timed


def _seeds_left(project: Project, ground: Ground, stage: str) -> list[int]:
    """Seeds whose stream a run would make: those that no present model, settings, data and code gave."""
    from assets.online import due_of, stands
    from assets.standing import made_now
    from assets.training import wanted_seeds

    benchmark, chosen = ground.benchmark.name, ladder.get(stage)
    models, folders = (
        project.models(benchmark, stage),
        (project.online_results(benchmark, stage), project.online(benchmark, stage)),
    )

    def done(seed: int) -> bool:
        model, (results, beside) = seed_folder(models, seed), (seed_folder(folder, seed) for folder in folders)
        if not (model / "manifest.json").is_file() or not made_now(project, ground, chosen, seed, model):
            return False
        return stands(project, results, beside, due_of(project, ground, stage, model))

    return [seed for seed in wanted_seeds(ground.settings, benchmark, chosen) if not done(seed)]
