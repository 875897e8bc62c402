"""Defaults that fit a series: its season, and a window, a horizon and splits that leave enough to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from data_contracts.durations import DAY, Step, step_text
from wavecore.errors import DataError, SettingsError

_HOUR = DAY // 24
# A window of 112 steps is the shortest that holds four levels of the default wavelet.
FOUR_LEVELS = 112
_LONGEST_WINDOW = 512
_LONGEST_HORIZON = 336
_SHORTEST_WINDOW = 16
_SHARE = 0.15


@dataclass(frozen=True)
class Sizes:
    """Window and horizon in steps; validation and test in steps from the end, and as text."""

    window: int
    horizon: int
    season: int
    held_out: int
    duration: str


def seasons(step: Step) -> tuple[int, ...]:
    """Likely seasons in steps, the most likely first: the day (or the hour) of short steps, the week of days, the year
    of weeks and months; at last 1."""
    if step.months:
        return (12 // step.months, 1) if step.months < 12 and 12 % step.months == 0 else (1,)
    length = step.microseconds
    if length < DAY:
        whole = [whole // length for whole in (DAY, _HOUR) if whole % length == 0]
        return (*(count for count in whole if count > 1), 1)
    if length == DAY:
        return (7, 1)
    return (52, 1) if length == 7 * DAY else (1,)


def sizes(steps: int, step: Step, file: str, window: int | None = None, horizon: int | None = None) -> Sizes:
    """Choose for a series of `steps` rows: about 15% each for validation and test, one season ahead (or the largest
    part of it that leaves each half of validation as many windows again), and the longest window up to 512 that leaves
    three quarters of the train rows for windows of their own. A given window or horizon is taken, if it fits.

    Raises:
        DataError: the series is too short for any.
        SettingsError: it is too short for the given ones.
    """
    for season in seasons(step):
        held = _held_out(steps, step, season)
        ahead = horizon or _part(season if season > 1 else 8, min(held // 4, _LONGEST_HORIZON))
        room = steps - 2 * held - ahead
        seen = window or _window(room)
        if held // 2 < ahead or room < seen:
            continue
        if window is None and (held < 4 or seen < _SHORTEST_WINDOW or (seen < season and season > 1)):
            continue
        return Sizes(seen, ahead, season if season <= seen else 1, held, _text(held, step))
    if window is None and horizon is None:
        raise DataError(
            f"{file}: {steps} steps of {step_text(step)} are too few to learn and judge from",
            f"give at least {shortest()} steps",
        )
    held = _held_out(steps, step, 1)
    raise SettingsError(
        f"{file}: {steps} steps of {step_text(step)}, of which {held} are validation and {held} the test, hold no "
        f"window of {window or _SHORTEST_WINDOW} and horizon of {horizon or 1} in each split",
        "shorten --window or --horizon, or give a longer series",
    )


def _held_out(steps: int, step: Step, season: int) -> int:
    """Rows of the test, and of validation: whole weeks, days, seasons or hours where that loses little."""
    held = int(_SHARE * steps)
    whole = [length // step.microseconds for length in (7 * DAY, DAY) if _divides(step, length)]
    whole += [season] + ([_HOUR // step.microseconds] if _divides(step, _HOUR) else [])
    unit = next((unit for unit in whole if unit > 1 and held >= 3 * unit), 1)
    return held - held % unit


def _divides(step: Step, length: int) -> bool:
    return step.microseconds > 0 and length % step.microseconds == 0


def _part(season: int, most: int) -> int:
    """The largest whole part (a half, a third …) of a season that is at most `most`; at least 1."""
    parts = [season // n for n in range(1, season + 1) if season % n == 0]
    return max(1, next((part for part in parts if part <= most), 1))


def _window(room: int) -> int:
    window = min(_LONGEST_WINDOW, room // 4 // 8 * 8)
    if window < FOUR_LEVELS:
        window = FOUR_LEVELS if room >= 2 * FOUR_LEVELS else room // 2 // 8 * 8
    return window


def shortest() -> int:
    """The fewest steps for which `sizes` has an answer at season 1."""
    steps = 2 * _SHORTEST_WINDOW
    while True:
        held = int(_SHARE * steps)
        if held >= 4 and _window(steps - 2 * held - _part(8, held // 4)) >= _SHORTEST_WINDOW:
            return steps
        steps += 1


def levels_of(window: int) -> int:
    """How many levels of the default wavelet (db4) a window holds."""
    import pywt

    return int(pywt.dwt_max_level(window, "db4"))


def _text(steps: int, step: Step) -> str:
    return step_text(Step(step.microseconds * steps, step.months * steps), weeks=True)
