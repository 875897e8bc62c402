"""Read a raw file strictly, as its dataset declares it, into one tidy table."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import polars as pl

from assets.ingest import clock
from assets.ingest.faults import fault, key, listed
from assets.ingest.text import Cells, other_separator, read_cells
from data_contracts.catalog import MISSING_MARKS, Dataset, Format
from wavecore.errors import DataError

_DAY_US = 86_400_000_000


def read_raw(path: Path, dataset: Dataset) -> pl.DataFrame:
    """Parse the file at `path`.

    Returns:
        columns `timestamp` (datetime[us], naive; UTC where a zone or offsets are given), `channel` (Enum in declared
        order, else in the order of the file), `value` (f64, null where missing), `row` (1-based line of a text file or
        row of a Parquet file). Channel after channel, each in the order of the file. Sentinels are still in.

    Raises:
        DataError: the file is not what is declared. Names file, column, rows and the key that would settle it.
    """
    cells = load_cells(path, dataset.format)
    _check_columns(cells, dataset)
    frame = _long(cells, dataset) if dataset.format.layout == "long" else _wide(cells, dataset)
    if dataset.treatment.irregular == "reject":
        _check_order(frame, cells, dataset)
    return frame


def load_cells(path: Path, format: Format) -> Cells:
    """The cells of the file, unparsed (CSV) or as stored (Parquet).

    Raises:
        DataError: the file is missing, empty, truncated, or not in the declared encoding.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}", "correct the path")
    if format.kind == "csv":
        return read_cells(path, format.separator, format.encoding, format.skip_lines)
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty", "give a file that holds values")
    head, tail = _ends(path)
    if head != b"PAR1" or tail != b"PAR1":
        what = "is no Parquet file" if head != b"PAR1" else "is truncated: the end of the Parquet file is missing"
        raise DataError(f"{path.name}: {what}", "copy or export it again, whole")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path.name}: the Parquet file is damaged ({reason})", "copy or export it again, whole"
        ) from None
    if not frame.height:
        raise DataError(f"{path.name}: the table has columns and no row", "give a file that holds values")
    columns = {
        name: column.str.strip_chars() if column.dtype == pl.String else column
        for name, column in zip(frame.columns, frame.get_columns(), strict=True)
    }
    return Cells(path.name, columns, np.arange(1, frame.height + 1), "row")


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        return head, file.read(4)


def _check_columns(cells: Cells, dataset: Dataset) -> None:
    form, names, name = dataset.format, list(cells.columns), dataset.name
    needed = list(form.time_columns) + ([form.id, form.value] if form.layout == "long" else list(form.channels or ()))
    absent = [column for column in needed if column not in names]
    header = form.skip_lines + 1
    if absent:
        if len(names) == 1 and cells.unit == "line":
            other = other_separator(names[0], form.separator)
            if other is not None:
                raise fault(
                    cells.file, "line", [header], names[0],
                    f"the header is one column when split by {form.separator!r}",
                    f"declare {key(name, f'format.separator: {other!r}')}",
                )  # fmt: skip
        near = difflib.get_close_matches(absent[0], names, n=1)
        said = f"did you mean {near[0]!r}? " if near else ""
        which = "time" if absent[0] in form.time_columns else "channels" if form.layout == "wide" else "id and value"
        rows = [header] if cells.unit == "line" else []
        raise DataError(
            f"{cells.file}{', line ' + str(header) if rows else ''}: missing column{'s' if len(absent) > 1 else ''} "
            f"{listed(map(repr, absent))}; there are: {listed(map(repr, names), 12)}",
            f"{said}correct the file, or format.{which} in data_contracts/datasets/{name}.yaml",
            columns=absent,
            rows=rows,
        )
    unknown = [c for c in form.ignore if c not in names]
    if unknown:
        raise DataError(
            f"{cells.file}: missing column {unknown[0]!r}, which is to be ignored",
            f"delete it from {key(name, 'format.ignore')}",
            columns=unknown,
        )
    if form.layout == "wide" and form.channels is None:
        if not _channels(cells, form):
            raise DataError(f"{cells.file}: there is no column beside the time", "give it at least one channel")
        return
    extra = [c for c in names if c not in needed and c not in form.ignore]
    if extra:
        more = "" if form.layout == "long" else ", or as channels under format.channels,"
        raise DataError(
            f"{cells.file}: extra column{'s' if len(extra) > 1 else ''} {listed(map(repr, extra))}, not declared",
            f"name them under format.ignore{more} in data_contracts/datasets/{name}.yaml",
            columns=extra,
        )


