"""`wavecore stream`: what learns while it forecasts, through a benchmark's test rows, and how it all compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assets.project import Project, seed_folder
from assets.streamed import standing, streams_left_out
from pipelines.online_compared import Pair, Tested, compared, keep
from pipelines.show import show
from wavecore.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from wavecore.judge.significance import SeedMean

DEFAULT = "titan,dlinear,seasonal_naive"
AGAINST = ("dlinear", "online")


def stream(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str, typer.Option("--stage", "-s", help="Stages, with commas.")] = DEFAULT,
    against: Annotated[
        str | None,
        typer.Option(help="stage:learner that all others are held against; default dlinear:online where it is run."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also start runs estimated above pipeline.limit_minutes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is left and how long it takes.")] = False,
    shown: Annotated[bool, typer.Option("--show", help="Run nothing; show what results/ has.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Push the test rows one by one: each label is known only after its horizon; R² and errors of every learner."""
    from pipelines.driver import drive
    from wavecore import stages as ladder

    project = Project.find()
    chosen = tuple(ladder.get(s.strip()).name for s in stage.split(","))
    other = _named(project, benchmark, chosen, against)
    if dry_run:
        from pipelines.online_plan import planned

        left = planned(project, project.catalog().benchmark(benchmark).name, chosen)
        show([row._asdict() | {"minutes": round(row.minutes, 1)} for row in left], as_json)
        minutes = sum(row.minutes for row in left)
        typer.echo(f"{minutes:.1f} minutes of streams left on this machine; training is not counted", err=True)
        return
    if not shown:
        outcome = drive(
            project, (benchmark,), chosen, online=True, allow_hours=yes,
            say=lambda line: typer.echo(f"· {line}", err=True),
        )  # fmt: skip
        if not outcome.ran:
            typer.echo("· everything was up to date", err=True)
    for line in streams_left_out(project, benchmark, chosen):
        typer.echo(f"· {line}", err=True)
    rows, tested = rows_of(project, benchmark, chosen, other)
    keep(project, benchmark, tested)
    show(rows, as_json)


def _named(project: Project, benchmark: str, stages: tuple[str, ...], against: str | None) -> tuple[str, str] | None:
    """stage and learner; None where nothing was asked for and the default is not run.

    Raises:
        SettingsError: it is not `stage:learner` of a stage and a learner that are run.
    """
    settings = project.settings()
    if against is None:
        stage, learner = AGAINST
        return AGAINST if stage in stages and learner in settings.online_of(benchmark, stage).learners else None
    stage, _, learner = against.partition(":")
    if stage not in stages:
        raise SettingsError(
            f"--against {against}: the stage {stage!r} is not among those that are run",
            f"write stage:learner, with a stage of {', '.join(stages)}, or add it to --stage",
        )
    learners = settings.online_of(benchmark, stage).learners
    if learner not in learners:
        raise SettingsError(
            f"--against {against}: no such learner is run", f"write stage:learner, of {', '.join(learners)}"
        )
    return stage, learner


def rows_of(
    project: Project, benchmark: str, stages: tuple[str, ...], against: tuple[str, str] | None
) -> tuple[list[dict[str, Any]], dict[Pair, Tested]]:
    """One row per stage and learner, means over seeds: r2, mse, mae; difference of mse from the same stage frozen and
    from `against`, each with the p of Diebold and Mariano on the mean loss of each origin over seeds. And what was
    tested for it here; where the losses are on another machine, a row has what was kept of them."""
    before = compared(project, benchmark)
    tested: dict[Pair, Tested] = {}
    horizon = project.catalog().benchmark(benchmark).horizon
    found: dict[tuple[str, str], dict[str, Any]] = {}
    losses: dict[tuple[str, str], SeedMean] = {}
    for stage in stages:
        found |= _means(project, benchmark, stage)
        losses |= _losses(project, benchmark, stage)
    if against is not None and against not in found:
        raise SettingsError(
            f"--against {':'.join(against)}: it was not run: the stage has no weights that learn, or the stream is too "
            "short for it",
            "choose frozen",
        )
    rows, missing = [], False
    for (stage, learner), row in found.items():
        own = {"benchmark": benchmark, "stage": stage, "learner": learner, **row}
        pairs = {"frozen": (stage, "frozen")} | ({":".join(against): against} if against else {})
        for name, other in pairs.items():
            pair = Pair(stage, learner, *other)
            if other != (stage, learner) and other in losses and (stage, learner) in losses:
                tested[pair] = _held(losses[stage, learner], losses[other], horizon)
            one = tested.get(pair) or before.get(pair)
            own |= {f"vs {name} %": one.percent if one else None, f"p {name}": one.p if one else None}
            missing |= one is None and other != (stage, learner) and other in found
        rows.append(own)
    if missing:
        typer.echo("· the errors of some rows are on the machine that streamed them: not all is tested", err=True)
    return rows, tested


def _means(project: Project, benchmark: str, stage: str) -> dict[tuple[str, str], dict[str, Any]]:
    import numpy as np

    from assets.streamed import pace_in
    from assets.streaming import learners_in, value

    seeds = standing(project, benchmark, stage)
    if not seeds:
        raise StorageError(
            f"{project.online_results(benchmark, stage)}: no results of a stream",
            f"wavecore stream -b {benchmark} -s {stage}",
        )
    found = {}
    for learner in learners_in(next(iter(seeds.values()))):
        row: dict[str, Any] = {"seeds": len(seeds)}
        for metric in ("r2", "mse", "mae"):
            values = [v for long in seeds.values() if (v := value(long, learner, metric)) is not None]
            row[metric] = round(float(np.mean(values)), 5) if values else None
        rates = [rate for long in seeds.values() if (rate := value(long, learner, "rate")) is not None]
        row["rate"] = ", ".join(f"{rate:g}" for rate in dict.fromkeys(rates)) or None
        paces = [p[learner] for s in seeds if learner in (p := pace_in(project, benchmark, stage, s))]
        row["ms"] = round(float(np.median([p["forecast"] + p["learn"] for p in paces])), 2) if paces else None
        found[stage, learner] = row
    return found


def _losses(project: Project, benchmark: str, stage: str) -> dict[tuple[str, str], SeedMean]:
    """Mean loss of each origin over seeds; {} where this clone has not all of them."""
    from assets.streaming import STEPS
    from assets.tables import read_parquet
    from wavecore.judge.significance import average_seeds

    folder = project.online(benchmark, stage)
    paths = [seed_folder(folder, s) / STEPS for s in standing(project, benchmark, stage)]
    if not all(path.is_file() for path in paths):
        return {}
    tables = [read_parquet(path) for path in paths]
    found = {}
    for learner in tables[0]["learner"].unique(maintain_order=True).to_list() if tables else ():
        own = [table.filter(table["learner"] == learner) for table in tables]
        runs = {i: (t["origin"].to_numpy(), t["mse"].to_numpy()) for i, t in enumerate(own)}
        found[stage, learner] = average_seeds(f"{stage}:{learner}", runs)
    return found


def _held(one: SeedMean, other: SeedMean, horizon: int) -> Tested:
    """One against the other, origin by origin."""
    import numpy as np

    from wavecore.judge.metrics import rounded
    from wavecore.judge.significance import diebold_mariano

    difference = one.loss - other.loss
    scored = np.isfinite(difference)
    test = diebold_mariano(difference[scored], one.origins[scored], horizon)
    p = rounded(test.p)
    percent = round(100 * test.effect / float(np.mean(other.loss[scored])), 2)
    return Tested(percent, None if p is None else float(f"{p:.2g}"))
