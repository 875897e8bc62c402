"""What the report shows, as plain values: filled by the asset `report`, drawn by `report_page`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assets.figures import Forecast
    from assets.gains import Gain
    from assets.report_online import Learned, Memory
    from wavecore.judge.significance import Comparison
    from wavecore.series.arrays import SeriesArrays


@dataclass(frozen=True)
class SeedResult:
    """One trained model on the test set; errors on train-standardized channels. `train_seconds`: None where unknown."""

    seed: int
    mse: float
    mae: float
    mase: float | None = None
    train_seconds: float | None = None


@dataclass(frozen=True)
class ChannelError:
    """Errors of one channel, averaged over seeds: standardized, and in the channel's own unit. None: nothing scored."""

    channel: str
    mse: float | None
    mae: float | None
    mse_original: float | None
    mae_original: float | None


@dataclass(frozen=True)
class StageResult:
    """One stage on one benchmark.

    Attributes:
        stage, description: as in the ladder.
        seeds: one result each; a stage without randomness has one.
        n_series: test windows × channels.
        comparison: with the stage below; None at the bottom, or where the stage below was not run.
        by_step: MSE per horizon step [H]; by_scale: MSE per band [J+1]; both averaged over seeds, NaN where undefined.
        curves: {seed: rows with step, loss, select}; empty where nothing is learned.
        channels: errors per channel.
        beyond: what an MSE does not say, by name: agreement of the dominant scale, divergence of energy, errors in and
            outside of events, errors on disturbed inputs; averaged over seeds.
        inside: one test window seen from inside a reprogrammed forecaster (`inside.json`); None for the others.
    """

    stage: str
    description: str
    seeds: tuple[SeedResult, ...]
    n_series: int
    comparison: Comparison | None = None
    by_step: Sequence[float] = ()
    by_scale: Sequence[float] = ()
    curves: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    channels: tuple[ChannelError, ...] = ()
    beyond: Mapping[str, float | None] = field(default_factory=dict)
    inside: Mapping[str, Any] | None = None

    def mean(self, metric: str) -> float | None:
        """Mean over seeds of `mse`, `mae`, `mase` or `train_seconds`; None where a seed has no value."""
        values = [getattr(s, metric) for s in self.seeds]
        if not values or any(v is None or not math.isfinite(v) for v in values):
            return None
        return statistics.fmean(values)

    def spread(self, metric: str) -> float | None:
        """Standard deviation over seeds (n − 1); None for fewer than two."""
        values = [getattr(s, metric) for s in self.seeds]
        if len(values) < 2 or self.mean(metric) is None:
            return None
        return statistics.stdev(values)


@dataclass(frozen=True)
class BenchmarkReport:
    """One benchmark with its stages, lowest rung first.

    Attributes:
        name, dataset: as in data_contracts/; title: of the dataset.
        window, horizon: in steps of length `step`.
        generated: whether the data are made up.
        stages: what was run.
        comparisons: all pairs compared, for the picture of intervals.
        bands: names of the wavelet scales, slow to fast, in the order of `by_scale`.
        energy_share: [J+1] of the data, to hold against the error per scale; None to leave it out.
        forecasts: test windows to draw, in `unit`.
        alpha: level of tests and intervals.
        learned: learners of streams; memory: one of them from inside.
        unlike: results that stand in these tables though they are of another kind, in sentences.
    """

    name: str
    dataset: str
    title: str
    window: int
    horizon: int
    step: str
    generated: bool
    stages: tuple[StageResult, ...]
    comparisons: tuple[Comparison, ...] = ()
    bands: tuple[str, ...] = ()
    energy_share: Sequence[float] | None = None
    forecasts: tuple[Forecast, ...] = ()
    unit: str = "original unit"
    alpha: float = 0.05
    learned: tuple[Learned, ...] = ()
    memory: Memory | None = None
    unlike: tuple[str, ...] = ()

    @property
    def best(self) -> StageResult | None:
        """The stage of the smallest mean MSE."""
        scored = [s for s in self.stages if s.mean("mse") is not None]
        return min(scored, key=lambda s: s.mean("mse") or 0.0) if scored else None


@dataclass(frozen=True)
class DatasetReport:
    """One dataset: where it comes from and what it holds.

    Attributes:
        source: in words, such as a path inside a published archive, the generator with its seed, or the user's file.
        url: of the publisher; None where there is none.
        rows: steps per channel; missing: values that are absent, of rows × channels.
        sha256: of the raw file.
        series, splits: the series and half-open row ranges, for the overview; None leaves the picture out.
    """

    name: str
    title: str
    description: str
    generated: bool
    source: str
    url: str | None
    licence: str
    licence_note: str
    rows: int
    channels: int
    missing: int
    step: str
    first: str
    last: str
    sha256: str
    series: SeriesArrays | None = None
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """One materialized asset partition and its DVC hash (None: not there, or not committed)."""

    asset: str
    partition: str
    hash: str | None


@dataclass(frozen=True)
class ColumnSource:
    """One column of an asset's table and the (asset, column) pairs it is made from."""

    asset: str
    column: str
    made_from: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportData:
    """The whole report.

    Attributes:
        title, about: heading, and what this is in a sentence or two.
        benchmarks, datasets: what was judged, on what.
        artifacts: everything that was materialized, in the order of the data's way.
        edges: (upstream asset, downstream asset).
        columns: column lineage.
        commands: (command, what it does), to make all this again.
        facts: name → value, such as versions and device, at the foot of the page.
        gains: what the wavelet stages gain per channel over all benchmarks.
    """

    title: str
    about: str
    benchmarks: tuple[BenchmarkReport, ...]
    datasets: tuple[DatasetReport, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    columns: tuple[ColumnSource, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    gains: tuple[Gain, ...] = ()
