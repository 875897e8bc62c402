"""raw_series: the file as it was published, generated or handed over, byte for byte."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from assets.partitions import DATASETS
from assets.producing import Made, Work, produce
from assets.versions import Versions
from data_contracts.catalog import OwnSource, PublishedSource


@dg.asset(
    partitions_def=DATASETS,
    group_name="data",
    kinds={"file"},
    description=(
        "The raw file, untouched: from `$WAVECORE_DATA`, a download pinned by sha256, the generator, or your own file."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            "sha256", asset="raw_series", blocking=True, description="The bytes are those that the dataset's YAML pins."
        )
    ],
)
def raw_series(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _obtain)


def _obtain(work: Work) -> Made:
    from assets.ingest.fetch import obtain

    dataset = work.project.catalog().dataset(work.key)
    before = work.outs[0] / dataset.file
    where: str = dataset.source.kind
    with work.folder() as folder:
        own = work.project.root / dataset.source.path if isinstance(dataset.source, OwnSource) else None
        if own is not None and not own.is_file() and before.is_file():
            # A clone on another machine has what `dvc pull` brought, not the user's file itself.
            path, where = (
                Path(shutil.copyfile(before, folder / dataset.file)),
                f"as stored ({own} is not on this machine)",
            )
        else:
            if isinstance(dataset.source, PublishedSource) and before.is_file():
                shutil.copyfile(before, folder / dataset.file)  # obtain() keeps it if its hash is the pinned one
            with work.check("sha256"):
                path = obtain(dataset, folder, work.project.data_dir, work.project.root)
        digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    pinned = dataset.source.sha256 if isinstance(dataset.source, PublishedSource) else None
    return Made(
        metadata={
            "source": where,
            "file": dataset.file,
            "bytes": size,
            "sha256": digest,
            "licence": dataset.licence.name,
            "may go to a public remote": dataset.licence.public_remote,
            "note": dataset.licence.note or "-",
        },
        checks={"sha256": (pinned in (None, digest), {"found": digest, "pinned": pinned or "recorded, not pinned"})},
    )
