"""Learning online in the report: what every learner of a stream reached, its error over time, a memory from inside."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from assets import figures
from assets.drawing import INK, MUTED, STAGE_COLOURS, Drawing, date_axis, finished, legend, line, literal, panels, style
from assets.report_html import NONE, exact, figure, number, probability, table, text

if TYPE_CHECKING:
    from assets.project import Project

LINES = {"frozen": ":", "online": "-"}
# Stages in the picture of errors over time; a benchmark may have two dozen.
DRAWN = 5


@dataclass(frozen=True)
class Learned:
    """One learner of one stage, means over seeds; None where a seed has no value.

    Attributes:
        r2, mse, mae: over the stream.
        p: of the difference from the frozen model, the largest over seeds; None of the frozen one.
        milliseconds: of a row, forecast and learning; None where another machine ran it.
        stretches: error of each stretch of the stream.
    """

    stage: str
    learner: str
    seeds: int
    r2: float | None
    mse: float | None
    mae: float | None
    p: float | None
    milliseconds: float | None
    stretches: Sequence[float]


@dataclass(frozen=True)
class Memory:
    """What a memory told of each forecast of one stream.

    Attributes:
        stage, seed: whose.
        times: of the first target.
        told: surprise, error_surprise, gate, norm → values, NaN where there is none.
        segments: name → first and last moment of what the dataset declares, such as bursts.
    """

    stage: str
    seed: int
    times: np.ndarray
    told: Mapping[str, np.ndarray]
    segments: Mapping[str, tuple[np.datetime64, np.datetime64]]


def learned(project: Project, benchmark: str) -> tuple[Learned, ...]:
    """Every learner of every stage that was run through the benchmark's stream, in the order of the ladder."""
    from assets.streamed import pace_in, standing
    from assets.streaming import learners_in, value
    from wavecore.stages import names

    found = []
    for stage in names():
        seeds = standing(project, benchmark, stage)
        for learner in learners_in(next(iter(seeds.values()))) if seeds else ():
            paces = [p[learner] for s in seeds if learner in (p := pace_in(project, benchmark, stage, s))]
            ps = [value(long, learner, "against_frozen", "p") for long in seeds.values()]
            rows = [figures.as_array(long["stretches"][learner]) for long in seeds.values()]
            r2, mse, mae = (_mean([value(long, learner, m) for long in seeds.values()]) for m in ("r2", "mse", "mae"))
            found.append(
                Learned(
                    stage, learner, len(seeds), r2, mse, mae,
                    max(p for p in ps if p is not None) if all(p is not None for p in ps) else None,
                    statistics.median(p["forecast"] + p["learn"] for p in paces) if paces else None,
                    np.mean(rows, axis=0).tolist(),
                )
            )  # fmt: skip
    return tuple(found)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return statistics.fmean(present) if present and len(present) == len(values) else None


def memory(project: Project, benchmark: str) -> Memory | None:
    """The first stage with a memory whose stream is here, its first seed while it learned online."""
    import polars as pl

    from assets.project import seed_folder
    from assets.streamed import standing
    from assets.streaming import STEPS
    from assets.tables import load_series, read_parquet
    from wavecore.stages import get, names

    for stage in names():
        if get(stage).family != "titan":
            continue
        folder = project.online(benchmark, stage)
        for seed in standing(project, benchmark, stage):
            path = seed_folder(folder, seed) / STEPS
            if not path.is_file():
                continue
            own = read_parquet(path).filter(pl.col("learner") == "online")
            if not len(own):
                continue
            dataset = project.catalog().dataset(project.catalog().benchmark(benchmark).dataset)
            times = load_series(project, dataset.name).timestamps[own["origin"].to_numpy()]
            told = {name: own[name].to_numpy() for name in ("surprise", "error_surprise", "gate", "norm")}
            return Memory(stage, seed, times, told, dataset.segment_times)
    return None


