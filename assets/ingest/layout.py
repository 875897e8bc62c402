"""Which columns of a stranger's table are channels: wide or long, numbers, texts, counters."""

from __future__ import annotations

import dataclasses

import polars as pl

from assets.ingest.faults import listed
from assets.ingest.guess import Decimal, Thousands, TimeGuess, is_counter, missing_marks, number_marks
from assets.ingest.read import to_numbers
from assets.ingest.text import Cells
from data_contracts.catalog import MISSING_MARKS, Format
from wavecore.errors import DataError

_IDS = (
    "unique_id", "id", "series", "series_id", "item_id", "channel", "variable", "sensor", "name", "meter", "station",
)  # fmt: skip
_VALUES = ("y", "value", "target", "val")


def columns(cells: Cells, time: TimeGuess, form: Format, missing: tuple[str, ...]) -> tuple[Format, list[str]]:
    """Complete `form` by layout, channels, columns to ignore, number marks and marks of missing values.

    Args:
        cells, time: of the file.
        form: kind, encoding, separator and skipped lines.
        missing: further texts for "no value", as the user gave them.

    Returns:
        the format, and what was decided.

    Raises:
        DataError: no column of numbers.
    """
    said: list[str] = []
    rest = {name: column for name, column in cells.columns.items() if name not in time.columns}
    if not rest:
        raise DataError(f"{cells.file}: there is no column beside the time", "give a file with at least one channel")
    decimal, thousands = number_marks(rest, form.separator, form.kind)
    extra = (*missing, *(mark for mark in missing_marks(rest) if mark not in missing))
    marks = (*MISSING_MARKS, *extra)
    if decimal == ",":
        said.append(
            "numbers are written with a decimal comma" + (f" and {thousands!r} between thousands" if thousands else "")
        )
    elif thousands:
        said.append(f"numbers are written with {thousands!r} between thousands")
    if extra:
        said.append(f"{listed(map(repr, extra))} in a cell is taken for a missing value")
    kinds = {name: _kind(column, decimal, thousands, marks) for name, column in rest.items()}
    form = dataclasses.replace(
        form, time=time.columns[0] if len(time.columns) == 1 else time.columns, time_format=time.time_format,
        decimal=decimal if form.kind == "csv" else ".", thousands=thousands, missing_marks=extra,
    )  # fmt: skip
    label = _label(rest, kinds, time)
    if label is not None:
        return _long(cells, form, label, kinds, said)
    ignored = {what: [name for name, kind in kinds.items() if kind == what] for what in ("text", "empty", "counter")}
    for what, why in (("text", "text"), ("empty", "empty"), ("counter", "only counts the rows")):
        if ignored[what]:
            said.append(f"left out: {listed(map(repr, ignored[what]))} ({why})")
    channels = tuple(name for name, kind in kinds.items() if kind == "number")
    if not channels:
        raise DataError(
            f"{cells.file}: no column beside the time holds numbers", "give a file with at least one column of numbers",
            columns=tuple(rest),
        )  # fmt: skip
    ignore = tuple(name for name in rest if name not in channels)
    return dataclasses.replace(form, layout="wide", channels=channels, ignore=ignore), said


def _kind(column: pl.Series, decimal: Decimal, thousands: Thousands, marks: tuple[str, ...]) -> str:
    """number, text, empty or counter."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        value = column.cast(pl.Float64).fill_nan(None)
    elif column.dtype == pl.String:
        value, bad = to_numbers(column, decimal, thousands, marks)
        known = int(value.is_not_null().sum())
        if not known:
            return "text" if bad.any() else "empty"
        # A few texts among numbers are faults of a channel, named when it is read; mostly text is no channel.
        if bad.sum() > known:
            return "text"
    else:
        return "empty" if column.null_count() == len(column) else "text"
    if value.null_count() == len(value):
        return "empty"
    return "counter" if is_counter(value) else "number"


def _label(rest: dict[str, pl.Series], kinds: dict[str, str], time: TimeGuess) -> str | None:
    """The column that names the channel, if the file is in long form: times repeat, but not within one label."""
    stamps = time.times.stamps
    if stamps.n_unique() > 0.95 * len(stamps) and not any(name in rest for name in _IDS[:1]):
        return None
    named = [name for name in rest if name.lower() in _IDS]
    texts = [name for name, kind in kinds.items() if kind == "text" and name not in named]
    for name in named + texts:
        labels = rest[name].cast(pl.String)
        count = labels.n_unique()
        if name not in named and (count < 2 or count > len(labels) / 4):
            continue
        pairs = pl.DataFrame({"t": stamps, "l": labels}).n_unique()
        # A label under which times still repeat (a weekday, a quality flag) names no channel.
        if pairs > 0.95 * len(stamps) and any(kind == "number" for other, kind in kinds.items() if other != name):
            return name
    return None


def _long(cells: Cells, form: Format, label: str, kinds: dict[str, str], said: list[str]) -> tuple[Format, list[str]]:
    numeric = [name for name, kind in kinds.items() if kind == "number" and name != label]
    value = next((name for name in numeric if name.lower() in _VALUES), numeric[0])
    others = tuple(name for name in kinds if name not in (label, value))
    channels = tuple(cells.columns[label].cast(pl.String).unique(maintain_order=True).to_list())
    said.append(f"long form: {label!r} names the channel, {value!r} holds its value")
    if others:
        said.append(f"left out: {listed(map(repr, others))} (the long form has one value column)")
    form = dataclasses.replace(form, layout="long", id=label, value=value, channels=channels, ignore=others)
    return form, said
