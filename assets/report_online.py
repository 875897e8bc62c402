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
    from pathlib import Path

    from assets.project import Project
    from assets.training import Ground

LINES = {"frozen": ":", "online": "-"}
# Stages in the picture of errors over time; a benchmark may have two dozen.
DRAWN = 5
# Windows of which the weights of pooling are looked at.
POOLED = 48
# Windows that are read at once.
AT_ONCE = 8


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
        bursts: share of the channels that are in an event there, as the judge finds them.
        segments: name → first and last moment of what the dataset declares, such as holidays.
        pooling: how the head weighs a window; None where the model that was streamed is not here or weighs nothing.
    """

    stage: str
    seed: int
    times: np.ndarray
    told: Mapping[str, np.ndarray]
    bursts: np.ndarray
    segments: Mapping[str, tuple[np.datetime64, np.datetime64]]
    pooling: Pooling | None = None


@dataclass(frozen=True)
class Pooling:
    """How attention pooling weighs the tokens of test windows, by the model as it was trained.

    Attributes:
        ago: [L] rows from the middle of a token to the forecast.
        weights: [W, L] of windows spread evenly over the test rows, means over series.
        evenness: entropy of a window's weights as a share of what it is where all are the same; the mean.
    """

    ago: np.ndarray
    weights: np.ndarray
    evenness: float


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
    from assets.storage import read_json
    from assets.streamed import standing
    from assets.streaming import STEPS
    from assets.tables import read_parquet
    from assets.training import Ground
    from wavecore.config import FeatureSettings
    from wavecore.judge.files import MANIFEST
    from wavecore.judge.spectrum import event_rows
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
            ground, origins = Ground.load(project, benchmark), own["origin"].to_numpy()
            judge = ground.settings.judge
            events = event_rows(
                ground.windows.values.double().numpy(),
                ground.borders.test,
                FeatureSettings(wavelet=judge.wavelet, levels=judge.levels),
            )
            told = {name: own[name].to_numpy() for name in ("surprise", "error_surprise", "gate", "norm")}
            model = seed_folder(project.models(benchmark, get(stage).trained_as), seed)
            streamed = read_json(seed_folder(project.online_results(benchmark, stage), seed) / MANIFEST).get("model")
            return Memory(
                stage,
                seed,
                ground.arrays.timestamps[origins],
                told,
                events[origins].mean(axis=1),
                ground.dataset.segment_times,
                pooling_of(ground, model, str(streamed), origins),
            )
    return None


def pooling_of(ground: Ground, model: Path, streamed: str, origins: np.ndarray) -> Pooling | None:
    """How the head of a model weighs windows; None where it is not the one that was streamed, or weighs nothing.

    Args:
        model: its folder, there or not.
        streamed: manifest_hash of the model that was streamed.
        origins: first target rows of the windows to choose from.
    """
    import torch

    from wavecore.learn.checkpoint import load_model, read_manifest
    from wavecore.model.build import from_config
    from wavecore.stream.forecaster import TitanStream
    from wavecore.stream.pooling import AttentionPooling

    if not model.is_dir() or read_manifest(model).get("manifest_hash") != streamed:
        return None
    loaded = load_model(model, from_config).model.eval()
    if not isinstance(loaded, TitanStream) or not isinstance(loaded.head.pooling, AttentionPooling):
        return None
    chosen = origins[np.linspace(0, len(origins) - 1, min(POOLED, len(origins))).astype(int)]
    read = []
    with torch.no_grad():
        for few in np.array_split(chosen, math.ceil(len(chosen) / AT_ONCE)):
            weights = loaded.read(ground.windows.batch(few).x, loaded.start(len(few))).pooling
            read.append(weights.unflatten(0, (len(few), -1)).double())
    each = torch.cat(read)
    evenness = torch.special.entr(each).sum(dim=-1).mean() / math.log(max(2, loaded.tokens))
    ago = (loaded.tokens - np.arange(loaded.tokens) - 0.5) * loaded.stride
    return Pooling(ago, each.mean(dim=1).numpy(), float(evenness))


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
    stages = list(dict.fromkeys(row.stage for row in rows))
    colours = figures.stage_colours(stages)
    if sum("." in name for name in stages) > 1:
        # Shades of one stage's colour cannot be told apart in lines that cross.
        colours = dict(zip(stages, STAGE_COLOURS, strict=False))
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
    """Surprise, gate and size of the memory over time; above them bursts, and declared segments shaded."""
    labels = {
        "bursts": "channels in\na burst, %",
        "surprise": "surprise of\nthe input",
        "error_surprise": "surprise of\nthe label",
        "gate": "forgotten\nper chunk",
        "norm": "size of\nthe memory",
    }
    with style():
        drawn, axes = panels(len(labels), 1, width=9.6, height=6.6, sharex=True)
        for (name, label), axis in zip(labels.items(), axes, strict=True):
            line(
                axis,
                seen.times,
                100 * seen.bursts if name == "bursts" else seen.told[name],
                color=STAGE_COLOURS[1],
                linewidth=0.9,
            )
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


def weighed(seen: Pooling) -> Drawing:
    """Weights of tokens: their mean over windows, and below window by window, in means of a token."""
    relative = seen.weights * seen.weights.shape[1]
    half = abs(seen.ago[0] - seen.ago[-1]) / max(1, len(seen.ago) - 1) / 2
    with style():
        drawn, (above, below) = panels(2, 1, width=6.4, height=4.2, sharex=True, height_ratios=(1, 1.6))
        above.plot(seen.ago, relative.mean(axis=0), color=STAGE_COLOURS[1], linewidth=1.2)
        above.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
        above.set_ylabel("mean weight")
        above.set_ylim(0, 1.1 * max(1.0, relative.mean(axis=0).max()))
        extent = (seen.ago[0] + half, seen.ago[-1] - half, len(relative) - 0.5, -0.5)
        # As many colours above 1 as below it, so that weights that are all the same look it.
        most = max(2.0, relative.max())
        image = below.imshow(
            relative, aspect="auto", cmap="cividis", extent=extent, interpolation="nearest", vmin=0, vmax=most
        )
        below.set_ylabel("window, oldest above")
        below.set_xlabel("rows before the forecast")
        below.grid(False)
        drawn.colorbar(image, ax=below, label="weight", fraction=0.04, pad=0.02)
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
            "of the label only with it. A burst: within eight steps of the strongest in the truth, as in the errors in "
            "events." + (" Shaded: what the dataset declares." if seen.segments else "")
        )
        drawn = figure(inside(seen).svg(f"{anchor}-memory"), "The memory over time", note, "wide")
        if seen.pooling is not None:
            note = (
                f"{text(seen.stage)}, seed {seen.seed}, as it was trained, {len(seen.pooling.weights)} windows over "
                "the test rows, means over channels; 1: as if all tokens counted alike. Evenness (entropy, 1 where "
                f"they do): {seen.pooling.evenness:.4f}."
            )
            picture = weighed(seen.pooling).svg(f"{anchor}-pooling")
            drawn += figure(picture, "What the head reads of a window", note)
        parts.append(f'<div class="grid">{drawn}</div>')
    return "".join(parts)


def _p(value: float | None) -> str:
    return NONE if value is None else exact(probability(value), value)
