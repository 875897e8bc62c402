"""What a contract computes beside the table: helper columns for rules over several rows, and parameters.

Context per suite (keys in brackets may be left out):

* `series`: channels, step, [steps: expected rows per channel, else those of a regular grid from the first to the last
  timestamp], [missing: `reject` (default) | `mask`], [constant_channels: `reject` (default) | `keep`], [as_of]
* `windows`: channels, window, steps (rows of the series), lags, [borders]
* `wavelets`: channels, window, steps, levels
* `prompt_statistics`: channels, window, steps, lags
* `prompts`: stored, channels, window, steps, shortest, longest (in tokens), last_id (of the vocabulary)
* `splits`: window, horizon, steps, borders
* `evaluation`: window, horizon, borders, [missing]

`borders` gives half-open row ranges for train, select, decide and test: a mapping or an object with these attributes.
A value that belongs to a group of rows (the spread of a channel) stands on the group's first row and is null
on the others, so that a failure is named once and not once per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from data_contracts.durations import parse_step
from wavecore.errors import SettingsError
from wavecore.series.splits import BEYOND, SPLITS

if TYPE_CHECKING:
    import polars as pl

DEFAULTS: dict[str, dict[str, Any]] = {
    "series": {"missing": "reject", "constant_channels": "reject"},
    "evaluation": {"missing": "reject"},
}


@dataclass(frozen=True)
class Helper:
    """One helper column.

    Attributes:
        needs: columns of the table it is made from.
        make: (table, context) -> expression over the table.
    """

    needs: tuple[str, ...]
    make: Callable[[pl.DataFrame, Mapping[str, Any]], pl.Expr]


def ranges(borders: Any) -> dict[str, tuple[int, int]]:
    """The half-open row range of each split."""
    pairs = borders if isinstance(borders, Mapping) else {s: getattr(borders, s) for s in SPLITS}
    return {s: (int(pairs[s][0]), int(pairs[s][1])) for s in SPLITS if s in pairs}


def window_counts(borders: Any, window: int, horizon: int) -> dict[str, int]:
    """Windows per split: origins o with o >= window and [o, o + horizon) inside the split's rows."""
    return {s: max(0, hi - horizon - max(lo, window) + 1) for s, (lo, hi) in ranges(borders).items()}


def parameters(suite: str, table: pl.DataFrame, context: Mapping[str, Any]) -> dict[str, Any]:
    """The context with what follows from it: expected row counts and bounds."""
    known = dict(context)
    window, horizon, steps = known.get("window"), known.get("horizon"), known.get("steps")
    if known.get("channels") is not None:
        known["channels"] = list(known["channels"])
    if suite == "series":
        if steps is None:
            known["steps"] = steps = _grid_steps(table, context)
        if steps is not None and "channels" in known:
            known["rows"] = steps * len(known["channels"])
    elif suite in ("windows", "wavelets", "prompt_statistics", "prompts") and window is not None and steps is not None:
        known["rows"] = max(0, steps - window + 1) * len(known.get("channels", ()))
        known["last_row"] = steps - 1
    if window is not None:
        known["longest_lag"] = window // 2
        known["longest_period"] = 1.5 * window
    if window is not None and horizon is not None and known.get("borders") is not None:
        counts = window_counts(known["borders"], window, horizon)
        known["splits"] = list(counts)
        known["rows"] = sum(counts.values())
        if suite == "evaluation":
            lo, hi = ranges(known["borders"])["test"]
            known["rows"], known["first_origin"], known["last_origin"] = counts["test"], max(lo, window), hi - horizon
    return known


