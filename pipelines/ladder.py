"""`wavecore ladder`: every stage of the ladder with every seed on one benchmark, as far as results are missing.

What is done is told by `results/`, which lies in git, and the series: no model need be there, so a clone on another
machine goes on where this one stopped.
Seed by seed, so that after the first round every stage has a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assets.project import Project, seed_folder
from assets.standing import State, state_of
from pipelines.plan import estimate, ground_of
from pipelines.show import show, show_leaderboard, warn_unlike
from wavecore import stages
from wavecore.errors import SettingsError, StorageError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Rung:
    """One stage with one seed.

    Attributes:
        state: `done`: results/ holds what a run with the present settings, data, language model and code gave, on
            whatever machine and versions of libraries.
    """

    stage: str
    seed: int
    state: State


def rungs(project: Project, benchmark: str, chosen: tuple[str, ...], seeds: int) -> list[Rung]:
    """Everything the ladder asks for, seed by seed and up the ladder, and whether it is done.

    Args:
        chosen: stages; a stage without chance has one seed.
        seeds: how many, from 0 on.

    Raises:
        StorageError: the benchmark's series and splits are not made yet.
        SettingsError: a stage that does not exist.
    """
    ground = ground_of(project, benchmark)
    ladder = sorted((stages.get(name) for name in chosen), key=lambda stage: stages.order(stage.name))
    return [
        Rung(stage.name, seed, state_of(project, ground, stage, seed, _results(project, benchmark, stage.name, seed)))
        for seed in range(seeds)
        for stage in ladder
        if seed == 0 or stage.seeded
    ]


def _results(project: Project, benchmark: str, stage: str, seed: int) -> Path:
    return seed_folder(project.results(benchmark, stage), seed)


def _model_here(project: Project, benchmark: str, stage: str, seed: int) -> bool:
    """Whether the model that the results of a seed are of is on this machine."""
    from assets.storage import read_json
    from wavecore.judge.files import MANIFEST
    from wavecore.learn.checkpoint import read_manifest

    judged = read_json(_results(project, benchmark, stage, seed) / MANIFEST)
    try:
        return bool(
            read_manifest(seed_folder(project.models(benchmark, stage), seed))["manifest_hash"] == judged["model"]
        )
    except StorageError:
        return False


def minutes_of(project: Project, benchmark: str, left: list[Rung]) -> dict[str, float]:
    """Minutes per stage that is left, for one seed, from a few real steps on this machine."""
    names = dict.fromkeys(rung.stage for rung in left)
    return {name: estimate(project, benchmark, name, None).minutes for name in names}


def check_seeds(project: Project, benchmark: str, chosen: tuple[str, ...], seeds: int) -> None:
    """Make sure that params.yaml asks for all seeds that the ladder wants.

    Raises:
        SettingsError: it does not; the message names the place.
    """
    settings = project.settings()
    for name in chosen:
        wanted = settings.seeds_of(benchmark, name)
        lacking = [seed for seed in range(seeds) if seed not in wanted] if stages.get(name).seeded else []
        if lacking:
            family = stages.get(name).family
            raise SettingsError(
                f"the ladder wants seeds {list(range(seeds))}, params.yaml has {list(wanted)} for {benchmark} {name}",
                f"set `seeds: {list(range(seeds))}` under overrides.benchmarks.{benchmark}.{family}",
            )


def climb(
    project: Project, benchmark: str, chosen: tuple[str, ...], seeds: int, say: Callable[[str], None]
) -> Iterator[Rung]:
    """Run what is left, one after another; gives each when it is done. Stopped, it goes on when it is run again.

    Raises:
        WavecoreError: as `pipelines.driver.drive`.
    """
    from pipelines.driver import drive

    try:
        ground_of(project, benchmark)
    except StorageError:
        # Series and splits first; the baseline without weights makes them.
        drive(project, (benchmark,), ("seasonal_naive",), views=False, say=say)
    ground, every = ground_of(project, benchmark), rungs(project, benchmark, chosen, seeds)
    for rung in every:
        stage = stages.get(rung.stage)
        # Again, since a run may have done more than its own seed.
        if state_of(project, ground, stage, rung.seed, _results(project, benchmark, stage.name, rung.seed)) == "done":
            continue
        elsewhere = [
            other.seed for other in every if (other.stage, other.state) == (stage.name, "done")
            and not _model_here(project, benchmark, stage.name, other.seed)
        ]  # fmt: skip
        if elsewhere:
            # A stage's models are versioned together: with one of them missing no other could be committed.
            say(f"{stage.name}: the models of seeds {elsewhere} are not on this machine, so all seeds are trained here")
        drive(
            project,
            (benchmark,),
            (rung.stage,),
            seed=rung.seed if stage.seeded and not elsewhere else None,
            allow_hours=True,
            views=False,
            say=say,
        )
        yield rung


def ladder(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Only these stages, with commas; default: pipeline.ladder.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0 on.", min=1)] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is left and how long it takes.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write what is left to this folder, for `python -m wavecore.ladder` elsewhere.")
    ] = None,
    take: Annotated[Path | None, typer.Option(help="Take the results of such a folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Every stage of the ladder with every seed: skips what results/ has, and goes on where it was stopped."""
    project = Project.find()
    name, asked = project.catalog().benchmark(benchmark).name, project.settings().pipeline.ladder
    chosen = tuple(stages.get(s.strip()).name for s in stage.split(",")) if stage else asked
    if not chosen:
        raise SettingsError("params.yaml: pipeline.ladder names no stage", "name some, or give --stage")
    given = [flag for flag, value in (("--export", export), ("--take", take), ("--dry-run", dry_run)) if value]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} at once", "one after the other")
    if take is not None:
        from pipelines.away import take as taken_from

        for rung in taken_from(project, name, take, chosen if stage else ()):
            typer.echo(f"· taken: {rung.stage} seed {rung.seed}", err=True)
        return
    check_seeds(project, name, chosen, seeds)
    if export is not None:
        from pipelines.away import export as export_to

        count = export_to(project, name, chosen, seeds, export)
        typer.echo(f"{count} to train and judge: python -m wavecore.ladder {export}", err=True)
        return
    if dry_run:
        every = rungs(project, name, chosen, seeds)
        left = [rung for rung in every if rung.state != "done"]
        minutes = minutes_of(project, name, left)
        show(
            [
                {"stage": r.stage, "seed": r.seed, "state": r.state, "minutes": round(minutes.get(r.stage, 0.0), 1)}
                if r.state != "done"
                else {"stage": r.stage, "seed": r.seed, "state": r.state, "minutes": None}
                for r in every
            ],
            as_json,
        )
        hours = sum(minutes[rung.stage] for rung in left) / 60
        typer.echo(f"{len(every) - len(left)} of {len(every)} done; {hours:.1f} hours left on this machine", err=True)
        return
    done = 0
    for rung in climb(project, name, chosen, seeds, lambda line: typer.echo(f"· {line}", err=True)):
        done += 1
        typer.echo(f"· done: {rung.stage} seed {rung.seed}", err=True)
    from assets.results import leaderboard_rows
    from pipelines.driver import refresh

    refresh(project)
    typer.echo(f"· {done} trained and judged now; all of {name}:", err=True)
    warn_unlike(project, name)
    show_leaderboard([row for row in leaderboard_rows(project, name) if row["stage"] in chosen], as_json)
