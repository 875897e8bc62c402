"""From a tidy table as read to a regular series: only what the dataset declares is done, all else is an error."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from assets.ingest.faults import fault, key, listed
from assets.ingest.sentinels import suspicious
from data_contracts.catalog import Dataset
from data_contracts.durations import Step, step_text
from wavecore.errors import DataError

# A single wrong year must not become a grid that fills the memory.
_LONGEST = 50


@dataclass(frozen=True)
class Treated:
    """What treatment did, in counts.

    Attributes:
        rows_read: values in the file, over all channels.
        steps, channels: size of the regular series.
        first, last: its timestamps.
        sentinels: values that were declared sentinels and became null, per channel.
        missing: nulls in the result, per channel (sentinels and inserted steps included).
        steps_inserted: steps that the file has no row for.
        averaged: values that share their step with another (resample).
        after_as_of: values left out because they are later than `as_of`.
        unfinished: values left out because their last step is not over (resample).
        constant: channels that never change.
    """

    rows_read: int
    steps: int
    channels: int
    first: str
    last: str
    sentinels: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    steps_inserted: int = 0
    averaged: int = 0
    after_as_of: int = 0
    unfinished: int = 0
    constant: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All counts, for metadata."""
        return asdict(self)

    def sentences(self) -> tuple[str, ...]:
        """The same in plain English, only what happened."""
        said = [f"{self.steps} steps of {self.channels} channels from {self.first} to {self.last}"]
        if self.after_as_of:
            said.append(f"{self.after_as_of} values later than as_of were left out")
        if self.sentinels:
            said.append(f"{sum(self.sentinels.values())} sentinels became nulls in {listed(self.sentinels)}")
        if self.averaged:
            said.append(f"{self.averaged} values share a step with others and were averaged")
        if self.unfinished:
            said.append(f"{self.unfinished} values of an unfinished last step were left out")
        if self.steps_inserted:
            said.append(f"{self.steps_inserted} steps without a row were inserted as nulls")
        if self.missing:
            said.append(f"{sum(self.missing.values())} values are null, in {listed(self.missing)}")
        if self.constant:
            said.append(f"constant: {listed(self.constant)}")
        return tuple(said)


@dataclass
class _Table:
    """The values under treatment: one entry per cell of the file. Shapes [m]."""

    stamps: np.ndarray  # datetime64[us]
    codes: np.ndarray  # channel index
    values: np.ndarray  # float64, NaN where missing
    rows: np.ndarray  # line or row of the file

    def keep(self, mask: np.ndarray) -> None:
        self.stamps, self.codes, self.values, self.rows = (
            part[mask] for part in (self.stamps, self.codes, self.values, self.rows)
        )


def treat(frame: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, Treated]:
    """Make the table of `read_raw` regular.

    In this order: cut at `as_of`; sentinels to null; undeclared sentinels are an error; `irregular: resample` averages
    each bin (end - step, end] and labels it by its end, so that no label knows a later value, and leaves out a last bin
    that is not over; absent steps are inserted as nulls; nulls need `missing: mask`; constant channels need `keep`.

    Returns:
        a table sorted by time and channel (in the order of `frame`): `timestamp` datetime[us], `channel` str, `value`
        f64 or null, every channel at every step; and what was done.

    Raises:
        DataError: something is not regular and no treatment is declared for it.
    """
    unit = "row" if dataset.format.kind == "parquet" else "line"
    names, table = _table(frame)
    read = len(table.values)
    after = _cut(table, dataset)
    sentinels = _sentinels(table, names, dataset, unit)
    step = dataset.parsed_step
    averaged = unfinished = 0
    if dataset.treatment.irregular == "resample":
        index, origin, unfinished = _bins(table, step, dataset)
        _check_length(table, index, dataset, unit)
        values, seen, averaged = _mean(table, index, len(names))
        stamps = step.stamps(origin, len(values))
    else:
        unique = np.unique(table.stamps)
        position, month_end = _check_grid(table, unique, step, dataset, unit)
        index = position[np.searchsorted(unique, table.stamps)]
        _check_length(table, index, dataset, unit)
        values = np.full((int(position[-1]) + 1, len(names)), np.nan)
        seen = np.zeros(values.shape, dtype=bool)
        values[index, table.codes], seen[index, table.codes] = table.values, True
        stamps = step.stamps(unique[0], len(values), month_end)
    _check_missing(table, values, seen, stamps, names, dataset, unit)
    constant = _check_constant(values, names, dataset)
    holes = np.isnan(values)
    report = Treated(
        rows_read=read,
        steps=len(stamps),
        channels=len(names),
        first=str(stamps[0].item()),
        last=str(stamps[-1].item()),
        sentinels=sentinels,
        missing={name: int(n) for name, n in zip(names, holes.sum(0), strict=True) if n},
        steps_inserted=int((~seen.any(1)).sum()),
        averaged=averaged,
        after_as_of=after,
        unfinished=unfinished,
        constant=constant,
    )
    return _tidy(stamps, names, values), report