def columns(
    suite: str, table: pl.DataFrame, context: Mapping[str, Any], wanted: Iterable[str]
) -> tuple[list[pl.Series], dict[str, str]]:
    """The helper columns among `wanted`, and for those that could not be made the reason.

    A name that is no helper is left to Great Expectations, which reports it as a missing column.
    """
    import polars as pl

    made: list[pl.Series] = []
    broken: dict[str, str] = {}
    helpers = _HELPERS.get(suite, {})
    for name in sorted(wanted):
        if name not in helpers:
            continue
        helper = helpers[name]
        absent = [c for c in helper.needs if c not in table.columns]
        if absent:
            broken[name] = f"the column {', '.join(map(repr, absent))} is missing"
            continue
        try:
            made.append(table.with_columns(helper.make(table, context).alias(name)).get_column(name))
        except KeyError as error:
            raise SettingsError(
                f"suite {suite!r}: the helper column {name!r} needs {error} in the context", "pass it"
            ) from error
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            broken[name] = f"{name} cannot be computed from {', '.join(helper.needs)}: {first_line}"
    return made, broken


def _grid_steps(table: pl.DataFrame, context: Mapping[str, Any]) -> int | None:
    """Points of the regular grid from the first to the last timestamp; 0 where there is none to speak of."""
    import polars as pl

    if "step" not in context:
        return None
    step = parse_step(context["step"], "the series contract: step")
    stamps = table.get_column("timestamp") if "timestamp" in table.columns else pl.Series([None])
    if not stamps.dtype.is_temporal() or stamps.null_count() == len(stamps):
        return 0
    first, last = stamps.cast(pl.Datetime("us")).min(), stamps.cast(pl.Datetime("us")).max()
    if step.months:
        return (_month(last) - _month(first)) // step.months + 1
    return int((last - first) / timedelta(microseconds=step.microseconds)) + 1  # type: ignore[operator]


def _month(stamp: Any) -> int:
    return int(stamp.year) * 12 + int(stamp.month)


