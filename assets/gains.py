"""What a stage gains on a channel, held against how volatile the channel is and how many periods it has (W2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assets.project import Project
from assets.results import Run

# What gains are measured against.
BELOW = "base"


class Gain(NamedTuple):
    """One stage on one channel.

    Attributes:
        volatility, periods: of the channel's train rows, see `wavecore.character`.
        gain: by how much its squared error is below that of `base`, in percent, mean over the seeds
            that both have; negative: above.
    """

    benchmark: str
    channel: str
    stage: str
    volatility: float
    periods: int
    gain: float


class Tendency(NamedTuple):
    """Spearman's rank correlation of gain with a property over channels, and how often chance alone gives as much: NaN
    where there are too few channels."""

    stage: str
    property: str
    rho: float
    p: float
    channels: int


def gains(project: Project, found: list[Run], chosen: Sequence[str]) -> list[Gain]:
    """Every channel of every benchmark that has both `base` and a chosen stage, and whose series is on this machine."""
    from assets.training import Ground
    from wavecore.character import periods, volatility

    rows: list[Gain] = []
    for benchmark in dict.fromkeys(run.benchmark for run in found):
        own = [run for run in found if run.benchmark == benchmark]
        present = [stage for stage in chosen if any(run.stage == stage for run in own)]
        if not present or not any(run.stage == BELOW for run in own) or not _here(project, benchmark):
            continue
        ground = Ground.load(project, benchmark)
        moves = volatility(ground.arrays, ground.borders.train)
        peaks = periods(ground.arrays, ground.borders.train, ground.benchmark.window)
        for i, channel in enumerate(ground.arrays.channels):
            for stage in present:
                # The same seeds on both sides: with others a gain would be of the draw.
                seeds = _seeds(own, stage) & _seeds(own, BELOW)
                before, after = (_error(own, name, channel, seeds) for name in (BELOW, stage))
                if before and after is not None:
                    gain = 100 * (1 - after / before)
                    rows.append(Gain(benchmark, channel, stage, float(moves[i]), int(peaks[i]), gain))
    return rows


def _here(project: Project, benchmark: str) -> bool:
    """Whether series and splits are on this machine; results may be from another."""
    from assets.tables import SERIES

    series = project.series(project.catalog().benchmark(benchmark).dataset) / SERIES
    return series.is_file() and (project.splits(benchmark) / "splits.json").is_file()


def _seeds(runs: list[Run], stage: str) -> set[int]:
    return {run.seed for run in runs if run.stage == stage}


def _error(runs: list[Run], stage: str, channel: str, seeds: set[int]) -> float | None:
    values = [run.value("mse", "channel", channel) for run in runs if run.stage == stage and run.seed in seeds]
    present = [v for v in values if v is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def tendencies(rows: list[Gain]) -> list[Tendency]:
    """Whether a stage gains more where there is more of a property, over all channels of all benchmarks.

    Channels of one benchmark are no independent witnesses, so a p value says less than it seems to.
    """
    import numpy as np
    from scipy.stats import permutation_test, rankdata, spearmanr

    found = []
    for stage in dict.fromkeys(row.stage for row in rows):
        own = [row for row in rows if row.stage == stage]
        for name in ("volatility", "periods"):
            x, y = np.array([[getattr(row, name), row.gain] for row in own], dtype=np.float64).T
            known = np.isfinite(x)
            rho, p = float("nan"), float("nan")
            if known.sum() >= 4 and np.ptp(x[known]) > 0 and np.ptp(y[known]) > 0:
                rho = float(spearmanr(x[known], y[known]).statistic)
                ranks, others = rankdata(x[known]), rankdata(y[known])
                others -= others.mean()
                # By all orders, or 9,999 of them: the usual t distribution says "never" of four channels in a row.
                tested = permutation_test(
                    (ranks,),
                    lambda r, axis, o=others: (r * o).sum(axis=axis),
                    permutation_type="pairings",
                    vectorized=True,
                    n_resamples=9999,
                    random_state=0,
                )
                p = float(tested.pvalue)
            found.append(Tendency(stage, name, rho, p, int(known.sum())))
    return found
