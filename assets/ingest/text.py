"""From the bytes of a CSV file to columns of text, each cell with the line it stands in."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from assets.ingest.faults import fault, listed
from wavecore.errors import DataError

SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Cells:
    """A table of cells as they stand in a file.

    Attributes:
        file: its name, for messages.
        columns: name → cells: text without outer blanks (CSV), or the types of the file (Parquet). Shape [n] each.
        rows: where each row stands [n]: 1-based lines of a text file, 1-based rows of a Parquet file.
        unit: `line` or `row`.
    """

    file: str
    columns: dict[str, pl.Series]
    rows: np.ndarray
    unit: str


def decode(content: bytes, encoding: str, file: str) -> str:
    """The text of a file, without byte order mark and with LF line ends.

    Raises:
        DataError: empty, not in that encoding, or not text at all; names the line and column of the first bad byte.
    """
    if not content.strip():
        raise DataError(f"{file}: the file is empty", "give a file with a header line and rows")
    # Files that say UTF-8 may start with a byte order mark; it is not part of the first column's name.
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(
                f"{file}, line 1: not {encoding} but UTF-16", "declare format.encoding: utf-16, or save it as UTF-8"
            ) from None
        before = content[: error.start]
        start = before.rfind(b"\n") + 1
        line = before.count(b"\n") + 1
        position = len(before) - start + 1
        raise DataError(
            f"{file}, line {line}, byte {position}{_column_of(content, before[start:])}: not {encoding} "
            f"(byte 0x{content[error.start]:02x})",
            "declare format.encoding (cp1252 and latin-1 are usual), or save the file as UTF-8",
            rows=(line,),
        ) from None
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise fault(
            file, "line", [line], None, "holds zero bytes, so it is no text in this encoding",
            "save it as CSV in UTF-8, or declare format.encoding: utf-16",
        )  # fmt: skip
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _column_of(content: bytes, part: bytes) -> str:
    """In which column a bad byte stands, as far as the header tells it."""
    header = content.split(b"\n", 1)[0]
    if header is None or part == b"" or part in header:
        return ""
    separator = max((s.encode() for s in SEPARATORS), key=header.count)
    names = header.decode("utf-8", "replace").strip("\ufeff\r").split(separator.decode())
    index = part.count(separator)
    return f" (column {names[index].strip()!r})" if len(names) > 1 and index < len(names) else ""


def records(text: str, separator: str, file: str) -> tuple[list[list[str]], list[int]]:
    """Rows of a text with quotes, and the line each starts in.

    Raises:
        DataError: a quote that is never closed.
    """
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    rows, lines, last = [], [], 0
    try:
        for row in reader:
            rows.append(row)
            lines.append(last + 1)
            last = reader.line_num
    except csv.Error as error:
        raise fault(
            file, "line", [last + 1], None, f"the quotes do not match ({error})", "correct the quotes in that line"
        ) from None
    return rows, lines


def read_cells(path: Path, separator: str, encoding: str, skip_lines: int = 0) -> Cells:
    """Read a CSV file strictly: every row must have as many cells as the header.

    Raises:
        DataError: empty, no rows below the header, another encoding, a row of another length, a name that stands twice.
    """
    file = path.name
    text = decode(path.read_bytes(), encoding, file)
    if skip_lines:
        text = text.split("\n", skip_lines)[-1] if text.count("\n") >= skip_lines else ""
    text = text.rstrip("\n ")
    if not text:
        raise DataError(f"{file}: there is nothing below the {skip_lines} skipped lines", "correct format.skip_lines")
    if '"' in text:
        rows, numbers = records(text, separator, file)
        header, rows, lines = rows[0], rows[1:], np.array(numbers[1:], dtype=np.int64) + skip_lines
        _same_length(file, header, [len(row) if row else 0 for row in rows], lines, separator)
        names = _names(file, header, skip_lines + 1)
        columns = [pl.Series(list(cells), dtype=pl.String) for cells in zip(*rows, strict=True)]
    else:
        head, _, body = text.partition("\n")
        header = head.split(separator)
        split = body.split("\n") if body else []
        lines = np.arange(len(split), dtype=np.int64) + skip_lines + 2
        lengths = [line.count(separator) + 1 if line else 0 for line in split]
        _same_length(file, header, lengths, lines, separator)
        names = _names(file, header, skip_lines + 1)
        columns = _split(body, separator, len(names)) if split else []
    if not len(lines):
        raise fault(
            file, "line", [skip_lines + 1], None, "a header and no row below it", "give a file that holds values"
        )
    return Cells(file, {n: c.str.strip_chars() for n, c in zip(names, columns, strict=True)}, lines, "line")


def _split(body: str, separator: str, count: int) -> list[pl.Series]:
    if count == 1:
        return [pl.Series(body.split("\n"), dtype=pl.String)]
    frame = pl.read_csv(
        body.encode(), separator=separator, has_header=False, quote_char=None, infer_schema=False,
        new_columns=[f"c{i}" for i in range(count)], empty_string_is_null=False,
    )  # fmt: skip
    return frame.get_columns()


def _same_length(file: str, header: list[str], lengths: list[int], lines: np.ndarray, separator: str) -> None:
    bad = [i for i, length in enumerate(lengths) if length != len(header)]
    if not bad:
        return
    found = lengths[bad[0]]
    what = f"{found} cells where the header has {len(header)}" if found else "the line is blank"
    fix = "correct the line" if found else "delete the line"
    if found and len(bad) == len(lengths):
        fix = f"if the cells are not separated by {separator!r}, declare format.separator"
        if separator == "," and found % 2 and found > len(header):
            fix += "; numbers with decimal commas need quotes or another separator"
    raise fault(file, "line", lines[bad], None, what, fix)


def _names(file: str, header: list[str], line: int) -> list[str]:
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise fault(
            file, "line", [line], twice[0], f"the header names {listed(map(repr, twice))} more than once",
            "give every column its own name",
        )  # fmt: skip
    return names


def other_separator(header: str, separator: str) -> str | None:
    """Which separator a header line seems to have, if not the one it was split by."""
    others = [s for s in SEPARATORS if s != separator and s in header]
    return max(others, key=header.count) if others else None
