"""splits: which windows a benchmark trains on, selects on, decides on and is tested on."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import BENCHMARKS, DATASET_TO_BENCHMARK, FEATURES_TO_BENCHMARK
from assets.producing import Made, Work, check_specs, produce
from assets.versions import Versions
from data_contracts.catalog import feature_key


@dg.asset(
    partitions_def=BENCHMARKS,
    deps=[
        dg.AssetDep("series", partition_mapping=DATASET_TO_BENCHMARK),
        dg.AssetDep("windows", partition_mapping=FEATURES_TO_BENCHMARK),
    ],
    group_name="features",
    kinds={"parquet"},
    description=(
        "The windows of each split: inputs may reach back into the split before, targets never overlap, none is "
        "dropped. Validation is cut into `select` (early stopping) and `decide`."
    ),
    check_specs=check_specs("splits", "splits"),
)
def splits(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _splits)


def _splits(work: Work) -> Made:
    import numpy as np
    import polars as pl

    from assets.storage import to_json, write_text
    from assets.tables import SPLITS, WINDOWS, borders_of, load_series, read_parquet, write_parquet
    from data_contracts.contracts import validate
    from wavecore.series import splits as rules

    catalog = work.project.catalog()
    benchmark = catalog.benchmark(work.key)
    dataset = catalog.dataset(benchmark.dataset)
    arrays = load_series(work.project, dataset.name)
    borders = borders_of(work.project, dataset, benchmark, arrays.rows)

    index = read_parquet(work.project.features("windows", feature_key(benchmark)) / WINDOWS)
    index = index.filter(pl.col("channel") == arrays.channels[0]).select("window", "origin", "split")

    def chunks() -> Iterator[dict[str, Any]]:
        for split in rules.SPLITS:
            # Of the windows whose first target lies in the split, those whose last one does too.
            last = borders.range_of(split)[1] - benchmark.horizon
            chosen = index.filter((pl.col("split") == split) & (pl.col("origin") <= last))
            window, origin = chosen["window"].to_numpy(), chosen["origin"].to_numpy()
            yield {
                "split": np.full(len(origin), split),
                "window": window,
                "origin": origin,
                "input_start": window,
                "input_end": window + benchmark.window,
                "target_start": origin,
                "target_end": origin + benchmark.horizon,
            }

    with work.folder() as folder:
        rows = write_parquet(folder / SPLITS, chunks())
        ranges = {split: borders.range_of(split) for split in rules.SPLITS}
        described = {
            "borders": {split: list(pair) for split, pair in ranges.items()},
            "first": {split: str(arrays.timestamps[lo]) for split, (lo, _) in ranges.items()},
            "last": {split: str(arrays.timestamps[hi - 1]) for split, (_, hi) in ranges.items()},
        }
        write_text(folder / "splits.json", to_json(described))
        frame = read_parquet(folder / SPLITS)
        contract = work.require(
            validate(
                "splits",
                frame,
                {
                    "window": benchmark.window,
                    "horizon": benchmark.horizon,
                    "steps": arrays.rows,
                    "borders": borders,
                },
            )
        )
    counts = dict(frame.group_by("split", maintain_order=True).len().rows())
    return Made(
        metadata={
            "dagster/row_count": rows,
            "windows": dg.MetadataValue.json(counts),
            "test series": counts["test"] * len(arrays.channels),
            "borders": dg.MetadataValue.json(described),
            **column_lineage("splits"),
        },
        contracts=[contract],
    )
