"""Reading `results/`: the leaderboard's rows, the long metrics, and the comparisons between stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.accepted import equal_code
from assets.project import Project, seed_folder, seeds_in
from assets.storage import read_json
from assets.timings import timings
from wavecore import stages
from wavecore.errors import StorageError
from wavecore.judge.files import LOSSES, MANIFEST, METRICS
from wavecore.rooms import FAMILY_ROOMS

if TYPE_CHECKING:
    from wavecore.judge.significance import Comparison

# What every stage is held against beside the one below it, where it stands above them.
_BASELINES = ("seasonal_naive", "last_value", "dlinear", "reference", "base")
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Run:
    """The judged result of one benchmark × stage × seed.

    Attributes:
        long: its metrics.json: rows of metric, group, key, value, n.
        losses: per-origin test losses: origin, mse, mae.
        seconds: train_seconds, eval_seconds and so on, where this machine trained it; with `machine` of another one
            whose results were taken.
        manifest: what the result follows from; {} where an older result does not say.
    """

    benchmark: str
    stage: str
    seed: int
    long: dict[str, Any]
    losses: dict[str, Any]
    seconds: dict[str, Any]
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str | None:
        """`cpu` or `cuda`, where it was trained; None where an older result does not say."""
        return self.manifest.get("device")

    def value(self, metric: str, group: str = "overall", key: str = "all") -> float | None:
        for m, g, k, value, _ in self.long["rows"]:
            if (m, g, k) == (metric, group, key):
                return None if value is None else float(value)
        return None

    def group(self, metric: str, group: str) -> dict[str, float | None]:
        """key → value of one group, in order."""
        return {k: v for m, g, k, v, _ in self.long["rows"] if (m, g) == (metric, group)}

    def row(self) -> dict[str, Any]:
        """The leaderboard's row."""
        found: dict[str, Any] = {"benchmark": self.benchmark, "stage": self.stage, "seed": self.seed}
        found |= {name: self.value(name) for name in ("mse", "mae", "mase")}
        found |= {name: int(self.value(name) or 0) for name in ("n_series", "n_windows", "n_origins_unscored")}
        return found | {"train_seconds": self.seconds.get("train_seconds"), "device": self.device}


def runs(project: Project, benchmark: str | None = None) -> list[Run]:
    """All results of the catalog's benchmarks and the ladder's stages, by benchmark, then up the ladder, then by seed.

    Raises:
        SettingsError: there is no such benchmark.
        StorageError: a broken file in results/.
    """
    catalog = project.catalog()
    names = [catalog.benchmark(benchmark).name] if benchmark else list(catalog.benchmarks)
    found = []
    for name in names:
        for stage in stages.names():
            folder = project.results(name, stage)
            found += [_run(project, name, stage, seed, folder) for seed in seeds_in(folder)]
    return found


def _run(project: Project, benchmark: str, stage: str, seed: int, folder: Path) -> Run:
    own = seed_folder(folder, seed)
    for file in (METRICS, LOSSES):
        if not (own / file).is_file():
            raise StorageError(f"{own / file}: not there", f"wavecore run --benchmark {benchmark} --stage {stage}")
    return Run(
        benchmark,
        stage,
        seed,
        read_json(own / METRICS),
        read_json(own / LOSSES),
        timings(project, benchmark, stage, seed),
        read_json(own / MANIFEST) if (own / MANIFEST).is_file() else {},
    )