def drawn_of(rows: Sequence[Learned]) -> tuple[list[Learned], int]:
    """The rows that `errors` draws, of the stages with the lowest error, and how many stages there are."""
    told = [row for row in rows if row.learner in LINES]
    lowest: dict[str, float] = {}
    for row in told:
        lowest[row.stage] = min(lowest.get(row.stage, math.inf), math.inf if row.mse is None else row.mse)
    chosen = sorted(lowest, key=lambda stage: lowest[stage])[:DRAWN]
    return [row for row in told if row.stage in chosen], len(lowest)


def errors(rows: Sequence[Learned]) -> Drawing:
    """Error over time, a colour per stage and a kind of line per learner."""
    colours = figures.stage_colours(list(dict.fromkeys(row.stage for row in rows)))
    with style():
        drawn, (axis,) = panels(1, 1, width=9.6, height=3.4)
        for row in rows:
            middle = (np.arange(len(row.stretches)) + 0.5) * 100 / len(row.stretches)
            axis.plot(
                middle, row.stretches, linestyle=LINES[row.learner], linewidth=1.1, color=colours[row.stage],
                label=literal(f"{row.stage}, {row.learner}"),
            )  # fmt: skip
        axis.set_xlabel("of the stream, %")
        axis.set_ylabel("MSE of a stretch")
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, 100)
        legend(drawn, axis)
        return finished(drawn)


def inside(seen: Memory) -> Drawing:
    """Surprise, gate and size of the memory over time; declared segments shaded."""
    labels = {
        "surprise": "surprise of\nthe input",
        "error_surprise": "surprise of\nthe label",
        "gate": "forgotten\nper chunk",
        "norm": "size of\nthe memory",
    }
    with style():
        drawn, axes = panels(len(labels), 1, width=9.6, height=5.6, sharex=True)
        for (name, label), axis in zip(labels.items(), axes, strict=True):
            line(axis, seen.times, seen.told[name], color=STAGE_COLOURS[1], linewidth=0.9)
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
            for first, last in seen.segments.values():
                axis.axvspan(first, last, color=MUTED, alpha=0.2, linewidth=0)  # type: ignore[arg-type]
        for name, (first, _) in seen.segments.items():
            axes[0].annotate(
                literal(name), (first, 1), xycoords=("data", "axes fraction"), fontsize=6.5, color=INK, va="bottom"  # type: ignore[arg-type]
            )  # fmt: skip
        date_axis(axes[-1])
        return finished(drawn)


def section(rows: Sequence[Learned], seen: Memory | None, anchor: str) -> str:
    """The part of a benchmark's section; nothing where no stream was run."""
    if not rows:
        return ""
    shown = [
        (
            text(row.stage), text(row.learner), *(exact(number(v), v) for v in (row.r2, row.mse, row.mae)),
            _p(row.p), number(row.milliseconds, 2), str(row.seeds),
        )
        for row in rows
    ]  # fmt: skip
    head = ("stage", "learner", "R²", "MSE", "MAE", "p against frozen", "ms per row", "seeds")
    parts = [
        "<h3>Learning online</h3>",
        '<p class="note">The test rows one by one; a label is known only after its horizon and its delay. R² per '
        "channel around its mean over the scored targets, then averaged. p: Diebold–Mariano, each seed by itself, the "
        "largest shown, not corrected for the number of rows.</p>",
        table(head, shown, numeric=(2, 3, 4, 5, 6, 7)),
    ]
    told, count = drawn_of(rows)
    if told:
        picture = errors(told).svg(f"{anchor}-online")
        few = f" The {DRAWN} of {count} stages with the lowest error." if count > DRAWN else ""
        drawn = figure(picture, "Error over time", f"Frozen, and learning online.{few}", "wide")
        parts.append(f'<div class="grid">{drawn}</div>')
    if seen is not None:
        note = (
            f"{text(seen.stage)}, seed {seen.seed}, learning online. The surprise of the input is known at once, that "
            "of the label only with it." + (" Shaded: what the dataset declares." if seen.segments else "")
        )
        drawn = figure(inside(seen).svg(f"{anchor}-memory"), "The memory over time", note, "wide")
        parts.append(f'<div class="grid">{drawn}</div>')
    return "".join(parts)


def _p(value: float | None) -> str:
    return NONE if value is None else exact(probability(value), value)
