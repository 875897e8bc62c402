"""Timestamps: from text in any declared form to naive UTC, with the hours that a local clock skips or repeats."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from assets.ingest.faults import fault, listed
from wavecore.errors import SettingsError

ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}(?:[.,]\d{1,9})?))?)?"
    r"\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)
_OFFSET = r"(Z|UTC|[+-]\d{2}(?::?\d{2})?)\s*$"
_EPOCH = {"epoch_s": 1_000_000, "epoch_ms": 1_000}


@dataclass(frozen=True)
class Times:
    """Parsed timestamps.

    Attributes:
        stamps: [n] datetime[us]; as written, or UTC where the text holds an offset; null where it could not be read.
        offsets: [n] text of the offset (null: none), or None where the form has none.
    """

    stamps: pl.Series
    offsets: pl.Series | None = None


def parse(cells: pl.Series, time_format: str | None) -> Times:
    """Read timestamps in `time_format` (strftime, `epoch_s`, `epoch_ms`; None: ISO 8601).

    Raises:
        SettingsError: the format itself is none.
    """
    if cells.dtype == pl.Date:
        return Times(cells.cast(pl.Datetime("us")))
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is not None:
            return Times(cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us")))
        return Times(cells.cast(pl.Datetime("us")))
    if time_format in _EPOCH:
        number = cells.cast(pl.Float64, strict=False)
        # 2**53 µs are 285 years: beyond it a float would not hold the microsecond.
        micro = (number * _EPOCH[time_format]).round().fill_nan(None)
        return Times(micro.cast(pl.Int64, strict=False).cast(pl.Datetime("us")))
    cells = cells.cast(pl.String)
    if time_format is None:
        return _iso(cells)
    if "%z" in time_format:
        offsets = cells.str.extract(_OFFSET, 1)
        stamps = _strptime(cells, time_format).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return Times(stamps, offsets)
    return Times(_strptime(cells, time_format))


def _iso(cells: pl.Series) -> Times:
    parts = cells.to_frame("t").select(pl.col("t").str.extract_groups(ISO)).unnest("t")
    date, minute, second, offset = parts.get_columns()
    second = second.fill_null("00").str.replace(",", ".", literal=True)
    text = date + " " + minute.fill_null("00:00") + ":" + second
    local = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    if offset.is_not_null().sum() == 0:
        return Times(local)
    minutes = pl.Series(offset_minutes(Times(local, offset)))
    return Times(local - (minutes * 60_000_000).cast(pl.Duration("us")), offset)


def _minutes(offset: str) -> int:
    """+01:00, -0530, +02, Z or UTC in minutes."""
    if offset in ("Z", "UTC"):
        return 0
    digits = offset[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return -minutes if offset[0] == "-" else minutes


def _strptime(cells: pl.Series, time_format: str) -> pl.Series:
    # What a coarse format leaves out starts at its first: `%Y-%m` means the first of the month, midnight.
    text, form = cells, time_format
    absent = []
    if not re.search(r"%[-_0]?[mbBhjFDxcsUW]", form):
        absent.append(("01", "%m"))
    if not re.search(r"%[-_0]?[dejFDxcsU]", form):
        absent.append(("01", "%d"))
    if re.search(r"%[-_0]?[HIkl]", form) and not re.search(r"%[-_0]?[MTRXrcs]", form):
        absent.append(("00", "%M"))
    for fill, directive in absent:
        text, form = text + f"|{fill}", f"{form}|{directive}"
    try:
        return text.str.to_datetime(form, strict=False, time_unit="us")
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"format.time_format: {time_format!r} cannot be used ({reason})",
            'write it as in strftime: "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S%z"; or epoch_s, epoch_ms',
        ) from None


def offset_minutes(times: Times) -> np.ndarray:
    """The offsets from UTC in minutes, [n]; 0 where there is none."""
    if times.offsets is None:
        return np.zeros(len(times.stamps), dtype=np.int64)
    known = {text: _minutes(text) for text in times.offsets.drop_nulls().unique()}
    return times.offsets.replace_strict(known, default=0, return_dtype=pl.Int64).to_numpy()


def check_offsets(times: Times, timezone: str | None, file: str, unit: str, rows: np.ndarray, column: str) -> None:
    """Offsets must be one and the same, or those of the declared zone at their time.

    Raises:
        DataError: they differ for no declared reason, or only some rows have one; names the rows.
    """
    if times.offsets is None:
        return
    without = times.offsets.is_null().to_numpy()
    if without.any():
        raise fault(
            file, unit, rows[without], column, "has no offset from UTC, while other rows have one: mixed time zones",
            "write all timestamps in the same way",
        )  # fmt: skip
    kinds = times.offsets.unique(maintain_order=True).to_list()
    if len({_minutes(kind) for kind in kinds}) == 1:
        return
    minutes = offset_minutes(times)
    if timezone is None:
        other = minutes != minutes[0]
        raise fault(
            file, unit, rows[other], column,
            f"the offset from UTC is not {kinds[0]} as in the first row: mixed time zones ({listed(kinds)})",
            "if it is a local clock with summer time, declare format.timezone (an IANA name such as Europe/Berlin); "
            "else correct the rows",
        )  # fmt: skip
    local = times.stamps.dt.replace_time_zone("UTC").dt.convert_time_zone(timezone)
    expected = (local.dt.base_utc_offset() + local.dt.dst_offset()).dt.total_minutes().to_numpy()
    wrong = expected != minutes
    if wrong.any():
        first = int(np.argmax(wrong))
        raise fault(
            file, unit, rows[wrong], column,
            f"the offset {times.offsets[first]} is not that of {timezone} at that time: mixed time zones",
            "correct the rows, or format.timezone",
        )  # fmt: skip


def earliest_latest(stamps: pl.Series, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """Both readings of local times as UTC, [n] datetime64[us] each: they differ in the hour that a clock repeats;
    NaT in the hour that it skips."""
    both = []
    for which in ("earliest", "latest"):
        aware = stamps.dt.replace_time_zone(timezone, ambiguous=which, non_existent="null")  # type: ignore[arg-type]
        both.append(aware.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy())
    return both[0], both[1]


def local_to_utc(
    stamps: pl.Series,
    timezone: str,
    ambiguous: str,
    groups: np.ndarray,
    file: str,
    unit: str,
    rows: np.ndarray,
    column: str,
) -> pl.Series:
    """Local times as naive UTC.

    The hour that the clock shows twice in autumn is told apart by order: where the time steps back within it, the
    second pass begins. Where the file shows it only once nobody can tell, unless `ambiguous` says.

    Args:
        stamps: [n] local times.
        timezone: IANA name.
        ambiguous: `order`, `earliest` or `latest`.
        groups: [n] the channel of each row (long form), all equal in the wide form: order counts within a channel.
        file, unit, rows, column: for messages.

    Raises:
        DataError: a time that does not exist in that zone, or one that exists twice and cannot be told.
    """
    early, late = earliest_latest(stamps, timezone)
    absent = np.isnat(early)
    if absent.any():
        raise fault(
            file, unit, rows[absent], column,
            f"the clock of {timezone} skips that hour (summer time begins): {stamps[int(np.argmax(absent))]}",
            "correct the rows; if the clock is never changed, declare its fixed zone, such as format.timezone: "
            "Etc/GMT-1 for UTC+1",
        )  # fmt: skip
    double = np.flatnonzero(early != late)
    second = np.zeros(len(early), dtype=bool)
    if ambiguous == "order":
        local = stamps.to_numpy()[double]
        second[double] = _second_pass(local, groups[double], rows[double], file, unit, column, timezone)
    elif ambiguous == "latest":
        second[double] = True
    return pl.Series(np.where(second, late, early))


def _second_pass(
    local: np.ndarray, groups: np.ndarray, rows: np.ndarray, file: str, unit: str, column: str, timezone: str
) -> np.ndarray:
    """Which of the ambiguous rows belong to the second pass of their hour."""
    second = np.zeros(len(local), dtype=bool)
    passes: dict[tuple[object, object], list[int]] = {}
    for i, (group, day) in enumerate(zip(groups.tolist(), local.astype("datetime64[D]").tolist(), strict=True)):
        passes.setdefault((group, day), []).append(i)
    for members in passes.values():
        times = local[members]
        back = np.flatnonzero(times[1:] <= times[:-1]) + 1
        if len(back) != 1:
            raise fault(
                file, unit, rows[members], column,
                f"the clock of {timezone} shows that hour twice (summer time ends), and the file shows it "
                + ("once" if not len(back) else "more often or out of order") + ": it cannot be told which is meant",
                "give both passes in order, one after the other; or declare format.ambiguous: earliest (summer time) "
                "or latest",
            )  # fmt: skip
        second[np.array(members)[back[0] :]] = True
    return second