def _channels(cells: Cells, form: Format) -> tuple[str, ...]:
    if form.channels is not None:
        return form.channels
    return tuple(name for name in cells.columns if name not in form.time_columns and name not in form.ignore)


def _wide(cells: Cells, dataset: Dataset) -> pl.DataFrame:
    channels = _channels(cells, dataset.format)
    stamps = _stamps(cells, dataset, np.zeros(len(cells.rows), dtype=np.int64))
    values = [numbers(cells, name, dataset) for name in channels]
    holes = {name: column.is_null().to_numpy() for name, column in zip(channels, values, strict=True)}
    _check_missing(cells, dataset, holes)
    count = len(cells.rows)
    codes = np.repeat(np.arange(len(channels)), count)
    return pl.DataFrame(
        {
            "timestamp": pl.concat([stamps] * len(channels)),
            "channel": pl.Series(channels, dtype=pl.Enum(channels)).gather(codes),
            "value": pl.concat(values),
            "row": np.tile(cells.rows, len(channels)),
        }
    )


def _long(cells: Cells, dataset: Dataset) -> pl.DataFrame:
    form = dataset.format
    ids = cells.columns[form.id].cast(pl.String)
    blank = (ids.is_null() | (ids == "")).fill_null(True).to_numpy()
    if blank.any():
        rows = cells.rows[blank]
        raise fault(cells.file, cells.unit, rows, form.id, "no channel is named", "fill in the cell, or delete the row")
    found = ids.unique(maintain_order=True).to_list()
    channels = list(form.channels or found)
    absent, extra = [c for c in channels if c not in found], [c for c in found if c not in channels]
    if absent:
        raise DataError(
            f"{cells.file}, column {form.id!r}: no row of the declared channel{'s' if len(absent) > 1 else ''} "
            f"{listed(map(repr, absent))}",
            f"correct the file, or {key(dataset.name, 'format.channels')}",
            columns=absent,
        )
    if extra:
        rows = cells.rows[ids.is_in(extra).to_numpy()]
        raise fault(
            cells.file, cells.unit, rows, form.id, f"channels that are not declared: {listed(map(repr, extra))}",
            f"name them in {key(dataset.name, 'format.channels')}, or delete the rows",
        )  # fmt: skip
    coded = ids.cast(pl.Enum(channels))
    stamps = _stamps(cells, dataset, coded.to_physical().to_numpy().astype(np.int64))
    values = numbers(cells, form.value, dataset)
    _check_missing(cells, dataset, {form.value: values.is_null().to_numpy()})
    frame = pl.DataFrame({"timestamp": stamps, "channel": coded, "value": values, "row": cells.rows})
    return frame.sort(pl.col("channel").to_physical(), maintain_order=True)


def time_cells(cells: Cells, columns: tuple[str, ...]) -> pl.Series:
    """The text of the timestamps; several columns are joined by blanks."""
    if len(columns) == 1:
        return cells.columns[columns[0]]
    joined = [cells.columns[column].cast(pl.String) for column in columns]
    text = joined[0]
    for part in joined[1:]:
        text = text + " " + part
    return text


