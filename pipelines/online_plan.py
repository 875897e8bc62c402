"""`wavecore stream --dry-run`: how long the streams take on this machine, from some of their rows. Nothing is kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from assets.project import Project, seed_folder
from pipelines.plan import ground_of
from wavecore import stages as ladder

if TYPE_CHECKING:
    from torch import nn

    from assets.training import Ground
    from wavecore.stream.session import Shape
    from wavecore.stream.settings import OnlineSettings

# Timed, once labels come as often as they will.
ROWS = 48
# A drawn delay is longer than so many means once in fifty times.
MEANS = 4


class Planned(NamedTuple):
    """The streams of one stage and learner.

    Attributes:
        ms: of a row, milliseconds; None where nothing is left.
        rows: that are pushed for one seed, those of the search for a rate included.
        seeds: that are left.
        minutes: of all of them; training comes on top (`wavecore plan`), and what an interrupted stream has done
            already is not taken off.
    """

    benchmark: str
    stage: str
    learner: str
    ms: float | None
    rows: int
    seeds: int
    minutes: float


def planned(project: Project, benchmark: str, stages: tuple[str, ...]) -> list[Planned]:
    """Per stage and learner what is left, and how long it takes.

    Raises:
        StorageError: the benchmark's series and splits are not made yet.
        SettingsError: no learner makes sense for a stage, or the delay is longer than its stream.
    """
    from assets.streaming import settings_of
    from wavecore.learn.device import threads
    from wavecore.model.build import build
    from wavecore.model.regression import Regression
    from wavecore.series.splits import origins
    from wavecore.stream.delay import check_delay
    from wavecore.stream.run import need_learners
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
        check_delay(online.delay, shape.horizon, test - 1)
        left = len(_seeds_left(project, ground, stage))
        for learner in need_learners(model, online, shape, test):
            rows = test + (len(online.search) * decide if learner in SEARCHED else 0)
            seconds = None
            if left:
                with threads(ground.settings.train.threads):
                    seconds = _seconds(learner, model, ground, online, shape)
            ms = None if seconds is None else round(1000 * seconds, 2)
            found.append(Planned(benchmark, stage, learner, ms, rows, left, (seconds or 0.0) * rows * left / 60))
    return found


def _seconds(name: str, model: nn.Module, ground: Ground, online: OnlineSettings, shape: Shape) -> float:
    """Of a forecast of the stream, once labels come; of a stream that is too short for that, of all its forecasts."""
    from wavecore.series.splits import origins
    from wavecore.stream.fourier import warm_labels
    from wavecore.stream.matrix import learner_of
    from wavecore.stream.session import Session

    scored = origins(ground.borders, "test", shape.window, shape.horizon)
    begin, data = int(scored[0]) - shape.window, ground.windows
    values = data.values[begin : int(scored[-1])].where(data.observed[begin : int(scored[-1])], float("nan"))
    before = data.values[begin - 1] if begin else None
    session = Session(learner_of(name, model, shape, online, 0), shape, online, begin, before)
    late = online.delay.steps * (MEANS if online.delay.kind == "geometric" else 1)
    # Until every row brings a label, replay has labels of the past, and ELF its regression.
    warm = shape.window + shape.horizon + late + online.every + warm_labels(shape.window)
    timed = max(ROWS, 4 * online.every)
    first = warm if warm + timed <= len(values) else shape.window
    last = first + timed if first == warm else len(values)
    for row in values[:first]:
        session.push(row)
    began = time.perf_counter()
    for row in values[first:last]:
        session.push(row)
    return (time.perf_counter() - began) / (last - first)


def _seeds_left(project: Project, ground: Ground, stage: str) -> list[int]:
    """Seeds whose stream a run would make: those that no present model, settings, data and code gave."""
    from assets.standing import made_now
    from assets.streaming import due_of, stands
    from assets.training import wanted_seeds

    benchmark, chosen = ground.benchmark.name, ladder.get(stage)
    trained = ladder.get(chosen.trained_as)
    models, results, beside = (
        project.models(benchmark, trained.name),
        project.online_results(benchmark, stage),
        project.online(benchmark, stage),
    )

    def done(seed: int) -> bool:
        model = seed_folder(models, seed)
        if not (model / "manifest.json").is_file() or not made_now(project, ground, trained, seed, model):
            return False
        due = due_of(project, ground, stage, model)
        return stands(project, seed_folder(results, seed), seed_folder(beside, seed), due)

    return [seed for seed in wanted_seeds(ground.settings, benchmark, chosen) if not done(seed)]
