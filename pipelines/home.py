"""The project's own Dagster home: its settings, its instance, and runs whose process is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import alive, recover, write_text
from pipelines.dvc import mend_locks

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


def prepare(project: Project) -> None:
    """Point DAGSTER_HOME at the store and write its settings. A foreign DAGSTER_HOME is not used."""
    home = project.dagster_home
    path = home / "dagster.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != _DAGSTER_YAML:
        write_text(path, _DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["WAVECORE_ROOT"] = str(project.root)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@contextmanager
def instance_of(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance, after what a killed process left has been cleared away."""
    prepare(project)
    clear(project)
    with dg.DagsterInstance.get() as instance:
        fail_orphans(instance)
        yield instance


def clear(project: Project) -> list[str]:
    """Bring back what a killed process left half done. Returns what was mended, in words."""
    mended = [f"brought back {path}" for path in recover(project.store / "tmp")]
    return mended + [f"restored {name}" for name in mend_locks(project)]


def fail_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone; they would stay 'started' for ever. Returns their ids."""
    gone = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        process = record.dagster_run.tags.get(PROCESS_TAG)
        if process is not None and not alive(process):
            instance.report_run_failed(record.dagster_run, "its process is gone (killed, or the machine was restarted)")
            gone.append(record.dagster_run.run_id)
    return gone
