"""Plain SQL over everything the pipeline wrote: views built in memory, so no lock and no path that can break."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl

from assets.project import Project, seed_folder, seeds_in
from assets.results import runs
from assets.storage import owner
from wavecore.errors import StorageError, WavecoreError
from wavecore.judge.files import METRICS

DATABASE = "wavecore.duckdb"
_ATTEMPTS = 6
# Kinds of statement that answer. What another one does is gone with this connection: it would look done and be nothing.
_ANSWERS = ("CALL", "COPY", "EXECUTE", "EXPLAIN", "MULTI", "PRAGMA", "RELATION", "SELECT")
log = logging.getLogger("wavecore")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _parquet_views(project: Project) -> Iterator[tuple[str, str]]:
    """Name and query of every view over Parquet files that exist."""
    store = project.store
    kinds = [
        ("series", "series/*/series.parquet", "dataset"),
        ("windows", "windows/*/windows.parquet", "features"),
        ("scalers", "windows/*/scaler.parquet", "features"),
        ("wavelet_statistics", "wavelets/*/statistics.parquet", "features"),
        # Other depths have other columns; where a table lacks one, it is null.
        ("wavelet_coefficients", "wavelets/*/coefficients.parquet", "features"),
        ("prompt_statistics", "prompts/*/statistics.parquet", "features"),
        ("splits", "splits/*/splits.parquet", "benchmark"),
        ("prompts", "prompt_ids/*/prompts.parquet", "benchmark"),
    ]
    for name, pattern, key in kinds:
        files = sorted(store.glob(pattern))
        if files:
            listed = ", ".join(_quoted(str(f)) for f in files)
            query = (
                f"select parse_path(filename)[-2] as {key}, * exclude (filename) "
                f"from read_parquet([{listed}], filename=true, union_by_name=true, hive_partitioning=false)"
            )
            yield name, query
    for name, pattern in (
        ("forecasts", "evaluations/*/*/seed=*/forecasts.parquet"),
        ("streams", "online/*/*/seed=*/steps.parquet"),
    ):
        files = sorted(store.glob(pattern))
        if not files:
            continue
        listed = ", ".join(_quoted(str(f)) for f in files)
        yield (
            name,
            "select parse_path(filename)[-4] as benchmark, parse_path(filename)[-3] as stage, "
            "cast(replace(parse_path(filename)[-2], 'seed=', '') as integer) as seed, * exclude (filename) "
            f"from read_parquet([{listed}], filename=true, union_by_name=true, hive_partitioning=false)",
        )
    if list(store.glob("windows/*/windows.parquet")):
        # (value − center)/scale, then (… − mean)/√(std² + 1e-5): R1, step by step of the window.
        yield (
            "normalized",
            """
            select w.features, w.split, w.window, w.channel, s.step, s.timestamp,
                   ((coalesce(s.filled, c.center) - c.center) / c.scale - w.mean) / sqrt(w.std * w.std + 1e-5) as value
            from windows w
            join scalers c on c.features = w.features and c.channel = w.channel
            join (
                select dataset, channel, timestamp,
                       last_value(value ignore nulls) over (partition by dataset, channel order by timestamp
                           rows between unbounded preceding and current row) as filled,
                       row_number() over (partition by dataset, channel order by timestamp) - 1 as step
                from series
            ) s on s.dataset = split_part(w.features, '.', 1) and s.channel = w.channel
               and s.step >= w.start and s.step < w.origin
            """,
        )


def _frames(project: Project) -> dict[str, pl.DataFrame]:
    """The small tables of results/, as frames."""
    found = runs(project)
    evaluation = [run.row() for run in found]
    metrics = [
        (run.benchmark, run.stage, run.seed, run.long["split"], *row) for run in found for row in run.long["rows"]
    ]
    losses = [
        (run.benchmark, run.stage, run.seed, o, mse, mae)
        for run in found
        for o, mse, mae in zip(run.losses["origin"], run.losses["mse"], run.losses["mae"], strict=True)
    ]
    online = []
    curves = []
    catalog = project.catalog()
    from wavecore.stages import names

    for benchmark in catalog.benchmarks:
        for stage in names():
            streamed = project.online_results(benchmark, stage)
            for seed in seeds_in(streamed):
                long = json.loads((seed_folder(streamed, seed) / METRICS).read_text())
                online += [(benchmark, stage, seed, *row) for row in long["rows"]]
            folder = project.models(benchmark, stage)
            for seed in seeds_in(folder):
                path = seed_folder(folder, seed) / "curve.json"
                if path.is_file():
                    curves += [
                        (benchmark, stage, seed, r["step"], r["loss"], r["select"], r["learning_rate"])
                        for r in json.loads(path.read_text())
                    ]
    run_keys = {"benchmark": pl.String, "stage": pl.String, "seed": pl.Int64}
    return {
        "evaluation": pl.DataFrame(
            evaluation,
            schema=run_keys
            | {"mse": pl.Float64, "mae": pl.Float64, "mase": pl.Float64}
            | {
                "n_series": pl.Int64,
                "n_windows": pl.Int64,
                "n_origins_unscored": pl.Int64,
                "train_seconds": pl.Float64,
            },
        ),
        "metrics": pl.DataFrame(
            metrics,
            schema=run_keys
            | {"split": pl.String, "metric": pl.String, "group": pl.String, "key": pl.String}
            | {"value": pl.Float64, "n": pl.Int64},
            orient="row",
            infer_schema_length=None,
        ),
        "losses": pl.DataFrame(
            losses, schema=run_keys | {"origin": pl.Int64, "mse": pl.Float64, "mae": pl.Float64}, orient="row"
        ),
        "online": pl.DataFrame(
            online,
            schema=run_keys | dict.fromkeys(("learner", "metric", "key"), pl.String) | {"value": pl.Float64},
            orient="row",
        ),
        "curves": pl.DataFrame(
            curves,
            schema=run_keys | {"step": pl.Int64, "loss": pl.Float64, "select": pl.Float64, "learning_rate": pl.Float64},
            orient="row",
        ),
    }


def connect(project: Project, database: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with all views.

    Args:
        database: a file for other clients; None: in memory.
    """
    connection = duckdb.connect(str(database) if database else ":memory:")
    for name, query in _parquet_views(project):
        try:
            connection.execute(f"create or replace view {name} as {query}")
        except duckdb.Error as error:
            # One damaged table must not silence the others; a query that needs it says that it is not there.
            log.warning("the view %s is left out: %s", name, str(error).splitlines()[0])
    for name, frame in _frames(project).items():
        connection.register(f"_{name}", frame.to_arrow())
        if database:
            connection.execute(f"create or replace table {name} as select * from _{name}")
        else:
            connection.execute(f"create or replace view {name} as select * from _{name}")
    comparison = project.report / "comparison.parquet"
    if comparison.is_file():
        connection.execute(f"create or replace view comparison as from read_parquet({_quoted(str(comparison))})")
    return connection


