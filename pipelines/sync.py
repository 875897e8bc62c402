"""After `dvc pull` or an edit: the generated DVC files, Dagster and the DuckDB file brought up to what is there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import dagster as dg

from assets.project import Project
from assets.versions import data_version, dvc_hash
from pipelines.dvc_files import default_steps, known_steps, write_files
from pipelines.home import instance_of
from pipelines.sql import write_database
from pipelines.steps import Step

_VERSION_TAG = "dagster/data_version"
# So many steps are named one by one; a fresh clone lacks all that ever ran.
NAMED = 12


@dataclass(frozen=True)
class Synced:
    """What `sync` did.

    Attributes:
        reported: steps now known to Dagster as materialized.
        known: steps that Dagster knew already with the same data version.
        absent: steps of the files whose artifacts are not here.
        files_changed: whether dvc.yaml or the one on demand was rewritten.
    """

    reported: tuple[str, ...]
    known: tuple[str, ...]
    absent: tuple[str, ...]
    files_changed: bool


def in_short(steps: tuple[str, ...]) -> str:
    """Names of steps, or of many how many of each asset."""
    if len(steps) <= NAMED:
        return ", ".join(steps)
    counts = Counter(name.partition("@")[0] for name in steps)
    return f"{len(steps)} artifacts ({', '.join(f'{asset} {count}' for asset, count in counts.items())})"


def sync(project: Project) -> Synced:
    """Report every artifact that exists to Dagster, with its DVC hash as data version."""
    changed = write_files(project)
    steps = list(dict.fromkeys([*default_steps(project), *known_steps(project)]))
    reported, known, absent = [], [], []
    with instance_of(project) as instance:
        for step in steps:
            hashes = [dvc_hash(project.root / out) for out in step.outs]
            whole = [h for h in hashes if h is not None]
            if len(whole) < len(hashes):
                absent.append(step.name)
                continue
            version = data_version(whole)
            if _latest(instance, step) == version:
                known.append(step.name)
                continue
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    asset_key=step.asset,
                    partition=step.key,
                    tags={_VERSION_TAG: version},
                    metadata={"dvc_hash": version, "reported by": "wavecore sync"},
                    description="Found in the store, not made by a run of this instance.",
                )
            )
            reported.append(step.name)
    write_database(project)
    return Synced(tuple(reported), tuple(known), tuple(absent), changed)


def _latest(instance: dg.DagsterInstance, step: Step) -> str | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(step.asset), asset_partitions=[step.key]), limit=1
    ).records
    if not records or records[0].asset_materialization is None:
        return None
    return (records[0].asset_materialization.tags or {}).get(_VERSION_TAG)
