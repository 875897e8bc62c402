"""series: one tidy table per dataset, with a regular step and its gaps explicit."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import DATASETS
from assets.producing import Made, Work, check_specs, produce
from assets.versions import Versions


@dg.asset(
    partitions_def=DATASETS,
    deps=["raw_series"],
    group_name="data",
    kinds={"parquet", "polars"},
    description="One tidy table: timestamp, channel, value. Regular step, gaps explicit, treated as declared.",
    check_specs=[
        dg.AssetCheckSpec(
            "readable_as_declared",
            asset="series",
            blocking=True,
            description="The raw file reads as its YAML declares; nothing in it needs an undeclared treatment.",
        ),
        *check_specs("series", "series"),
    ],
)
def series(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _series)


def _series(work: Work) -> Made:
    import polars as pl

    from assets.figures import series_overview
    from assets.ingest.read import read_raw
    from assets.ingest.treat import treat
    from assets.tables import SERIES, write_parquet
    from data_contracts.contracts import validate

    dataset = work.project.catalog().dataset(work.key)
    with work.check("readable_as_declared"):
        frame, treated = treat(read_raw(work.project.raw(dataset.name) / dataset.file, dataset), dataset)
    frame = frame.select(pl.col("timestamp").cast(pl.Datetime("us")), "channel", pl.col("value").cast(pl.Float64))
    channels = frame["channel"].unique(maintain_order=True).to_list()
    context = {
        "step": dataset.step,
        "channels": list(dataset.format.channels or channels),
        "missing": dataset.treatment.missing,
        "constant_channels": dataset.constant_channels,
    }
    if dataset.as_of is not None:
        context["as_of"] = dataset.as_of
    contract = work.require(validate("series", frame, context))
    with work.folder() as folder:
        rows = write_parquet(folder / SERIES, _chunks(frame))
    times = frame["timestamp"].unique(maintain_order=True).to_numpy()
    values = frame["value"].fill_null(float("nan")).to_numpy().reshape(len(times), len(channels))
    return Made(
        metadata={
            "dagster/row_count": rows,
            "channels": ", ".join(channels),
            "steps": frame["timestamp"].n_unique(),
            "step": dataset.step,
            "first": str(times[0]),
            "as_of": str(times[-1]),
            "missing values": int(frame["value"].null_count()),
            "treatment": dg.MetadataValue.json(treated.as_dict()),
            "overview": dg.MetadataValue.md(
                series_overview(times, channels, values, {}).markdown(f"{dataset.title}: every channel")
            ),
            **column_lineage("series"),
        },
        contracts=[contract],
        checks={"readable_as_declared": (True, {"treatment": dg.MetadataValue.json(treated.as_dict())})},
    )


def _chunks(frame: Any) -> Iterator[dict[str, Any]]:
    yield {
        "timestamp": frame["timestamp"].to_arrow(),
        "channel": frame["channel"].to_list(),
        "value": frame["value"].to_arrow(),
    }
