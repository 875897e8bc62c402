"""Which time zone's clock changes explain a column of local times."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

import numpy as np
import polars as pl

from assets.ingest.clock import earliest_latest, offset_minutes
from assets.ingest.faults import fault, listed
from assets.ingest.guess import TimeGuess
from assets.ingest.text import Cells
from data_contracts.catalog import Format
from data_contracts.durations import DAY
from wavecore.errors import SettingsError

# Of zones with one and the same clock, the first of these is named, else the first by alphabet.
_PREFERRED = (
    "Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney", "America/Sao_Paulo", "Asia/Jerusalem",
)  # fmt: skip


def repeated(stamps: np.ndarray) -> np.ndarray:
    """Local times that stand twice in one channel's column [n] in file order: sorted, each once."""
    unique, counts = np.unique(stamps, return_counts=True)
    return unique[counts == 2]


def explaining(stamps: np.ndarray) -> list[list[str]]:
    """Zones whose clock shows exactly the repeated times of `stamps` [n] twice, and skips none of the others.

    Returns:
        groups of zones, the largest first; those of a group give the same UTC for every row. Preferred names first.
    """
    twice = repeated(stamps)
    if not len(twice):
        return []
    probe: datetime = twice[0].astype("datetime64[us]").item()
    groups: dict[bytes, list[str]] = {}
    series = pl.Series(np.unique(stamps))
    for name in sorted(zoneinfo.available_timezones(), key=_rank):
        if "/" not in name or name.startswith(("Etc/", "SystemV/", "posix/", "right/")):
            continue
        zone = zoneinfo.ZoneInfo(name)
        if probe.replace(tzinfo=zone, fold=0).utcoffset() == probe.replace(tzinfo=zone, fold=1).utcoffset():
            continue
        early, late = earliest_latest(series, name)
        if np.isnat(early).any() or not np.array_equal(series.to_numpy()[early != late], twice):
            continue
        groups.setdefault(early.tobytes(), []).append(name)
    return sorted(groups.values(), key=len, reverse=True)


def stands_out(groups: list[list[str]]) -> bool:
    """Whether the first of several groups is so much the larger that it may be taken: Central Europe beside Moldova."""
    return len(groups) == 1 or (len(groups) > 1 and len(groups[0]) >= 10 and len(groups[0]) >= 5 * len(groups[1]))


def of_offsets(utc: pl.Series, minutes: np.ndarray) -> list[str]:
    """Zones that have these offsets from UTC [n] at these times [n], preferred names first."""
    changes = np.flatnonzero(np.diff(minutes)) + 1
    probes = sorted({0, len(minutes) - 1, *changes.tolist(), *(changes - 1).tolist()})
    found = []
    for name in sorted(zoneinfo.available_timezones(), key=_rank):
        if "/" not in name or name.startswith(("Etc/", "SystemV/", "posix/", "right/")):
            continue
        zone = zoneinfo.ZoneInfo(name)
        # Most zones fail at the first probe.
        if any(_offset(utc[i], zone) != minutes[i] for i in probes):
            continue
        local = utc.dt.replace_time_zone("UTC").dt.convert_time_zone(name)
        if np.array_equal((local.dt.base_utc_offset() + local.dt.dst_offset()).dt.total_minutes().to_numpy(), minutes):
            found.append(name)
    return found


def _offset(utc: datetime, zone: zoneinfo.ZoneInfo) -> float:
    offset = utc.replace(tzinfo=UTC).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.total_seconds() / 60


def _rank(name: str) -> tuple[int, str]:
    return (_PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED), name)


def rough_step(time: TimeGuess) -> str:
    """Enough of a step to know whether days are meant: the usual distance between neighbours."""
    known = np.unique(time.times.stamps.drop_nulls().to_numpy()).astype("datetime64[us]").astype(np.int64)
    if len(known) < 2:
        return "1h"
    lengths, counts = np.unique(np.diff(known), return_counts=True)
    return "1d" if lengths[counts.argmax()] >= DAY else "1h"


