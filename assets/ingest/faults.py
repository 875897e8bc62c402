"""How faults of a file are worded: file, column, rows, and the key of the YAML that would settle it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wavecore.errors import DataError

_SHOWN = 5


def listed(items: Iterable[object], shown: int = _SHOWN) -> str:
    """`4, 9, 12` or `4, 9, 12, 15, 20 and 7 more`."""
    items = list(items)
    text = ", ".join(str(item) for item in items[:shown])
    return text if len(items) <= shown else f"{text} and {len(items) - shown} more"


def at(unit: str, rows: Sequence[object]) -> str:
    """`line 4`, `lines 4, 9`; `unit` is `line` for text files, `row` for Parquet, `time` where rows were made."""
    return f"{unit}{'s' if len(rows) > 1 else ''} {listed(rows)}"


def fault(file: str, unit: str, rows: Iterable[object], column: str | None, problem: str, fix: str) -> DataError:
    """A DataError on cells: `file, column 'OT', line 5: problem`."""
    rows = [row.item() if hasattr(row, "item") else row for row in rows]
    where = [file]
    if column is not None:
        where.append(f"column {column!r}")
    if rows:
        where.append(at(unit, rows))
    return DataError(f"{', '.join(where)}: {problem}", fix, columns=() if column is None else (column,), rows=rows)


def key(dataset: str, what: str) -> str:
    """Where a declaration goes: `treatment.missing: mask in data_contracts/datasets/x.yaml`."""
    return f"{what} in data_contracts/datasets/{dataset}.yaml"