def _table(frame: pl.DataFrame) -> tuple[tuple[str, ...], _Table]:
    channel = frame["channel"]
    kind = channel.dtype
    names = tuple((kind.categories if isinstance(kind, pl.Enum) else channel.unique(maintain_order=True)).to_list())
    codes = channel.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    values = frame["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    rows = frame["row"].to_numpy() if "row" in frame.columns else np.arange(1, frame.height + 1)
    return names, _Table(frame["timestamp"].to_numpy().astype("datetime64[us]"), codes, values, rows)


def _cut(table: _Table, dataset: Dataset) -> int:
    if dataset.as_of is None:
        return 0
    known = table.stamps <= np.datetime64(dataset.as_of, "us")
    if not known.any():
        raise DataError(
            f"{dataset.file}: every row is later than as_of ({dataset.as_of}); the first: {table.stamps.min().item()}",
            f"correct {key(dataset.name, 'as_of')}",
        )
    table.keep(known)
    return int((~known).sum())


def _sentinels(table: _Table, names: tuple[str, ...], dataset: Dataset, unit: str) -> dict[str, int]:
    declared = np.isin(table.values, np.array(dataset.treatment.sentinels, dtype=np.float64))
    counts = np.bincount(table.codes[declared], minlength=len(names))
    table.values[declared] = np.nan
    for code, name in enumerate(names):
        own = table.codes == code
        suspects = suspicious(table.values[own], dataset.treatment.sentinels_allowed)
        if suspects:
            value, count = suspects[0]
            rows = table.rows[own & (table.values == value)]
            times = "once" if count == 1 else f"{count} times"
            said = f"[{', '.join(f'{v:g}' for v, _ in suspects)}]"
            raise fault(
                dataset.file, unit, rows, name, f"{value:g} stands there {times}, far from all others: a sentinel?",
                f"if it means a missing value, declare "
                f"{key(dataset.name, f'treatment.sentinels: {said} and treatment.missing: mask')}; "
                f"if it is real, treatment.sentinels_allowed: {said}",
            )  # fmt: skip
    return {name: int(n) for name, n in zip(names, counts, strict=True) if n}


def _check_grid(table: _Table, unique: np.ndarray, step: Step, dataset: Dataset, unit: str) -> tuple[np.ndarray, bool]:
    """Position of each unique timestamp on the grid, and whether it is one of month ends."""
    column = " ".join(dataset.format.time_columns)
    again = _duplicates(table)
    if len(again):
        # `read_raw` names both rows; here for tables that did not come from it.
        raise fault(
            dataset.file, unit, table.rows[again], column, f"duplicate: {table.stamps[again[0]].item()}", "delete it"
        )
    position, exact, month_end = step.positions(unique)
    if not exact.all():
        off = unique[~exact]
        rows = np.unique(table.rows[np.isin(table.stamps, off)])
        raise fault(
            dataset.file, unit, rows, column,
            f"irregular: {off[0].item()} is no whole number of steps of {dataset.step} after {unique[0].item()}"
            + _usual(unique, step),
            f"correct {key(dataset.name, 'step')}, or declare treatment.irregular: resample there",
        )  # fmt: skip
    jumps = np.diff(position)
    if dataset.treatment.missing == "reject" and len(jumps) and jumps.max() > 1:
        gaps = np.flatnonzero(jumps > 1)
        before = [int(table.rows[table.stamps == unique[g]].max()) for g in gaps[:50]]
        g = int(gaps[0])
        count = int((jumps[gaps] - 1).sum())
        raise DataError(
            f"{dataset.file}, column {column!r}, after {unit} {before[0]}: missing timestamps, {jumps[g] - 1} "
            f"step{'s' if jumps[g] > 2 else ''} of {dataset.step} between {unique[g].item()} and {unique[g + 1].item()}"
            + (f"; {count} steps in {len(gaps)} gaps in all" if len(gaps) > 1 else "")
            + _usual(unique, step),
            f"fill in the rows, or declare {key(dataset.name, 'treatment.missing: mask')}",
            columns=(column,),
            rows=before,
        )
    return position, month_end


def _duplicates(table: _Table) -> np.ndarray:
    order = np.lexsort((table.stamps, table.codes))
    stamps, codes = table.stamps[order], table.codes[order]
    return np.sort(order[1:][(stamps[1:] == stamps[:-1]) & (codes[1:] == codes[:-1])])


def _usual(unique: np.ndarray, step: Step) -> str:
    """A remark where the declared step is not what most rows keep."""
    if len(unique) < 3 or step.months:
        return ""
    lengths, counts = np.unique(np.diff(unique).astype(np.int64), return_counts=True)
    usual = int(lengths[counts.argmax()])
    if usual == step.microseconds or counts.max() * 2 < len(unique) - 1:
        return ""
    return f" (most rows are {step_text(Step(usual))} apart)"


def _check_length(table: _Table, index: np.ndarray, dataset: Dataset, unit: str) -> None:
    steps, known = int(index.max()) + 1, len(np.unique(index))
    if steps <= _LONGEST * known + 10_000:
        return
    order = np.argsort(index, kind="stable")
    at = int(np.argmax(np.diff(index[order])))
    before, after = order[at], order[at + 1]
    raise fault(
        dataset.file, unit, [table.rows[before], table.rows[after]], " ".join(dataset.format.time_columns),
        f"a gap of {index[after] - index[before] - 1} steps of {dataset.step} between {table.stamps[before].item()} "
        f"and {table.stamps[after].item()}, in a series of {known} rows",
        f"correct the timestamp, or {key(dataset.name, 'step')}",
    )  # fmt: skip


def _bins(table: _Table, step: Step, dataset: Dataset) -> tuple[np.ndarray, np.datetime64, int]:
    index, origin = step.ceiling(table.stamps)
    last = int(index.max())
    # Only the last bin can still be open: it is over once a row stands at its very end.
    if step.stamps(origin, last + 1)[-1] <= table.stamps.max():
        return index, origin, 0
    over = index < last
    if not over.any():
        raise DataError(
            f"{dataset.file}: all rows lie within one step of {dataset.step}", f"correct {key(dataset.name, 'step')}"
        )
    table.keep(over)
    return index[over], origin, int((~over).sum())


def _mean(table: _Table, index: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean of the values in each bin [n, N] (NaN where none), whether a row fell into it, values that shared a bin."""
    shape = (int(index.max()) + 1, channels)
    flat = index * channels + table.codes
    there = ~np.isnan(table.values)
    size = shape[0] * channels
    count = np.bincount(flat[there], minlength=size)
    total = np.bincount(flat[there], weights=table.values[there], minlength=size)
    # A bin of one value keeps its bits.
    mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    seen = np.bincount(flat, minlength=size) > 0
    return mean.reshape(shape), seen.reshape(shape), int(count[count > 1].sum())


def _check_missing(
    table: _Table,
    values: np.ndarray,
    seen: np.ndarray,
    stamps: np.ndarray,
    names: tuple[str, ...],
    dataset: Dataset,
    unit: str,
) -> None:
    holes = np.isnan(values)
    empty = [name for name, hole in zip(names, holes.all(0), strict=True) if hole]
    if empty:
        raise DataError(
            f"{dataset.file}, column{'s' if len(empty) > 1 else ''} {listed(map(repr, empty))}: holds no value at all",
            f"name it in {key(dataset.name, 'format.ignore')}"
            + (", and take it out of format.channels" if dataset.format.channels else ""),
            columns=empty,
        )
    if dataset.treatment.missing == "mask" or not holes.any():
        return
    code = int(np.argmax(holes.any(0)))
    at_fault = np.flatnonzero(holes[:, code])
    written = table.rows[(table.codes == code) & np.isnan(table.values)]
    fix = f"fill in the values, or declare {key(dataset.name, 'treatment.missing: mask')}"
    if len(written):
        raise fault(dataset.file, unit, written, names[code], "no value", fix)
    times = [stamps[i].item().isoformat(" ") for i in at_fault]
    raise fault(dataset.file, "time", times, names[code], f"no row for {len(at_fault)} steps of {dataset.step}", fix)


def _check_constant(values: np.ndarray, names: tuple[str, ...], dataset: Dataset) -> tuple[str, ...]:
    with np.errstate(invalid="ignore"):
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    constant = [i for i in range(len(names)) if low[i] == high[i]]
    if constant and dataset.constant_channels == "reject":
        named = [names[i] for i in constant]
        raise DataError(
            f"{dataset.file}, column{'s' if len(named) > 1 else ''} {listed(map(repr, named))}: constant, always "
            f"{low[constant[0]]:g}",
            f"leave it out ({key(dataset.name, 'format.ignore')}"
            + (" instead of format.channels" if dataset.format.channels else "")
            + "), or declare constant_channels: keep there",
            columns=named,
        )
    return tuple(names[i] for i in constant)


def _tidy(stamps: np.ndarray, names: tuple[str, ...], values: np.ndarray) -> pl.DataFrame:
    steps = len(stamps)
    order = np.tile(np.arange(len(names)), steps)
    return pl.DataFrame(
        {
            "timestamp": pl.Series(np.repeat(stamps, len(names))),
            "channel": pl.Series(names, dtype=pl.String).gather(order),
            "value": pl.Series(values.reshape(-1)).fill_nan(None),
        }
    )
