"""The one driver: the asset sub-selections in order, in this process, on the project's own Dagster instance.

The command line, DVC's stages and the schedule all come through here. One Dagster run cannot cross partition
definitions, so each step is a run of its own; what is up to date by DVC's word is left alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from assets.model import ALLOW_HOURS, SEED
from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import owner
from pipelines.dvc import dirty
from pipelines.home import causes, instance_of
from pipelines.steps import Step, step_of, steps_of
from wavecore.errors import Interrupted, WavecoreError

VIEWS = ("comparison", "leaderboard", "report")
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a drive did.

    Attributes:
        ran: names of the steps that ran, in order.
        fresh: names of the steps that were up to date.
    """

    ran: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)


def drive(
    project: Project,
    benchmarks: Sequence[str],
    stages: Sequence[str],
    *,
    seed: int | None = None,
    allow_hours: bool = False,
    views: bool = True,
    online: bool = False,
    say: Say = lambda line: None,
) -> Outcome:
    """Bring a matrix of benchmarks × stages up to date, then the views over all results.

    Args:
        benchmarks, stages: names.
        seed: train only this one of the seeds that params.yaml asks for.
        allow_hours: let training runs start whose estimate is above `pipeline.limit_minutes`.
        online: run them through their streams too.
        views: make comparison, leaderboard and report anew at the end.
        say: told a line per step.

    Raises:
        WavecoreError: as the assets raise it; what was there before is unchanged.
    """
    outcome = Outcome()
    steps = steps_of(project, tuple(benchmarks), tuple(stages), online)
    _check_models(project, benchmarks, stages)
    tags = {SEED: str(seed)} if seed is not None else {}
    if allow_hours:
        tags[ALLOW_HOURS] = "true"
    with instance_of(project) as instance:
        changed = _own_files_changed(project, steps)
        pending = dirty(project, steps)
        for step in steps:
            if step.name not in pending and step.name not in changed:
                outcome.fresh.append(step.name)
                continue
            say(f"{step.asset}  {step.key}")
            _execute(instance, step.asset, step.key, tags)
            outcome.ran.append(step.name)
            # What comes after is looked at again: it may have become stale, or turn out the same.
            later = [s for s in steps[steps.index(step) + 1 :] if set(s.deps) & set(step.outs)]
            if later:
                pending = (pending - {s.name for s in later}) | dirty(project, later)
        if views:
            say("comparison, leaderboard, report")
            _execute_views(instance)
    return outcome


def refresh(project: Project) -> None:
    """Make comparison, leaderboard and report of the present results."""
    with instance_of(project) as instance:
        _execute_views(instance)


def _check_models(project: Project, benchmarks: Sequence[str], stages: Sequence[str]) -> None:
    """A misspelled model setting is an error now, not after all features were computed."""
    from wavecore.model.build import model_settings
    from wavecore.stages import get

    settings = project.settings()
    for benchmark in benchmarks:
        for stage in stages:
            model_settings(get(stage), settings, benchmark)


def materialize(project: Project, asset: str, key: str, tags: dict[str, str] | None = None) -> None:
    """Materialize one partition of one asset, or one of the views; the way of DVC's stages."""
    with instance_of(project) as instance:
        if asset in VIEWS:
            _execute_views(instance)
        else:
            step = step_of(project, asset, key)
            _execute(instance, step.asset, step.key, tags or {})


def _own_files_changed(project: Project, steps: Sequence[Step]) -> set[str]:
    """raw_series of datasets whose own file on this machine is not the one in the store any more.

    DVC does not watch that file: a clone elsewhere has it not, and must still be clean.
    """
    from assets.ingest.files import sha256_of
    from data_contracts.catalog import OwnSource

    found = set()
    for step in steps:
        if step.asset != "raw_series":
            continue
        dataset = project.catalog().dataset(step.key)
        if isinstance(dataset.source, OwnSource):
            own, stored = project.root / dataset.source.path, project.raw(dataset.name) / dataset.file
            if own.is_file() and (not stored.is_file() or sha256_of(own) != sha256_of(stored)):
                found.add(step.name)
    return found


def _execute(instance: dg.DagsterInstance, asset: str, key: str, tags: dict[str, str]) -> None:
    from pipelines.definitions import defs

    partition: str | dg.MultiPartitionKey = key
    if "|" in key:
        benchmark, stage = key.split("|")
        partition = dg.MultiPartitionKey({"benchmark": benchmark, "stage": stage})
    _in_process(defs, instance, [dg.AssetKey(asset)], partition, tags)


def _execute_views(instance: dg.DagsterInstance) -> None:
    from pipelines.definitions import defs

    # statsmodels collects garbage with each correction of p values, of which a benchmark needs one per view: among all
    # that Dagster and torch have loaded that takes longer than the views. What is loaded by now is left out of it.
    gc.freeze()
    try:
        _in_process(defs, instance, [dg.AssetKey(name) for name in VIEWS], None, {})
    finally:
        gc.unfreeze()


def _in_process(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    selection: list[dg.AssetKey],
    partition: str | None,
    tags: dict[str, str],
) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    try:
        job.execute_in_process(
            asset_selection=selection,
            partition_key=partition,
            instance=instance,
            # Dagster's own events stay in its log; the user is told of an error once, by `main`.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={PROCESS_TAG: owner(), **tags},
            raise_on_error=True,
        )
    except WavecoreError:
        raise
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        # An error of our own: the command line would end on KeyboardInterrupt without a word.
        raise Interrupted(f"{selection[0].path[-1]} was stopped", "run the same command again to go on") from None
    except Exception as error:
        meant = _meant_for_user(error)
        if meant is None:
            raise
        raise meant from None


def _meant_for_user(error: BaseException) -> WavecoreError | None:
    """The project's own error behind one that Dagster raised."""
    return next((e for e in causes(error) if isinstance(e, WavecoreError)), None)
