"""What a file shows by itself: kind, encoding, separator, number marks, the time column and its form."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from assets.ingest import clock
from assets.ingest.faults import listed
from assets.ingest.read import to_numbers
from assets.ingest.text import SEPARATORS, Cells, decode
from data_contracts.catalog import MISSING_MARKS
from wavecore.errors import DataError, SettingsError

_MORE_MARKS = (
    "-",
    "--",
    "---",
    "?",
    "n/a",
    "#N/A",
    "#NV",
    "#DIV/0!",
    "#VALUE!",
    "k.A.",
    "missing",
    "none",
    "*",
    "NAN",
    ".",
)
_DATES = (
    "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%Y-%m", "%m/%Y", "%Y",
)  # fmt: skip
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S%.f",
    " %I:%M %p",
    " %I:%M:%S %p",
    "T%H:%M",
    "T%H:%M:%S",
    " %H",
    "%H",
    "%H%M",
)
_TIME_NAMES = re.compile(
    r"date|time|datum|zeit|stamp|epoch|month|year|day|week|hora|fecha|heure|^ds$|^ts$|^t$", re.IGNORECASE
)
_PARTS = (("year",), ("month",), ("day",), ("hour", "hr"), ("minute", "min"))
_FIRST_YEAR, _LAST_YEAR = 1600, 2200


@dataclass(frozen=True)
class Dialect:
    """How the bytes of a file are to be cut into cells; see Format."""

    kind: str
    encoding: str = "utf-8"
    separator: str = ","
    skip_lines: int = 0
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimeGuess:
    """Where the timestamps stand and how they are written.

    Attributes:
        columns: one, or several to be joined by blanks.
        time_format: see Format.
        times: as parsed, [n].
        said: what was decided where there was a choice.
    """

    columns: tuple[str, ...]
    time_format: str | None
    times: clock.Times
    said: tuple[str, ...] = ()


def dialect(path: Path) -> Dialect:
    """Tell kind, encoding, separator and lines above the header.

    Raises:
        DataError: empty, packed or a spreadsheet, or one column only.
    """
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        return Dialect("parquet", said=("Parquet",))
    for magic, what in ((b"PK\x03\x04", "a zip archive or a spreadsheet"), (b"\x1f\x8b", "packed with gzip"),
                        (b"\xd0\xcf\x11\xe0", "an old spreadsheet"), (b"\x89HDF", "an HDF5 file")):  # fmt: skip
        if content.startswith(magic):
            raise DataError(f"{path.name}: {what}", "unpack it, or save the table as CSV in UTF-8 or as Parquet")
    encoding = _encoding(content)
    lines = decode(content, encoding, path.name).split("\n")
    separator, skip = _separator(lines[:400], path.name)
    said = [f"CSV in {encoding}, cells separated by {'tabs' if separator == chr(9) else repr(separator)}"]
    if encoding == "cp1252":
        said.append("it is not UTF-8; if accents come out wrong, correct format.encoding")
    if skip:
        said.append(f"the header is in line {skip + 1}; the {skip} above it {'is' if skip == 1 else 'are'} skipped")
    return Dialect("csv", encoding, separator, skip, tuple(said))


def _encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for name in ("utf-8", "cp1252"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _separator(lines: list[str], file: str) -> tuple[str, int]:
    best: tuple[tuple[bool, float, int, int], str, int] | None = None
    for rank, separator in enumerate((";", "\t", "|", ",")):
        try:
            lengths = [len(row) for row in csv.reader([line for line in lines if line.strip()], delimiter=separator)]
        except csv.Error:
            continue
        usual, count = Counter(lengths[1:] or lengths).most_common(1)[0]
        skip = next(i for i, length in enumerate(lengths) if length == usual) if usual in lengths else 0
        share = count / max(1, len(lengths) - 1)
        if usual < 2 or share < 0.8 or skip > 20:
            continue
        score = (skip == 0, round(share, 2), usual if separator != "," else 0, -rank)
        if best is None or score > best[0]:
            best = (score, separator, skip)
    if best is None:
        raise DataError(
            f"{file}, line 1: no columns can be told apart ({listed(map(repr, SEPARATORS))} were tried)",
            "give a header line and rows with a time column and at least one channel",
            rows=(1,),
        )
    # Blank lines above the header count as lines of the file.
    skip = best[2]
    if skip:
        full = [i for i, line in enumerate(lines) if line.strip()]
        skip = full[skip]
    return best[1], skip


Decimal = Literal[".", ","]
Thousands = Literal[".", ",", " ", "'"] | None


def number_marks(columns: dict[str, pl.Series], separator: str, kind: str) -> tuple[Decimal, Thousands]:
    """Decimal and thousands mark under which the most cells are numbers; the plainest of equals."""
    texts = [column for column in columns.values() if column.dtype == pl.String]
    options: list[tuple[Decimal, Thousands]] = [
        (".", None),
        (",", None),
        (",", "."),
        (".", ","),
        (",", " "),
        (".", "'"),
    ]
    best, found = options[0], -1
    for decimal, thousands in options:
        if kind == "csv" and separator in (decimal, thousands):
            continue
        count = 0
        for text in texts:
            value, bad = to_numbers(text, decimal, thousands, MISSING_MARKS)
            count += int((value.is_not_null() & ~pl.Series(bad)).sum())
        if count > found:
            best, found = (decimal, thousands), count
    return best


def missing_marks(columns: dict[str, pl.Series]) -> tuple[str, ...]:
    """Customary texts for "no value" that occur in the columns and are not known by default."""
    found: set[str] = set()
    for column in columns.values():
        if column.dtype == pl.String:
            found |= set(column.filter(column.is_in(list(_MORE_MARKS))).unique().to_list())
    return tuple(mark for mark in _MORE_MARKS if mark in found)


def find_time(cells: Cells) -> TimeGuess:
    """Find the timestamps: columns that name year, month, day; else the first column that is one, named ones first.

    Raises:
        DataError: there is none; names what each column starts with.
    """
    names = list(cells.columns)
    times = [name for name in names if re.match(clock.ISO, name)]
    if times:
        raise DataError(
            f"{cells.file}, line 1: the header holds the time {times[0]!r}",
            "add a header line that names the columns; if every time has a column of its own, turn the table",
            columns=tuple(times),
        )
    parts = _parts(cells)
    if parts is not None:
        return parts
    order = sorted(names, key=lambda name: (not _TIME_NAMES.search(name), names.index(name)))
    for name in order:
        guess = _time_of(cells.columns[name], name)
        if guess is not None:
            return _with_clock(cells, name, guess) or guess
    first = [f"{name!r} ({cells.columns[name][0]!r})" for name in names]
    raise DataError(
        f"{cells.file}: no column holds timestamps; they start with: {listed(first, 8)}",
        "give a column of times, such as 2024-05-31 23:00:00, and a header line that names it",
    )


def _parts(cells: Cells) -> TimeGuess | None:
    """Year, month, day and perhaps hour and minute in columns of their own."""
    lower = {name.lower(): name for name in cells.columns}
    found = [next((lower[alias] for alias in aliases if alias in lower), None) for aliases in _PARTS]
    columns = tuple(itertools.takewhile(lambda name: name is not None, found))
    if len(columns) < 2:
        return None
    kept = tuple(str(column) for column in columns)
    text = cells.columns[kept[0]].cast(pl.String)
    for name in kept[1:]:
        text = text + " " + cells.columns[name].cast(pl.String)
    time_format = " ".join(("%Y", "%m", "%d", "%H", "%M")[: len(kept)])
    times = clock.parse(text, time_format)
    if times.stamps.null_count():
        return None
    return TimeGuess(kept, time_format, times, (f"the time is put together from {listed(map(repr, kept))}",))


def _time_of(column: pl.Series, name: str) -> TimeGuess | None:
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return TimeGuess((name,), None, clock.parse(column, None))
    named = _TIME_NAMES.search(name) is not None
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return None
    given = column.filter((column != "").fill_null(False))
    if not len(given):
        return None
    probe = pl.concat([given.head(200), given.tail(200)])
    numeric = bool(probe.str.contains(r"^\d+$").all())
    if numeric and not named:
        return None
    if numeric:
        size = probe.cast(pl.Float64)
        for form, low, high in (("epoch_s", 1e8, 1e10), ("epoch_ms", 1e11, 1e13)):
            # 2024010205 is a day and an hour before it is a number of seconds.
            if bool(size.is_between(low, high).all()) and not _reads(probe, "%Y%m%d%H"):
                return TimeGuess((name,), form, clock.parse(column, form))
    if _fits(clock.parse(probe, None)) and not numeric:
        return TimeGuess((name,), None, clock.parse(column, None))
    blanks = str(probe[0]).count(" ")
    forms = [d + c for d in _DATES for c in _CLOCKS if (d + c).count(" ") == blanks and _reads(probe, d + c)]
    # A day that may be a month: the right reading is the more regular one.
    whole = [(form, clock.parse(column, form)) for form in forms]
    whole = [(form, times) for form, times in whole if times.stamps.null_count() <= 0.05 * len(column)]
    if not whole:
        return None
    scored = sorted(whole, key=lambda pair: (pair[1].stamps.null_count(), _irregularity(pair[1].stamps)))
    form, times = scored[0]
    said: tuple[str, ...] = ()
    if len(scored) > 1 and {"%d/%m", "%m/%d"} <= {f[:5] for f, _ in scored}:
        said = (f"{column[0]!r} in {name!r} is read as {form}, which is the more regular reading",)
    return TimeGuess((name,), form, times, said)


def _fits(times: clock.Times) -> bool:
    known = times.stamps.drop_nulls()
    if len(known) < 0.95 * len(times.stamps) or not len(known):
        return False
    return bool(known.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR).all())


def _reads(probe: pl.Series, form: str) -> bool:
    try:
        return _fits(clock.parse(probe, form))
    except SettingsError:
        # A combination that polars refuses is not the form.
        return False


def _irregularity(stamps: pl.Series) -> int:
    """How many different distances there are between neighbours."""
    return int(stamps.drop_nulls().unique().sort().diff().n_unique())


def _with_clock(cells: Cells, name: str, guess: TimeGuess) -> TimeGuess | None:
    """A column of dates beside a column of clock times."""
    stamps = guess.times.stamps
    if bool((stamps.dt.truncate("1d") != stamps).any()) or stamps.n_unique() == len(stamps):
        return None
    for other, column in cells.columns.items():
        if other == name or column.dtype != pl.String:
            continue
        if bool(column.str.contains(r"^\d{1,2}:\d{2}(:\d{2})?$").all()):
            seconds = bool(column.str.contains(r"^\d{1,2}:\d{2}:\d{2}$").all())
            time_format = f"{guess.time_format or '%Y-%m-%d'} %H:%M{':%S' if seconds else ''}"
            times = clock.parse(cells.columns[name].cast(pl.String) + " " + column, time_format)
            if not times.stamps.null_count():
                said = (f"the time is put together from {name!r} and {other!r}",)
                return TimeGuess((name, other), time_format, times, said)
    return None


def is_counter(column: pl.Series) -> bool:
    """Whether a column only counts the rows."""
    number = column.cast(pl.Float64, strict=False).to_numpy()
    return len(number) > 2 and not np.isnan(number).any() and bool((np.diff(number) == 1).all())