def _once_per(key: str, value: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(pl.col(key).is_first_distinct()).then(value.over(key))


def _steps_since_previous(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """Distance to the channel's row before, in steps: 1 on a regular grid, 0 for a duplicate, negative out of order.

    Null on a channel's first row. A calendar step that is off the grid (another day or clock time) gets a half.
    """
    import polars as pl

    step = parse_step(context["step"], "the series contract: step")
    stamp = pl.col("timestamp").cast(pl.Datetime("us"))
    before = stamp.shift(1).over("channel")
    if not step.months:
        return (stamp - before).dt.total_microseconds() / step.microseconds
    month = stamp.dt.year().cast(pl.Int64) * 12 + stamp.dt.month()
    day, clock = stamp.dt.day(), stamp.dt.time()
    widest = day.max().over("channel")
    month_end = stamp.dt.date() == stamp.dt.month_end().dt.date()
    on_grid = ((day == widest) | (month_end & (day < widest))) & (clock == clock.first().over("channel"))
    whole = (month - month.shift(1).over("channel")) / step.months
    return whole + pl.when(on_grid).then(0.0).otherwise(0.5)


def _channel_spread(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """Largest minus smallest finite value of the channel, on its first row."""
    import polars as pl

    finite = pl.col("value").filter(pl.col("value").is_finite())
    return _once_per("channel", finite.max() - finite.min())


def _channel_observed_share(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    import polars as pl

    return _once_per("channel", pl.col("value").fill_nan(None).is_not_null().mean())


def _seconds_after_as_of(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    import polars as pl

    last = context["as_of"]
    last = datetime.fromisoformat(last) if isinstance(last, str) else last
    return (pl.col("timestamp").cast(pl.Datetime("us")) - pl.lit(last).cast(pl.Datetime("us"))).dt.total_seconds()


def _window_length(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    import polars as pl

    return pl.col("origin") - pl.col("start")


def _last_input(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """The last row that the window's inputs touch."""
    import polars as pl

    return pl.col("start") + (context["window"] - 1)


def _split_by_borders(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """The split whose rows hold the origin, or `beyond`."""
    import polars as pl

    label = pl.lit(BEYOND)
    for name, (lo, hi) in ranges(context["borders"]).items():
        label = pl.when((pl.col("origin") >= lo) & (pl.col("origin") < hi)).then(pl.lit(name)).otherwise(label)
    return label


def _list(column: str, what: str) -> Callable[[pl.DataFrame, Mapping[str, Any]], pl.Expr]:
    def make(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
        import polars as pl

        if isinstance(table.schema[column], pl.Array):
            return getattr(pl.col(column).arr, what)()
        return getattr(pl.col(column).list, what)()

    return make


def _ids_missing(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """Tokens of a prompt that are neither among its ids nor common to all prompts; negative: ids too many."""
    import polars as pl

    return pl.col("tokens").cast(pl.Int64) - context["shortest"] - pl.col("ids").list.len().cast(pl.Int64)


def _input_length(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    import polars as pl

    return pl.col("input_end") - pl.col("input_start")


def _target_length(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    import polars as pl

    return pl.col("target_end") - pl.col("target_start")


def _target_steps_shared(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """Target rows that also lie between the first and the last target row of another split."""
    import polars as pl

    hulls = table.group_by("split").agg(pl.col("target_start").min(), pl.col("target_end").max())
    shared = pl.lit(0)
    for name, lo, hi in hulls.iter_rows():
        overlap = pl.min_horizontal("target_end", pl.lit(hi)) - pl.max_horizontal("target_start", pl.lit(lo))
        shared = shared + pl.when(pl.col("split") == name).then(0).otherwise(overlap.clip(lower_bound=0))
    return shared


def _losses_missing(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """1 where exactly one of the two losses is missing, else 0."""
    import polars as pl

    gone = [pl.col(c).cast(pl.Float64).fill_nan(None).is_null() for c in ("mse", "mae")]
    return (gone[0] != gone[1]).cast(pl.Int8)


def _windows_too_many(table: pl.DataFrame, context: Mapping[str, Any]) -> pl.Expr:
    """Windows of the split beyond the number that the borders give (negative: too few), on its first row."""
    import polars as pl

    expected = window_counts(context["borders"], context["window"], context["horizon"])
    due = pl.col("split").replace_strict(expected, default=0, return_dtype=pl.Int64)
    return pl.when(pl.col("split").is_first_distinct()).then(pl.len().over("split").cast(pl.Int64) - due)


_HELPERS: dict[str, dict[str, Helper]] = {
    "series": {
        "steps_since_previous": Helper(("timestamp", "channel"), _steps_since_previous),
        "channel_spread": Helper(("channel", "value"), _channel_spread),
        "channel_observed_share": Helper(("channel", "value"), _channel_observed_share),
        "seconds_after_as_of": Helper(("timestamp",), _seconds_after_as_of),
    },
    "windows": {
        "window_length": Helper(("start", "origin"), _window_length),
        "last_input": Helper(("start",), _last_input),
        "split_by_borders": Helper(("origin",), _split_by_borders),
        "lag_count": Helper(("lags",), _list("lags", "len")),
        "lag_smallest": Helper(("lags",), _list("lags", "min")),
        "lag_largest": Helper(("lags",), _list("lags", "max")),
    },
    "wavelets": {
        "energy_sum": Helper(("energy_share",), _list("energy_share", "sum")),
        "energy_smallest": Helper(("energy_share",), _list("energy_share", "min")),
    },
    "prompt_statistics": {
        "lag_count": Helper(("lags",), _list("lags", "len")),
        "lag_smallest": Helper(("lags",), _list("lags", "min")),
        "lag_largest": Helper(("lags",), _list("lags", "max")),
    },
    "prompts": {
        "ids_missing": Helper(("tokens", "ids"), _ids_missing),
        "id_smallest": Helper(("ids",), _list("ids", "min")),
        "id_largest": Helper(("ids",), _list("ids", "max")),
    },
    "splits": {
        "input_length": Helper(("input_start", "input_end"), _input_length),
        "target_length": Helper(("target_start", "target_end"), _target_length),
        "target_steps_shared": Helper(("split", "target_start", "target_end"), _target_steps_shared),
        "windows_too_many": Helper(("split",), _windows_too_many),
    },
    "evaluation": {"losses_missing": Helper(("mse", "mae"), _losses_missing)},
}