def _stamps(cells: Cells, dataset: Dataset, groups: np.ndarray) -> pl.Series:
    form = dataset.format
    column = form.time_columns[0] if len(form.time_columns) == 1 else " ".join(form.time_columns)
    text = time_cells(cells, form.time_columns)
    empty = (text.is_null() | (text.cast(pl.String).str.strip_chars() == "")).fill_null(True).to_numpy()
    if empty.any():
        rows = cells.rows[empty]
        raise fault(cells.file, cells.unit, rows, column, "no timestamp", "fill in the cell, or delete the row")
    times = clock.parse(text, form.time_format)
    bad = times.stamps.is_null().to_numpy()
    if bad.any():
        first = text.cast(pl.String)[int(np.argmax(bad))]
        form_said = form.time_format or "ISO 8601 (2024-05-31 23:00:00)"
        raise fault(
            cells.file, cells.unit, cells.rows[bad], column, f"{first!r} is no timestamp of the form {form_said}",
            f"correct the cell, or declare {key(dataset.name, 'format.time_format')}",
        )  # fmt: skip
    clock.check_offsets(times, form.timezone, cells.file, cells.unit, cells.rows, column)
    aware = isinstance(text.dtype, pl.Datetime) and text.dtype.time_zone is not None
    step = dataset.parsed_step
    # A day of a local clock may have 23 or 25 hours: series of whole days keep their dates.
    if form.timezone is None or times.offsets is not None or aware or step.months or step.microseconds >= _DAY_US:
        return times.stamps
    return clock.local_to_utc(
        times.stamps, form.timezone, form.ambiguous, groups, cells.file, cells.unit, cells.rows, column
    )


def numbers(cells: Cells, column: str, dataset: Dataset) -> pl.Series:
    """A column's values, f64, null where missing.

    Raises:
        DataError: text, or an infinity that is not declared; names the rows.
    """
    form, raw = dataset.format, cells.columns[column]
    if raw.dtype == pl.String:
        value, bad = to_numbers(raw, form.decimal, form.thousands, (*MISSING_MARKS, *form.missing_marks))
        if bad.any():
            cell = raw[int(np.argmax(bad))]
            raise fault(
                cells.file, cells.unit, cells.rows[bad], column, f"{cell!r} is not a number", _number_fix(cell, dataset)
            )
    elif raw.dtype.is_numeric() or raw.dtype == pl.Boolean or raw.dtype == pl.Null:
        value = raw.cast(pl.Float64).fill_nan(None)
    else:
        raise fault(
            cells.file, cells.unit, cells.rows[:1], column, f"holds {raw.dtype}, not numbers",
            f"store it as numbers, or name it in {key(dataset.name, 'format.ignore')}",
        )  # fmt: skip
    infinite = value.is_infinite().fill_null(False).to_numpy()
    allowed = {*dataset.treatment.sentinels} & {float("inf"), float("-inf")}
    if infinite.any() and not set(value.to_numpy()[infinite].tolist()) <= allowed:
        raise fault(
            cells.file, cells.unit, cells.rows[infinite], column, "an infinity is no value",
            "correct the cells; or, if it stands for a missing value, declare "
            + key(dataset.name, "treatment.sentinels: [.inf, -.inf] and treatment.missing: mask"),
        )  # fmt: skip
    return value


def to_numbers(
    raw: pl.Series, decimal: str, thousands: str | None, marks: tuple[str, ...]
) -> tuple[pl.Series, np.ndarray]:
    """Text to numbers: values [n] (null where missing or bad), and where the text is no number [n]."""
    missing = raw.is_null() | raw.is_in(list(marks)).fill_null(True)
    text, bad = raw, pl.Series(np.zeros(len(raw), dtype=bool))
    if thousands is not None:
        t, d = (f"\\{mark}" if mark in ".'" else mark for mark in (thousands, decimal))
        grouped = rf"^[+-]?\d{{1,3}}({t}\d{{3}})*({d}\d*)?([eE][+-]?\d+)?$"
        bad = bad | (text.str.contains(thousands, literal=True) & ~text.str.contains(grouped)).fill_null(False)
        text = text.str.replace_all(thousands, "", literal=True)
    if decimal == ",":
        # A point would otherwise pass for a decimal mark that nobody declared.
        bad = bad | text.str.contains(".", literal=True).fill_null(False)
        text = text.str.replace(",", ".", literal=True)
    value = text.cast(pl.Float64, strict=False)
    value = pl.select(pl.when(missing).then(None).otherwise(value)).to_series().fill_nan(None)
    # "NAN" in any spelling is a missing value, too.
    nan = text.cast(pl.Float64, strict=False).is_nan().fill_null(False)
    return value, ((value.is_null() | bad) & ~missing & ~nan).to_numpy()