def query(project: Project, text: str) -> pl.DataFrame:
    """Answer one query.

    A run may be swapping a table at this very moment: for an instant it is not there, then its file is another one. So
    where a table is missed, the views are made anew a few times.

    Raises:
        WavecoreError: DuckDB refuses it; its message and the tables there are come with it. Or it gives no answer.
    """
    _only_asks(text)
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        time.sleep(0.02 * attempt)
        try:
            with connect(project) as connection:
                try:
                    return connection.sql(text).pl()
                except (duckdb.Error, AttributeError) as error:
                    if isinstance(error, (duckdb.IOException, duckdb.CatalogException)) and not last:
                        continue
                    rows = connection.execute("show tables").fetchall()
                    tables = ", ".join(row[0] for row in rows if not row[0].startswith("_"))
                    raise WavecoreError(
                        f"the query was not answered: {error}", f"tables: {tables or 'none yet'}"
                    ) from error
        except (StorageError, OSError):
            if last:
                raise
    raise AssertionError("the last attempt either answers or raises")


def _only_asks(text: str) -> None:
    try:
        kinds = [statement.type.name for statement in duckdb.extract_statements(text)]
    except duckdb.Error:
        return  # what it means DuckDB says when it is asked
    if kinds and kinds[-1] not in _ANSWERS:
        raise WavecoreError(
            f"the query was not run: {kinds[-1].lower()} gives no answer, and tables are views of what runs wrote: "
            "nothing that changes them would stay",
            "end with a select; copy (select …) to 'file.csv' writes an answer down",
        )


def write_database(project: Project) -> Path:
    """Rebuild store/wavecore.duckdb, a convenience for other clients; its views name absolute paths."""
    import os

    path = project.store / DATABASE
    (project.store / "tmp").mkdir(parents=True, exist_ok=True)
    temp = project.store / "tmp" / f"{owner()}-{DATABASE}"  # swept away if this process dies
    temp.unlink(missing_ok=True)
    connect(project, temp).close()
    os.replace(temp, path)
    return path
