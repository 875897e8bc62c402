"""Gathers what the report shows: results from git, tables from the store, hashes from the artifacts themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from assets.evaluation import samples
from assets.gains import gains
from assets.lineage import COLUMNS, EDGES
from assets.project import Project, seed_folder
from assets.report_data import (
    Artifact,
    BenchmarkReport,
    ChannelError,
    ColumnSource,
    DatasetReport,
    ReportData,
    SeedResult,
    StageResult,
)
from assets.report_online import learned, memory
from assets.results import Run, beyond, comparisons, mean_of, runs, unlike
from assets.scoring import FORECASTS, INSIDE
from assets.storage import read_json
from assets.streamed import streams_left_out
from assets.tables import SERIES, STATISTICS, load_series, read_parquet
from assets.versions import data_version, dvc_hash
from data_contracts.catalog import Benchmark, Dataset, GeneratedSource, OwnSource, PublishedSource, feature_key
from wavecore import stages
from wavecore.judge.significance import Comparison
from wavecore.wavelet.transform import bands as band_names

ABOUT = (
    "Forecasters trained and judged on the same windows, each against the one below it on the ladder. Errors are on "
    "train-standardized channels, the convention of the field; original units stand beside them. A difference counts "
    "only where the Diebold–Mariano test, corrected for the number of comparisons, says so."
)

# Each innovation alone on `base`, whose gain is held against what a channel is like.
GAINING = ("prompt", "only_tokens", "only_loss", "only_streams", "only_sparse")


def gather(project: Project, artifacts: list[tuple[str, str, list[Any]]]) -> ReportData:
    """Everything for `report_page.render`.

    Args:
        artifacts: (asset, partition, its folders) of every step known here, in the order of the data's way.
    """
    found = runs(project)
    tables = comparisons(project, found)
    catalog = project.catalog()
    benchmarks = [
        _benchmark(project, name, [r for r in found if r.benchmark == name], tables.get(name, []))
        for name in dict.fromkeys(r.benchmark for r in found)
    ]
    datasets = [
        _dataset(project, catalog.dataset(name), _borders(project, [b.name for b in benchmarks if b.dataset == name]))
        for name in dict.fromkeys(b.dataset for b in benchmarks)
        if (project.series(name) / SERIES).is_file()
    ]
    return ReportData(
        title="Forecasts and how they were judged",
        about=ABOUT,
        benchmarks=tuple(benchmarks),
        datasets=tuple(datasets),
        artifacts=tuple(Artifact(asset, key, _version(outs)) for asset, key, outs in artifacts),
        edges=EDGES,
        columns=tuple(
            ColumnSource(asset, column, tuple(made_from))
            for asset, columns in COLUMNS.items()
            for column, made_from in columns.items()
        ),
        commands=(
            ("make demo", "the generated benchmark from nothing to this page"),
            *(
                (f"wavecore run --benchmark {b.name}", f"{b.title}: every default stage")
                for b in benchmarks
                if b.name != "demo"
            ),
            ("dvc repro", "the default matrix again; does nothing where nothing changed"),
            ("wavecore leaderboard", "the table above in the terminal"),
        ),
        facts=_facts(project, found),
        gains=tuple(gains(project, found, GAINING)),
    )


def _version(outs: list[Any]) -> str | None:
    hashes = [dvc_hash(out) for out in outs]
    whole = [h for h in hashes if h is not None]
    return data_version(whole) if whole and len(whole) == len(hashes) else None


def _benchmark(project: Project, name: str, found: list[Run], table: list[Comparison]) -> BenchmarkReport:
    benchmark = project.catalog().benchmark(name)
    dataset = project.catalog().dataset(benchmark.dataset)
    order = list(dict.fromkeys(r.stage for r in found))
    first_pair = {row.stage: row for row in reversed(table)}
    bands = tuple(found[0].group("mse", "scale"))
    return BenchmarkReport(
        name=name,
        dataset=dataset.name,
        title=dataset.title,
        window=benchmark.window,
        horizon=benchmark.horizon,
        step=dataset.step,
        generated=isinstance(dataset.source, GeneratedSource),
        stages=tuple(
            _stage(project, name, stage, [r for r in found if r.stage == stage], first_pair.get(stage))
            for stage in order
        ),
        comparisons=tuple(table),
        bands=bands,
        energy_share=_energy(project, benchmark, dataset, bands),
        forecasts=_forecasts(project, name, order, found),
        alpha=project.settings().judge.alpha,
        learned=learned(project, name),
        memory=memory(project, name),
        unlike=(*unlike(project, found), *streams_left_out(project, name)),
    )


def _stage(project: Project, benchmark: str, stage: str, own: list[Run], comparison: Comparison | None) -> StageResult:
    curves = {}
    for run in own:
        path = seed_folder(project.models(benchmark, stage), run.seed) / "curve.json"
        if path.is_file() and (rows := read_json(path)):
            curves[run.seed] = rows
    names = list(own[0].group("mse", "channel"))

    def mean(metric: str, group: str, key: str) -> float | None:
        return mean_of([run.value(metric, group, key) for run in own])

    def over(group: str) -> list[float]:
        return [float("nan") if (v := mean("mse", group, key)) is None else v for key in own[0].group("mse", group)]

    return StageResult(
        stage=stage,
        description=stages.get(stage).description,
        seeds=tuple(
            SeedResult(
                seed=run.seed,
                mse=run.value("mse") if run.value("mse") is not None else float("nan"),  # type: ignore[arg-type]
                mae=run.value("mae") if run.value("mae") is not None else float("nan"),  # type: ignore[arg-type]
                mase=run.value("mase"),
                train_seconds=run.seconds.get("train_seconds"),
            )
            for run in own
        ),
        n_series=int(own[0].value("n_series") or 0),
        comparison=comparison,
        beyond=beyond(own),
        by_step=over("step"),
        by_scale=over("scale"),
        curves=curves,
        inside=_inside(project, benchmark, stage, own[0].seed),
        channels=tuple(
            ChannelError(
                channel=c,
                mse=mean("mse", "channel", c),
                mae=mean("mae", "channel", c),
                mse_original=mean("mse", "channel_original", c),
                mae_original=mean("mae", "channel_original", c),
            )
            for c in names
        ),
    )


def _inside(project: Project, benchmark: str, stage: str, seed: int) -> dict[str, Any] | None:
    path = seed_folder(project.evaluations(benchmark, stage), seed) / INSIDE
    return read_json(path) if path.is_file() else None


def _energy(project: Project, benchmark: Benchmark, dataset: Dataset, bands: tuple[str, ...]) -> list[float] | None:
    """Mean energy share of the windows in the bands that the horizon has: the rest counts as A."""
    path = project.features("wavelets", feature_key(benchmark)) / STATISTICS
    if not path.is_file():
        return None
    shares = np.array(read_parquet(path)["energy_share"].to_list()).mean(axis=0)
    levels = project.settings().features_of(dataset.name, benchmark.window).levels
    named = dict(zip(band_names(levels), shares.tolist(), strict=True))
    details = [named.get(band, 0.0) for band in bands[1:]]
    return [1.0 - sum(details), *details]


def _forecasts(project: Project, benchmark: str, order: list[str], found: list[Run]) -> tuple[Any, ...]:
    from assets.training import Ground

    tables = {}
    for stage in order:
        seeds = [r.seed for r in found if r.stage == stage]
        paths = [seed_folder(project.evaluations(benchmark, stage), seed) / FORECASTS for seed in seeds]
        # Seeds that another machine judged have results alone.
        there = next((path for path in paths if path.is_file()), None)
        if there is not None:
            tables[stage] = read_parquet(there)
    if not tables or not (project.splits(benchmark) / "splits.json").is_file():
        return ()
    return tuple(samples(Ground.load(project, benchmark), tables))


def _borders(project: Project, benchmarks: list[str]) -> dict[str, tuple[int, int]]:
    from assets.tables import load_borders

    for name in benchmarks:
        if (project.splits(name) / "splits.json").is_file():
            borders = dataclasses.asdict(load_borders(project, name))
            return {split: (lo, hi) for split, (lo, hi) in borders.items()}
    return {}


def _dataset(project: Project, dataset: Dataset, borders: dict[str, tuple[int, int]]) -> DatasetReport:
    import hashlib

    frame = read_parquet(project.series(dataset.name) / SERIES)
    raw = project.raw(dataset.name) / dataset.file
    source, url = dataset.source, None
    if isinstance(source, GeneratedSource):
        where = f"generated by {source.generator}, seed {source.seed}"
    elif isinstance(source, PublishedSource):
        where, url = f"published file {source.file}", source.url
    else:
        assert isinstance(source, OwnSource)
        where = f"own file {source.file}"
    times = frame["timestamp"]
    return DatasetReport(
        name=dataset.name,
        title=dataset.title,
        description=dataset.description,
        generated=isinstance(source, GeneratedSource),
        source=where,
        url=url,
        licence=dataset.licence.name,
        licence_note=dataset.licence.note,
        rows=times.n_unique(),
        channels=frame["channel"].n_unique(),
        missing=frame["value"].null_count(),
        step=dataset.step,
        first=str(times.min()),
        last=str(times.max()),
        sha256=hashlib.sha256(raw.read_bytes()).hexdigest() if raw.is_file() else "not on this machine",
        series=load_series(project, dataset.name),
        splits=borders,
    )


def _facts(project: Project, found: list[Run]) -> dict[str, str]:
    from wavecore.learn.checkpoint import read_manifest

    facts = {}
    for run in reversed(found):
        folder = seed_folder(project.models(run.benchmark, run.stage), run.seed)
        if (folder / "manifest.json").is_file():
            manifest = read_manifest(folder)
            facts = {
                "trained on": f"{manifest['device']}, {manifest['dtype']}, {manifest['threads']} threads",
                **{name: str(version) for name, version in manifest["versions"].items()},
            }
            break
    return facts