def _number_fix(cell: str, dataset: Dataset) -> str:
    form, name = dataset.format, dataset.name
    digits = cell.replace(".", "").replace(",", "").replace(" ", "").replace("'", "").lstrip("+-")
    if digits.isdigit():
        marks = [mark for mark in cell if mark in ".,' "]
        if marks == [","] and form.decimal == ".":
            return f"declare {key(name, 'format.decimal')}: ',' (or format.thousands: ',')"
        if marks == ["."] and form.decimal == ",":
            return f"declare {key(name, 'format.decimal')}: '.' (or format.thousands: '.')"
        if marks:
            return f"declare {key(name, f'format.thousands: {marks[0]!r} and format.decimal')}, or correct the cells"
    return (
        f"correct the cells; if the text stands for a missing value, name it in {key(name, 'format.missing_marks')}; "
        "if the column is no channel, under format.ignore"
    )


def _check_missing(cells: Cells, dataset: Dataset, missing: dict[str, np.ndarray]) -> None:
    if dataset.treatment.missing == "mask":
        return
    at_fault = [name for name, holes in missing.items() if holes.any()]
    if not at_fault:
        return
    column = at_fault[0]
    rows = cells.rows[missing[column]]
    also = f"; also in {listed(map(repr, at_fault[1:]))}" if len(at_fault) > 1 else ""
    raise fault(
        cells.file, cells.unit, rows, column, f"no value (empty, NA or NaN){also}",
        f"fill in the cells, or declare {key(dataset.name, 'treatment.missing: mask')}",
    )  # fmt: skip


def _check_order(frame: pl.DataFrame, cells: Cells, dataset: Dataset) -> None:
    """Timestamps must rise within each channel.

    Raises:
        DataError: a duplicate or a step back; names both rows.
    """
    stamps = frame["timestamp"].to_numpy().astype(np.int64)
    codes, rows = frame["channel"].to_physical().to_numpy(), frame["row"].to_numpy()
    if dataset.format.layout == "wide":
        # All channels share the rows.
        stamps, codes, rows = (part[: len(cells.rows)] for part in (stamps, codes, rows))
    same = codes[1:] == codes[:-1]
    stay = np.flatnonzero((stamps[1:] == stamps[:-1]) & same) + 1
    back = np.flatnonzero((stamps[1:] < stamps[:-1]) & same) + 1
    if not len(stay) and not len(back):
        return
    column = " ".join(dataset.format.time_columns)
    long = dataset.format.layout == "long"
    fix = f"; or declare {key(dataset.name, 'treatment.irregular: resample')} (rows of one step are averaged)"
    zone = "; if it is a local clock with summer time, declare format.timezone"
    if dataset.format.timezone is not None:
        zone = ""
    if len(back):
        # A row may repeat an earlier one without standing beside it.
        order = np.lexsort((stamps, codes))
        again = (stamps[order][1:] == stamps[order][:-1]) & (codes[order][1:] == codes[order][:-1])
        if not again.any():
            i = int(back[0])
            raise fault(
                cells.file, cells.unit, rows[back], column,
                f"unsorted: {_stamp(stamps[i])} comes after {_stamp(stamps[i - 1])}" + _of(frame, i, long),
                f"sort the file by time{fix}{zone}",
            )  # fmt: skip
        stay = np.sort(order[1:][again])
    i = int(stay[0])
    first = int(np.flatnonzero((stamps[:i] == stamps[i]) & (codes[:i] == codes[i]))[0])
    raise fault(
        cells.file, cells.unit, rows[stay], column,
        f"duplicate: {_stamp(stamps[i])} stands already in {cells.unit} {rows[first]}" + _of(frame, i, long),
        f"delete the row that is wrong{fix}{zone}",
    )  # fmt: skip


def _of(frame: pl.DataFrame, i: int, long: bool) -> str:
    return f" (channel {frame['channel'][i]!r})" if long else ""


def _stamp(microseconds: int) -> str:
    return str(np.datetime64(int(microseconds), "us").astype("datetime64[us]").item())
