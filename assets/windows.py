"""windows: the index of every window of a dataset at one length, with its statistics."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import DATASET_TO_FEATURES, FEATURES
from assets.producing import Made, Work, check_specs, produce
from assets.versions import Versions


@dg.asset(
    partitions_def=FEATURES,
    deps=[dg.AssetDep("series", partition_mapping=DATASET_TO_FEATURES)],
    group_name="features",
    kinds={"parquet"},
    description=(
        "One row per window and channel: split, position, and mean, std, min, max, median, trend and lags in "
        "train-standardized units. Normalized values are a view over this index and the series."
    ),
    check_specs=check_specs("windows", "windows"),
)
def windows(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _windows)


def _windows(work: Work) -> Made:
    import numpy as np

    from assets.tables import SCALER, WINDOWS, borders_of, load_series, read_parquet, write_parquet
    from data_contracts.contracts import validate
    from wavecore.series.features import window_statistics
    from wavecore.series.normalize import Scaler
    from wavecore.series.splits import split_of_origin

    dataset, benchmark = work.project.feature_keys()[work.key]
    settings = work.project.settings().features_of(dataset.name, benchmark.window)
    arrays = load_series(work.project, dataset.name)
    # The borders of the rows alone: a window of the index belongs to no horizon yet.
    borders = borders_of(work.project, dataset, benchmark, arrays.rows, horizon=1)
    scaler = Scaler.fit(arrays, borders.train)
    names = np.array(arrays.channels)
    step = benchmark.window - 1

    def chunks() -> Iterator[dict[str, Any]]:
        for chunk in window_statistics(arrays, scaler, benchmark.window, settings):
            start = chunk["start"]
            yield {
                "split": split_of_origin(borders, start + benchmark.window),
                "window": start,
                "channel": names[chunk["channel"]],
                "start": start,
                "origin": start + benchmark.window,
                "as_of": arrays.timestamps[start + step],
                **{k: v for k, v in chunk.items() if k not in ("start", "channel")},
            }

    with work.folder() as folder:
        rows = write_parquet(folder / WINDOWS, chunks())
        write_parquet(folder / SCALER, [{"channel": names, "center": scaler.center, "scale": scaler.scale}])
        frame = read_parquet(folder / WINDOWS)
        contract = work.require(
            validate(
                "windows",
                frame,
                {
                    "channels": arrays.channels,
                    "window": benchmark.window,
                    "steps": arrays.rows,
                    "lags": settings.lags,
                    "borders": borders,
                },
            )
        )
    counts = frame.group_by("split", maintain_order=True).len().rows()
    return Made(
        metadata={
            "dagster/row_count": rows,
            "window": benchmark.window,
            "rows per split": dg.MetadataValue.json(dict(counts)),
            "train rows": f"{borders.train[0]} to {borders.train[1]}",
            "channels constant in train": ", ".join(scaler.constant) or "none",
            "sample": dg.MetadataValue.md(_table(frame.head(5))),
            **column_lineage("windows"),
        },
        contracts=[contract],
    )


def _table(frame: Any) -> str:
    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * len(frame.columns)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.iter_rows()]
    return "\n".join(lines)
