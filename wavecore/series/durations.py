"""Durations such as `15m`, `1h`, `4w` or `1mo`, and how many steps of a series one of them holds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wavecore.errors import SettingsError

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 7 * 86_400_000_000,
}
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_PART = re.compile(r"(\d+)(us|ms|mo|s|m|h|d|w|q|y)")


@dataclass(frozen=True)
class Duration:
    """A positive length of time. Calendar months have no fixed length, so they are counted apart.

    Attributes:
        months: calendar months.
        microseconds: the rest.
    """

    months: int
    microseconds: int


def parse(text: object, where: str) -> Duration:
    """Read a duration: whole numbers with a unit among us, ms, s, m (minutes), h, d, w, mo, q, y; `1h30m` adds up.

    Raises:
        SettingsError: not a duration, or of length zero; the message names `where`.
    """
    parts = _PART.findall(text) if isinstance(text, str) else []
    if not isinstance(text, str) or not parts or "".join(a + unit for a, unit in parts) != text:
        raise SettingsError(
            f"{where}: {text!r} is not a duration", "write a whole number and a unit: 15m, 1h, 7d, 4w, 1mo, 1q, 1y"
        )
    months = sum(int(a) * _MONTHS.get(unit, 0) for a, unit in parts)
    microseconds = sum(int(a) * _MICROSECONDS.get(unit, 0) for a, unit in parts)
    if months == 0 and microseconds == 0:
        raise SettingsError(f"{where}: {text!r} has no length", "write a duration above zero")
    return Duration(months, microseconds)


def steps_in(text: object, step: str, where: str) -> int:
    """How many steps of length `step` the duration `text` holds: 4w of 1h are 672.

    Raises:
        SettingsError: not a whole number of steps, or months against a step of fixed length (or the reverse).
    """
    whole, unit = parse(text, where), parse(step, f"{where}: step")
    for a, b, other_a, other_b in (
        (whole.microseconds, unit.microseconds, whole.months, unit.months),
        (whole.months, unit.months, whole.microseconds, unit.microseconds),
    ):
        if b and not other_a and not other_b and a and a % b == 0:
            return a // b
    raise SettingsError(
        f"{where}: {text!r} is not a whole number of steps of {step!r}",
        "give a number of rows, or a duration in the unit of the step",
    )
