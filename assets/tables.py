"""Reading and writing the store's tables: Parquet in row groups of one size, so that bytes depend on rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from assets.project import Project
from assets.storage import read_json
from data_contracts.catalog import Benchmark, Dataset
from wavecore.errors import StorageError
from wavecore.series.arrays import SeriesArrays, from_values
from wavecore.series.splits import Borders, borders_from

ROW_GROUP = 32_768
SERIES = "series.parquet"
WINDOWS = "windows.parquet"
STATISTICS = "statistics.parquet"
COEFFICIENTS = "coefficients.parquet"
SPLITS = "splits.parquet"
PROMPTS = "prompts.parquet"
SCALER = "scaler.parquet"


def _array(values: Any) -> pa.Array:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    values = np.asarray(values)
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
    if values.dtype.kind in "UO":
        return pa.array(values.tolist(), pa.string())
    return pa.array(values)


def write_parquet(path: Path, chunks: Iterable[Mapping[str, Any]]) -> int:
    """Write chunks of columns ([m] or, for fixed-size lists, [m, k]) as one file. Returns the number of rows.

    Chunks of any size give the same bytes: rows are gathered into groups of ROW_GROUP.
    """
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.Table] = []
    held = rows = 0
    try:
        for chunk in chunks:
            table = pa.table({name: _array(values) for name, values in chunk.items()})
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_texts(table.schema))
            waiting.append(table)
            held += table.num_rows
            rows += table.num_rows
            while held >= ROW_GROUP:
                joined = pa.concat_tables(waiting)
                writer.write_table(joined.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
                waiting, held = [joined.slice(ROW_GROUP)], held - ROW_GROUP
        if writer is not None and held:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _texts(schema: pa.Schema) -> list[str]:
    # Floating-point columns hardly repeat; a dictionary would only cost.
    return [field.name for field in schema if pa.types.is_string(field.type)]


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read one table, whole or some columns of it.

    Raises:
        StorageError: it is missing, truncated or no Parquet.
    """
    if not path.is_file():
        raise StorageError(f"{path}: not there", "materialize the asset that writes it, or `dvc pull`")
    try:
        return pl.read_parquet(path, columns=columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).splitlines()[0]
        raise StorageError(
            f"{path}: not a whole Parquet file ({first})", "materialize it again, or `dvc checkout`"
        ) from error


def row_groups(path: Path) -> Iterable[pl.DataFrame]:
    """The table in pieces of ROW_GROUP rows."""
    if not path.is_file():
        raise StorageError(f"{path}: not there", "materialize the asset that writes it, or `dvc pull`")
    try:
        with pq.ParquetFile(path) as file:
            for i in range(file.num_row_groups):
                frame = pl.from_arrow(file.read_row_group(i))
                assert isinstance(frame, pl.DataFrame)
                yield frame
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(
            f"{path}: not a whole Parquet file ({error})", "materialize it again, or `dvc checkout`"
        ) from error


def load_series(project: Project, dataset: str) -> SeriesArrays:
    """The dataset's series in memory, missing steps filled with the last known value."""
    frame = read_parquet(project.series(dataset) / SERIES)
    channels = frame["channel"].unique(maintain_order=True).to_list()
    times = frame["timestamp"].unique(maintain_order=True)
    values = frame["value"].to_numpy().reshape(len(times), len(channels))
    return from_values(times.to_numpy(), channels, np.array(values, dtype=np.float64))


def borders_of(
    project: Project, dataset: Dataset, benchmark: Benchmark, rows: int, horizon: int | None = None
) -> Borders:
    """The row ranges of a benchmark's splits; `horizon` 1 where only the dataset's borders matter."""
    return borders_from(
        dataset.splits[benchmark.splits],
        rows,
        dataset.step,
        benchmark.window,
        benchmark.horizon if horizon is None else horizon,
        project.settings().judge.select_share,
        f"data_contracts/datasets/{dataset.name}.yaml: splits.{benchmark.splits}",
    )


def load_borders(project: Project, benchmark: str) -> Borders:
    """The row ranges as the `splits` asset wrote them."""
    path = project.splits(benchmark) / "splits.json"
    if not path.is_file():
        raise StorageError(f"{path}: not there", f"wavecore materialize splits {benchmark}")
    found = read_json(path)["borders"]
    return Borders(**{name: (int(lo), int(hi)) for name, (lo, hi) in found.items()})