def choose(cells: Cells, time: TimeGuess, form: Format, given: str | None) -> tuple[str | None, list[str]]:
    """The time zone to declare, if one is needed, and what was decided.

    Raises:
        DataError: the clock is a local one and could be that of several zones; or the offsets fit none.
        SettingsError: `given` is no zone.
    """
    column = " ".join(form.time_columns)
    if given is not None:
        _check_zone(given)
    minutes = offset_minutes(time.times)
    if time.times.offsets is not None:
        if len(np.unique(minutes)) == 1:
            return None, [f"timestamps carry the offset {time.times.offsets[0]}: they become UTC"]
        if given is not None:
            return given, [f"timestamps carry the offsets of {given}: they become UTC"]
        found = of_offsets(time.times.stamps, minutes)
        if found:
            return found[0], [f"timestamps carry the changing offsets of {_like(found)}: they become UTC"]
        rows = cells.rows[minutes != minutes[0]]
        raise fault(
            cells.file, cells.unit, rows, column, "mixed time zones: the offsets from UTC change as in no known zone",
            "write all timestamps in UTC, or with the offsets of one zone",
        )  # fmt: skip
    if rough_step(time) == "1d":
        return None, [] if given is None else [
            f"--timezone {given} changes nothing: series of whole days keep their dates"
        ]
    if given is not None:
        return given, [f"times are those of a clock in {given}: they become UTC"]
    group = _first_group(cells, form)
    stamps = time.times.stamps.to_numpy()[group].astype("datetime64[us]")
    stamps = stamps[~np.isnat(stamps)]
    twice = repeated(stamps)
    if not len(twice):
        return None, _spring_hint(stamps)
    candidates = explaining(stamps)
    if stands_out(candidates):
        day = twice[0].astype("datetime64[D]")
        others = f", also {listed([names[0] for names in candidates[1:]])}" if candidates[1:] else ""
        return candidates[0][0], [
            f"the clock shows {str(twice[0].item())[11:16]} twice on {day}, as in {_like(candidates[0])}{others}: "
            "times are local and become UTC (if it is another zone: --timezone)"
        ]
    if candidates:
        rows = cells.rows[group][np.isin(time.times.stamps.to_numpy()[group].astype("datetime64[us]"), twice)]
        fits = listed([names[0] for names in candidates], 6)
        raise fault(
            cells.file, cells.unit, rows, column,
            f"a local clock with summer time ({twice[0].item()} stands there twice), but of which zone? It fits {fits}",
            f"add `--timezone {candidates[0][0]}`, or the zone in which the clock was read",
        )  # fmt: skip
    return None, []


def _check_zone(name: str) -> None:
    try:
        Format(timezone=name)
    except ValueError as error:
        raise SettingsError(f"--timezone: {error}", "correct the name") from None


def _like(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} zones with the same clock)"


def _first_group(cells: Cells, form: Format) -> np.ndarray:
    """The rows [n] of the first channel, in which the order of time can be judged."""
    if form.layout == "wide":
        return np.ones(len(cells.rows), dtype=bool)
    ids = cells.columns[form.id].cast(pl.String)
    return (ids == ids[0]).to_numpy()


def _spring_hint(stamps: np.ndarray) -> list[str]:
    """A remark where the only sign of a local clock is a missing hour on a Sunday of March or April."""
    jumps = np.diff(stamps).astype(np.int64)
    if not len(jumps):
        return []
    usual = np.bincount(np.unique(jumps, return_inverse=True)[1]).argmax()
    step = np.unique(jumps)[usual]
    hour = DAY // 24
    for i in np.flatnonzero(jumps == step + hour):
        at = stamps[i].item()
        if at.month == 3 and at.isoweekday() == 7 and 0 <= at.hour <= 3:
            return [
                f"an hour is missing after {at}, when clocks in many countries are put forward: if times are local, "
                "add --timezone (for example --timezone Europe/Berlin)"
            ]
    return []