# What results that are compared must share; the code, where it is of the same rooms; and what seeds of a mean must too.
_GROUND = {"data_hash": "data", "settings": "settings of the judge"}
_CODE = {"trained_by": "code that trains", "code_hash": "code that judges"}
_MADE_ON = {"backbone_hash": "language model", "device": "device"}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of all; None where one of them is not known."""
    present = [v for v in values if v is not None and v == v]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def beyond(own: Sequence[Run]) -> dict[str, float | None]:
    """What an MSE over everything does not say of one stage, by name: means over its runs, of one benchmark."""

    def mean(metric: str, group: str, key: str) -> float | None:
        return mean_of([run.value(metric, group, key) for run in own])

    def each(group: str) -> list[str]:
        return list(own[0].group("mse", group))

    steps = [mean("mse", "step", key) for key in each("step")]
    quarter = max(1, len(steps) // 4)
    return {
        "MSE, first quarter of the horizon": mean_of(steps[:quarter]),
        "MSE, last quarter of the horizon": mean_of(steps[-quarter:]),
        "agreement of the dominant scale": mean("dominant_agreement", "spectrum", "all"),
        "divergence of the energy over scales": mean("energy_kl", "spectrum", "all"),
        **{f"MSE {key} events": mean("mse", "event", key) for key in each("event")},
        **{f"MSE, {key}": mean("mse", "segment", key) for key in each("segment")},
        "MSE in none of these segments": mean("mse", "no_segment", "all"),
        **{f"MSE, {key}": mean("mse", "robust", key) for key in each("robust")},
    }


def unlike(project: Project, found: list[Run]) -> list[str]:
    """What stands in one table though it is not of one kind, in sentences: results judged on other data, or trained or
    judged by other code, than the first ones of their benchmark, and seeds of another language model or device than the
    first one of their stage. Code that was accepted as equal is the same code. Settings of training hold the seed, so
    only `wavecore ladder` can tell those.
    """

    def other(run: Run, first: Run, keys: dict[str, str]) -> list[str]:
        return [what for key, what in keys.items() if not same(run.manifest.get(key), first.manifest.get(key))]

    def same(one: str | None, two: str | None) -> bool:
        return one == two or (one is not None and two is not None and equal_code(project, one, two))

    firsts: dict[tuple[str, ...], Run] = {}
    lines = []
    for run in found:
        # A family with rooms of its own has other hashes of the same code.
        rooms = FAMILY_ROOMS.get(stages.get(run.stage).family, ())
        asked = (
            (firsts.setdefault((run.benchmark,), run), _GROUND),
            (firsts.setdefault((run.benchmark, "code", *rooms), run), _CODE),
            (firsts.setdefault((run.benchmark, "stage", run.stage), run), _MADE_ON),
        )
        than: dict[str, list[str]] = {}
        for first, keys in asked:
            than.setdefault(f"{first.stage} seed {first.seed}", []).extend(other(run, first, keys))
        for name, what in than.items():
            if what:
                lines.append(f"{run.benchmark} {run.stage} seed {run.seed}: of other {', '.join(what)} than {name}")
    return lines


def pairs_of(present: list[str]) -> list[tuple[str, str]]:
    """What is compared: each stage with the nearest one below it, and with the baselines."""
    found: list[tuple[str, str]] = []
    for name in present:
        below = stages.get(name).below
        while below is not None and below not in present:
            below = stages.get(below).below
        baselines = [b for b in _BASELINES if b in present and stages.order(b) < stages.order(name)]
        found += [(name, other) for other in dict.fromkeys(([below] if below else []) + baselines)]
    return found


def families(pairs: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The pairs that are corrected together: those of the ladder's stages, and those of each stage's variants.

    A question is as hard to answer as it has pairs. A variant of one stage (`titan.mean`) that is added later asks
    another one, and changes no verdict on the ladder; a stage of the ladder that is run later is a pair more in it.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for stage, other in pairs:
        found.setdefault(stages.get(stage).root if "." in stage else "", []).append((stage, other))
    return list(found.values())


def comparisons(project: Project, found: list[Run]) -> dict[str, list[Comparison]]:
    """Benchmark → its comparison table, each family of pairs corrected for its size by Holm's method."""
    import numpy as np

    from wavecore.judge.significance import compare_table

    catalog, judge = project.catalog(), project.settings().judge
    tables = {}
    for benchmark in dict.fromkeys(run.benchmark for run in found):
        losses: dict[str, dict[int, tuple[Any, Any]]] = {}
        for run in found:
            if run.benchmark == benchmark:
                mse = np.array([np.nan if v is None else v for v in run.losses["mse"]], dtype=np.float64)
                losses.setdefault(run.stage, {})[run.seed] = (np.array(run.losses["origin"], dtype=np.int64), mse)
        pairs, horizon = pairs_of(list(losses)), catalog.benchmark(benchmark).horizon
        found_of = {
            (row.stage, row.other): row
            for family in families(pairs)
            for row in compare_table(losses, family, horizon, judge, _BOOTSTRAP_SEED)
        }
        if pairs:
            tables[benchmark] = [found_of[pair] for pair in pairs]
    return tables


def leaderboard_rows(project: Project, benchmark: str | None = None) -> list[dict[str, Any]]:
    """One row per benchmark, stage and seed, best stage first, with the verdict against the stage below."""
    found = runs(project, benchmark)
    against: dict[tuple[str, str], Comparison] = {}
    for name, table in comparisons(project, found).items():
        for pair in table:
            against.setdefault((name, pair.stage), pair)  # the first pair of a stage is the one with the stage below
    rows = []
    for run in found:
        row = run.row()
        comparison = against.get((run.benchmark, run.stage))
        row["against"] = comparison.other if comparison else None
        row["effect"] = _number(comparison.effect) if comparison else None
        row["p_holm"] = _number(comparison.p_holm) if comparison else None
        row["verdict"] = comparison.verdict if comparison else None
        rows.append(row)
    # A stage without a single scored point has no MSE; it comes last.
    errors: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        errors.setdefault((row["benchmark"], row["stage"]), []).append(math.inf if row["mse"] is None else row["mse"])
    mean = {key: sum(values) / len(values) for key, values in errors.items()}
    return sorted(rows, key=lambda r: (r["benchmark"], mean[r["benchmark"], r["stage"]], r["stage"], r["seed"]))


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return None if value != value else value
