"""Numbers that probably stand for "no value": -999, 9999, 1e20 and other extremes that do not belong to a channel."""

from __future__ import annotations

import numpy as np

# What loggers, statistics programs and netCDF write for "missing", and the ends of common integer types.
_NINES = (99, 999, 9999, 99999, 999999, 9999999, 99.9, 99.99, 999.9, 999.99, 9999.9)
_CODES = frozenset(sign * code for code in _NINES for sign in (1, -1)) | {
    -999.25,
    -32768,
    32767,
    65535,
    2147483647,
    -2147483648,
    -2147483647,
    1e20,
    -1e20,
    1e30,
    -1e30,
    1e36,
    -1e36,
    1e37,
}
_AT_MOST = 4


def suspicious(values: np.ndarray, allowed: tuple[float, ...] = ()) -> list[tuple[float, int]]:
    """The values of one channel [n] that look like sentinels, each with how often it stands there.

    A value is suspected if it is the smallest or largest, lies apart from all others, and is a customary code (even
    once) or stands there three times or more. "Apart" means: by a quarter of the others' whole range and five times
    their own largest hole for a code, by ten times that range for any other number; or a negative code of 999 and more
    where all others are 0 or above.

    Args:
        values: NaN and infinities are left out.
        allowed: numbers that were declared to be real.
    """
    rest, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    found: list[tuple[float, int]] = []
    while len(rest) > 1 and len(found) < _AT_MOST:
        for end in (0, -1):
            others = rest[1:] if end == 0 else rest[:-1]
            value, count = float(rest[end]), int(counts[end])
            if value not in allowed and _is_apart(value, count, others):
                found.append((value, count))
                rest, counts = (rest[1:], counts[1:]) if end == 0 else (rest[:-1], counts[:-1])
                break
        else:
            break
    return found


def _is_apart(value: float, count: int, others: np.ndarray) -> bool:
    gap = min(abs(value - others[0]), abs(value - others[-1]))
    spread = float(others[-1] - others[0])
    if value in _CODES or abs(value) >= 1e20:
        if value < 0 <= others[0] and (value <= -999 or count > 1):
            return True
        # Of two values alone nobody can say which is the odd one.
        return len(others) >= 3 and gap > 0.25 * spread and gap > 5 * float(np.diff(others).max())
    return count >= 3 and len(others) >= 10 and gap > 10 * spread
