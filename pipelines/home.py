"""The project's own Dagster home: its settings, its instance, and runs whose process is gone."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock

from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import alive, recover, sweep, write_text
from wavecore.errors import StorageError, WavecoreError

log = logging.getLogger("wavecore")

# dagster.yaml is read from DAGSTER_HOME only. Without `nux` off a dialog covers the page of a new user.
_DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
run_queue:
  max_concurrent_runs: 1
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
"""

# Runs on their way. Those still in the queue carry no process id and are left alone.
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# The same storage, without the capture of standard output: in a terminal the progress bars belong to the terminal.
_DRIVER_YAML = (
    _DAGSTER_YAML
    + """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
)


def prepare(project: Project) -> None:
    """Point DAGSTER_HOME at the store and write its settings. A foreign DAGSTER_HOME is not used."""
    home = project.dagster_home
    for name, text in (("dagster.yaml", _DAGSTER_YAML), ("driver.yaml", _DRIVER_YAML)):
        if not (home / name).is_file() or (home / name).read_text(encoding="utf-8") != text:
            write_text(home / name, text)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["WAVECORE_ROOT"] = str(project.root)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@contextmanager
def instance_of(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance, after what a killed process left has been cleared away."""
    with _full_disk_named(project):
        prepare(project)
        clear(project)
        with dg.DagsterInstance.from_config(str(project.dagster_home), "driver.yaml") as instance:
            fail_orphans(instance)
            yield instance


@contextmanager
def _full_disk_named(project: Project) -> Iterator[None]:
    """Turn what Dagster's database says about a full disk into the error that every other writer gives."""
    try:
        yield
    except WavecoreError:
        raise
    except Exception as error:
        if not any(_says_full(e, project.store) for e in causes(error)):
            raise
        raise StorageError(
            f"{project.dagster_home}: the disk is full; what was there before is unchanged",
            "free some space and run again",
        ) from None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, each once: chains of causes may run in a circle."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        at = todo.pop()
        if at is not None and not any(at is s for s in seen):
            seen.append(at)
            yield at
            todo += [at.__context__, at.__cause__]


def _says_full(error: BaseException, store: Path) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        # Without room for its journal SQLite only speaks of a disk I/O error.
        return "disk is full" in str(error) or ("disk I/O" in str(error) and shutil.disk_usage(store).free < 2**20)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def clear(project: Project) -> None:
    """Bring back what a killed process left half done, and say so."""
    for folder in (*project.unfinished, project.store / "locks"):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(project.store / "locks" / "recover.lock"):
        for path in [path for folder in project.unfinished for path in recover(folder)]:
            log.warning("%s had stepped aside when a run was killed; it is back in its place", path)
        for folder in _written_in(project):
            sweep(folder)


def _written_in(project: Project) -> list[Path]:
    """Folders in which single files are written: settings, DVC's files, notes and views."""
    root, catalog = project.root, project.catalog_folder
    single = [root, root / "pipelines" / "on_demand", catalog / "datasets", catalog / "benchmarks"]
    views = [project.report, project.dagster_home, project.runs, *(folder / "aside" for folder in project.unfinished)]
    return [*single, *views, *(path for path in project.runs.rglob("*") if path.is_dir())]


def fail_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone; they would stay 'started' for ever. Returns their ids."""
    gone = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        process = record.dagster_run.tags.get(PROCESS_TAG)
        if process is not None and not alive(process):
            instance.report_run_failed(record.dagster_run, "its process is gone (killed, or the machine was restarted)")
            gone.append(record.dagster_run.run_id)
    return gone
