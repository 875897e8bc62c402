"""`wavecore stream`: what learns while it forecasts, through a benchmark's test rows, and how it all compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assets.project import Project, seed_folder, seeds_in
from pipelines.show import show
from wavecore.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from wavecore.judge.significance import SeedMean

DEFAULT = "titan,dlinear,seasonal_naive"
AGAINST = "dlinear:online"


def stream(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str, typer.Option("--stage", "-s", help="Stages, with commas.")] = DEFAULT,
    against: Annotated[
        str, typer.Option(help="stage:learner that all others are held against, by Diebold–Mariano.")
    ] = AGAINST,
    yes: Annotated[bool, typer.Option("--yes", help="Also start runs estimated above pipeline.limit_minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Push the test rows one by one: each label is known only after its horizon; R² and errors of every learner."""
    from pipelines.driver import drive
    from wavecore import stages as ladder

    project = Project.find()
    chosen = tuple(ladder.get(s.strip()).name for s in stage.split(","))
    other = _named(against)
    outcome = drive(
        project, (benchmark,), chosen, online=True, allow_hours=yes, say=lambda line: typer.echo(f"· {line}", err=True)
    )
    if not outcome.ran:
        typer.echo("· everything was up to date", err=True)
    show(rows_of(project, benchmark, chosen, other), as_json)


def _named(against: str) -> tuple[str, str]:
    """stage and learner.

    Raises:
        SettingsError: it is not `stage:learner`, or one of the two does not exist.
    """
    from wavecore import stages as ladder
    from wavecore.stream.settings import LEARNERS

    stage, _, learner = against.partition(":")
    if learner not in LEARNERS:
        raise SettingsError(f"--against {against}: no such learner", f"write stage:learner, of {', '.join(LEARNERS)}")
    return ladder.get(stage).name, learner


def rows_of(
    project: Project, benchmark: str, stages: tuple[str, ...], against: tuple[str, str]
) -> list[dict[str, Any]]:
    """One row per stage and learner, means over seeds: r2, mse, mae; difference of mse from the same stage frozen and
    from `against`, each with the p of Diebold and Mariano on the mean loss of each origin over seeds."""
    horizon = project.catalog().benchmark(benchmark).horizon
    found: dict[tuple[str, str], dict[str, Any]] = {}
    losses: dict[tuple[str, str], SeedMean] = {}
    for stage in stages:
        found |= _means(project, benchmark, stage)
        losses |= _losses(project, benchmark, stage)
    rows = []
    for (stage, learner), row in found.items():
        own = {"benchmark": benchmark, "stage": stage, "learner": learner, **row}
        pairs = {"frozen": (stage, "frozen"), ":".join(against): against}
        for name, other in pairs.items():
            tested = other != (stage, learner) and other in losses and (stage, learner) in losses
            change, p = _held(losses[stage, learner], losses[other], horizon) if tested else (None, None)
            own |= {f"vs {name} %": change, f"p {name}": p}
        rows.append(own)
    return rows


def _means(project: Project, benchmark: str, stage: str) -> dict[tuple[str, str], dict[str, Any]]:
    import numpy as np

    from assets.online import learners_in, pace_in, value
    from assets.storage import read_json
    from wavecore.judge.files import METRICS

    folder = project.online_results(benchmark, stage)
    seeds = {s: read_json(seed_folder(folder, s) / METRICS) for s in seeds_in(folder)}
    if not seeds:
        raise StorageError(f"{folder}: no results of a stream", f"wavecore stream -b {benchmark} -s {stage}")
    found = {}
    for learner in learners_in(next(iter(seeds.values()))):
        row: dict[str, Any] = {"seeds": len(seeds)}
        for metric in ("r2", "mse", "mae"):
            values = [v for long in seeds.values() if (v := value(long, learner, metric)) is not None]
            row[metric] = round(float(np.mean(values)), 5) if values else None
        paces = [p[learner] for s in seeds if learner in (p := pace_in(project, benchmark, stage, s))]
        row["ms"] = round(float(np.median([p["forecast"] + p["learn"] for p in paces])), 2) if paces else None
        found[stage, learner] = row
    return found


def _losses(project: Project, benchmark: str, stage: str) -> dict[tuple[str, str], SeedMean]:
    """Mean loss of each origin over seeds; {} where this clone has the metrics alone."""
    from assets.online import STEPS
    from assets.tables import read_parquet
    from wavecore.judge.significance import average_seeds

    folder = project.online(benchmark, stage)
    tables = [
        read_parquet(seed_folder(folder, s) / STEPS)
        for s in seeds_in(folder)
        if (seed_folder(folder, s) / STEPS).is_file()
    ]
    found = {}
    for learner in tables[0]["learner"].unique(maintain_order=True).to_list() if tables else ():
        own = [table.filter(table["learner"] == learner) for table in tables]
        runs = {i: (t["origin"].to_numpy(), t["mse"].to_numpy()) for i, t in enumerate(own)}
        found[stage, learner] = average_seeds(f"{stage}:{learner}", runs)
    return found


def _held(one: SeedMean, other: SeedMean, horizon: int) -> tuple[float, float | None]:
    """Difference of the mean losses in percent of the other's, and p."""
    import numpy as np

    from wavecore.judge.metrics import rounded
    from wavecore.judge.significance import diebold_mariano

    difference = one.loss - other.loss
    scored = np.isfinite(difference)
    test = diebold_mariano(difference[scored], one.origins[scored], horizon)
    p = rounded(test.p)
    return round(100 * test.effect / float(np.mean(other.loss[scored])), 2), None if p is None else round(p, 5)
