"""Train, select, decide, test: ranges of rows, and the windows whose targets lie in each.

A window is named by its origin o, the row of its first target: it reads rows [o - T, o) and forecasts rows [o, o + H).
Targets lie wholly inside one split, so no target row belongs to two splits; inputs may reach back into the split
before, as they would when forecasting for real. No window that fits is ever dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from wavecore.errors import DataError, SettingsError
from wavecore.series.durations import steps_in

Range = tuple[int, int]

SPLITS = ("train", "select", "decide", "test")
BEYOND = "beyond"


@dataclass(frozen=True)
class Borders:
    """Half-open row ranges in this order, without overlap. Validation is `select` and `decide` together.

    Raises:
        SettingsError: a range is empty, starts before row 0, or overlaps the one before.
    """

    train: Range
    select: Range
    decide: Range
    test: Range

    def __post_init__(self) -> None:
        end = 0
        for name in SPLITS:
            start, stop = getattr(self, name)
            if start < end:
                raise SettingsError(
                    f"borders: {name} starts at row {start}, before row {end} where the one before ends",
                    "order the splits: train, select, decide, test",
                )
            if stop <= start:
                raise SettingsError(f"borders: {name} has no rows ({start} to {stop})", "give every split some rows")
            end = stop

    @property
    def validation(self) -> Range:
        """`select` and `decide` as one range."""
        return self.select[0], self.decide[1]

    def range_of(self, split: str) -> Range:
        """The rows of `split`, one of train, select, decide, validation, test."""
        if split not in (*SPLITS, "validation"):
            raise SettingsError(f"there is no split {split!r}", f"choose one of {', '.join((*SPLITS, 'validation'))}")
        start, stop = getattr(self, split)
        return start, stop


def borders_from(
    spec: Mapping[str, Any],
    n: int,
    step: str,
    window: int,
    horizon: int,
    select_share: float = 0.5,
    where: str = "splits",
) -> Borders:
    """Turn what a dataset's YAML says about splits into row ranges.

    Three forms are understood:

    - `{train: 8640, validation: 2880, test: 2880}`: rows (or durations) from the start; rows beyond are unused.
    - `{validation: 4w, test: 4w}`: durations (or rows) from the end; train is everything before.
    - `{validation: 0.1, test: 0.2}`: shares, from the end. With n rows, test has floor(n·test) of them, train
      floor(n·(1 - validation - test)) and validation the rest: the convention of published comparisons.

    Args:
        spec: see above.
        n: rows of the series.
        step: time step of the series, as in the dataset's YAML.
        window: T, rows that a window reads.
        horizon: H, rows that it forecasts.
        select_share: share of validation that becomes `select` (rounded down); the rest is `decide`.
        where: file and key, for messages.

    Raises:
        DataError: fewer rows than one window and its horizon.
        SettingsError: unknown, missing or unreadable keys; borders outside the data; a split too short for one window.
    """
    if window < 1 or horizon < 1:
        raise SettingsError(f"{where}: window {window}, horizon {horizon}", "both must be 1 or more")
    if not 0 < select_share < 1:
        raise SettingsError(f"{where}: select_share is {select_share}", "it must lie between 0 and 1")
    need = window + horizon
    if n < need:
        raise DataError(
            f"{where}: the series has {n} rows, one window of {window} and a horizon of {horizon} need {need}",
            "give a longer series, or shorten the window or the horizon",
        )
    train, validation, test = _lengths(spec, n, step, where)
    if train + validation + test > n:
        raise SettingsError(
            f"{where}: the borders lie outside the data: train {train} + validation {validation} + test {test} "
            f"= {train + validation + test} rows, the series has {n}",
            "make the splits smaller, or give a longer series",
        )
    # A share such as 0.1 is meant as a decimal: exact arithmetic keeps 0.29 · 100 from becoming 28.
    select = math.floor(Fraction(repr(float(select_share))) * validation)
    needs = {"train": need, "select": horizon, "decide": horizon, "test": horizon}
    lengths = {"train": train, "select": select, "decide": validation - select, "test": test}
    for name, length in lengths.items():
        if length < needs[name]:
            part = "" if name in ("train", "test") else f" (a part of validation, which has {validation})"
            made_of = f"window {window} + horizon {horizon}" if name == "train" else f"a horizon of {horizon}"
            raise SettingsError(
                f"{where}: {name} has {length} rows{part}, too short for one window: it needs {needs[name]} "
                f"({made_of})",
                f"give {name if name in ('train', 'test') else 'validation'} more rows, "
                f"or shorten the {'window or the horizon' if name == 'train' else 'horizon'}",
            )
    cut = train + select
    stop = train + validation
    return Borders((0, train), (train, cut), (cut, stop), (stop, stop + test))


def origins(borders: Borders, split: str, window: int, horizon: int) -> np.ndarray:
    """All windows whose targets lie wholly in `split`: their origins, [count] int64, rising by one.

    With a split [a, b) there are b - max(a, T) - H + 1 of them.

    Args:
        split: train, select, decide, validation (windows across the cut between select and decide included) or test.

    Raises:
        SettingsError: no such split, or not one window fits.
    """
    start, stop = borders.range_of(split)
    first = max(start, window)
    found = np.arange(first, stop - horizon + 1, dtype=np.int64)
    if not found.size:
        raise SettingsError(
            f"split {split!r} (rows {start} to {stop}) holds no window of {window} + {horizon} rows",
            "make the split longer, or shorten the window or the horizon",
        )
    return found


def split_of_origin(borders: Borders, origin: np.ndarray) -> np.ndarray:
    """The split in which the first target of each origin lies, `beyond` after all of them: an array of str, same shape.

    A window of `train` whose later targets reach into `select` is named `train` here, but is not among
    `origins(borders, "train", …)`: this names windows, `origins` says which of them are used.

    Raises:
        SettingsError: an origin before row 0.
    """
    rows = np.asarray(origin)
    if rows.size and rows.min() < 0:
        raise SettingsError(f"origin {rows.min()} lies before the first row", "count origins from 0")
    names = np.full(rows.shape, BEYOND, dtype="<U8")
    for name in SPLITS:
        start, stop = borders.range_of(name)
        names[(rows >= start) & (rows < stop)] = name
    return names


def _lengths(spec: Mapping[str, Any], n: int, step: str, where: str) -> tuple[int, int, int]:
    """Rows of train, validation and test; together they may exceed n."""
    known = ("train", "validation", "test")
    if not isinstance(spec, Mapping):
        raise SettingsError(f"{where}: expected keys and values, found {spec!r}", "write {validation: 4w, test: 4w}")
    for key in spec:
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}", f"known keys: {', '.join(known)}")
    for key in ("validation", "test"):
        if key not in spec:
            raise SettingsError(f"{where}: the key {key!r} is missing", f"add `{key}:`")
    if any(isinstance(value, float) for value in spec.values()):
        return _from_shares(spec, n, where)
    rows = {key: _rows(value, step, f"{where}.{key}") for key, value in spec.items()}
    validation, test = rows["validation"], rows["test"]
    if "train" in rows:
        return rows["train"], validation, test
    if validation + test >= n:
        raise SettingsError(
            f"{where}: the borders lie outside the data: validation {validation} + test {test} rows from the end "
            f"leave nothing of {n} rows for train",
            "make the splits smaller, or give a longer series",
        )
    return n - validation - test, validation, test


def _rows(value: Any, step: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise SettingsError(f"{where}: {value!r} is no length", "write rows (2880), a duration (4w) or a share (0.2)")
    if isinstance(value, str):
        return steps_in(value, step, where)
    if value < 1:
        raise SettingsError(f"{where}: {value} rows", "give the split at least one row")
    return value


def _from_shares(spec: Mapping[str, Any], n: int, where: str) -> tuple[int, int, int]:
    shares: dict[str, Fraction] = {}
    for key, value in spec.items():
        if not isinstance(value, float) or not 0 < value < 1:
            raise SettingsError(
                f"{where}.{key}: {value!r} stands among shares, which lie between 0 and 1",
                "write all splits as shares (0.1), or all as rows or durations",
            )
        shares[key] = Fraction(repr(value))
    rest = 1 - shares["validation"] - shares["test"]
    if rest <= 0:
        raise SettingsError(f"{where}: validation and test leave no share for train", "make them smaller")
    if "train" in shares and shares["train"] != rest:
        raise SettingsError(f"{where}: the shares do not sum to 1", f"leave out train, or set it to {float(rest):g}")
    train, test = math.floor(n * rest), math.floor(n * shares["test"])
    return train, n - train - test, test
