"""Generated series, always named as such: the hourly load of a small grid whose events are known.

Everything follows from the seed. Four independent streams (weather, holidays, bursts, noise) are spawned from it, so
that holidays and bursts can be asked for without making the series. The bit stream is numpy's PCG64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS = ("north", "industry", "south", "solar")
DAY = 24
WEEK = 7 * DAY
_YEAR = 365.25 * DAY
# What a load is in an ordinary hour, in MW; bursts are measured against it.
_BASE = np.array([120.0, 80.0, 90.0, 45.0])


@dataclass(frozen=True)
class Event:
    """Something that happens at a known time.

    Attributes:
        kind: `holiday` (all channels) or `burst` (one channel).
        channel: its index; -1 for all.
        start, stop: rows, half-open.
        size: of a burst, its peak in MW (negative: a loss); 0 for a holiday.
    """

    kind: str
    channel: int
    start: int
    stop: int
    size: float = 0.0


def _streams(seed: int) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(4)]


def holidays(seed: int, rows: int) -> tuple[Event, ...]:
    """One working day in every block of three weeks is a holiday: the loads then follow their Sunday."""
    generator = _streams(seed)[1]
    found = []
    for block in range(0, rows, 3 * WEEK):
        week, weekday = generator.integers(3), generator.integers(5)
        start = block + int(week) * WEEK + int(weekday) * DAY
        if start + DAY <= rows:
            found.append(Event("holiday", -1, start, start + DAY))
    return tuple(found)


def bursts(seed: int, rows: int, channels: int = 4) -> tuple[Event, ...]:
    """About one burst a week and channel: a sudden rise or loss of load that fades within 3 to 9 hours.

    The solar park has none: its clouds are noise enough.
    """
    generator = _streams(seed)[2]
    found = []
    for channel in range(len(CHANNELS)):
        # Drawn for all channels, so that a series of fewer channels has the same events.
        at = 0.0
        while True:
            at += 12 + generator.exponential(WEEK - 12)
            length, sign, size = generator.integers(3, 10), generator.random(), generator.uniform(0.35, 0.8)
            start, stop = int(at), int(at) + int(length)
            if stop > rows:
                break
            if channel < channels and CHANNELS[channel] != "solar":
                megawatts = float(size * _BASE[channel]) * (1 if sign < 0.7 else -0.45)
                found.append(Event("burst", channel, start, stop, megawatts))
    return tuple(sorted(found, key=lambda event: (event.start, event.channel)))


def _autoregression(shocks: np.ndarray, keep: float) -> np.ndarray:
    """x_t = keep · x_{t-1} + shock_t with unit variance for unit shocks, started in its stationary state. Shape [n]."""
    out = np.empty_like(shocks)
    state = shocks[0]
    gain = np.sqrt(1 - keep**2)
    for i, shock in enumerate(shocks):
        state = keep * state + gain * shock if i else shock
        out[i] = state
    return out


def load_grid(
    seed: int, rows: int, channels: int = 4, start: str = "2023-01-02 00:00:00"
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The hourly load of a small grid in MW.

    Each load is base × daily and weekly cycle × slow drift, plus the answer to the weather (nonlinear: heating below
    14 °C, cooling above 22 °C), bursts, and noise whose volatility itself changes (log-volatility is an
    autoregression). Industry works in two shifts on working days. Solar is daylight × clouds, 0 at night.

    Args:
        seed: of everything random.
        rows: hours.
        channels: how many of north, industry, south, solar.
        start: first timestamp; rows 0 … 23 are taken for a Monday, whatever it says.

    Returns:
        timestamps [rows] datetime64[us], names, values [rows, channels] rounded to 3 decimals.
    """
    weather, _, _, noise = _streams(seed)
    hours = np.arange(rows)
    clock = hours % DAY
    weekday = (hours // DAY) % 7
    rest = weekday >= 5
    sunday = weekday == 6
    for event in holidays(seed, rows):
        rest[event.start : event.stop] = True
        sunday[event.start : event.stop] = True

    # The weather: a year's and a day's cycle and fronts that last two or three days.
    year = 2 * np.pi * hours / _YEAR
    fronts = _autoregression(weather.standard_normal(rows), 0.985)
    temperature = 12 - 9 * np.cos(year) - 3 * np.cos(2 * np.pi * (clock - 3) / DAY) + 3.5 * fronts
    clouds = 1 / (1 + np.exp(-1.6 * _autoregression(weather.standard_normal(rows), 0.93)))
    heating, cooling = np.maximum(0, 14 - temperature), np.maximum(0, temperature - 22)

    def bump(at: float, width: float) -> np.ndarray:
        away = np.abs(clock - at)
        return np.exp(-0.5 * (np.minimum(away, DAY - away) / width) ** 2)

    homes = 0.68 + 0.22 * bump(7.5, 1.7) + 0.42 * bump(19.0, 2.6)
    homes_rest = 0.72 + 0.26 * bump(11.0, 3.2) + 0.36 * bump(19.5, 2.8)
    offices = 0.62 + 0.55 * bump(12.5, 3.6) + 0.15 * bump(19.5, 2.0)
    shifts = 0.45 + 0.6 * ((clock >= 6) & (clock < 22)) - 0.08 * ((clock == 13) | (clock == 14))
    north = np.where(rest, homes_rest, homes) - 0.04 * sunday
    south = np.where(rest, 0.7 * offices + 0.18, offices) - 0.05 * sunday
    industry = np.where(sunday, 0.40, np.where(rest, 0.45 + 0.25 * ((clock >= 6) & (clock < 14)), shifts))
    daylight = np.maximum(0, np.cos(2 * np.pi * (clock - 12.5) / DAY) + 0.15 - 0.25 * np.cos(year)) ** 1.3
    solar = daylight * (1.15 - 0.85 * clouds)
    nothing = np.zeros(rows)
    answer = np.stack([0.017 * heating + 0.02 * cooling, nothing, 0.010 * heating + 0.035 * cooling, nothing])
    shape = np.stack([north, industry, south, solar])

    drift = 1 + 0.10 * np.sin(2 * np.pi * hours / (rows * 1.3) + np.array([[0.3], [1.6], [2.9], [0.0]]))
    drift[3] = 1 + 0.15 * hours / max(1, rows - 1)  # the park is being extended
    values = _BASE[:, None] * (shape + answer) * drift

    for channel in range(len(CHANNELS)):
        volatility = np.exp(0.6 * _autoregression(noise.standard_normal(rows), 0.99))
        rough = _autoregression(noise.standard_normal(rows), 0.75)
        level = np.where(daylight > 0, 0.04, 0.0) if CHANNELS[channel] == "solar" else 0.028
        values[channel] += _BASE[channel] * level * volatility * rough
    for event in bursts(seed, rows):
        since = np.arange(event.stop - event.start)
        values[event.channel, event.start : event.stop] += event.size * np.exp(-since / 3.0)
    values = np.round(np.maximum(values, 0.0)[:channels].T, 3)
    timestamps = np.datetime64(start, "us") + (hours * 3_600_000_000).astype("timedelta64[us]")
    return timestamps, CHANNELS[:channels], values


def as_csv(timestamps: np.ndarray, channels: tuple[str, ...], values: np.ndarray) -> bytes:
    """The bytes of the generated file: header `date,…`, three decimals, LF."""
    times = [t.replace("T", " ") for t in np.datetime_as_string(timestamps, unit="s")]
    lines = [",".join(("date", *channels))]
    lines += [",".join([t, *(f"{v:.3f}" for v in row)]) for t, row in zip(times, values, strict=True)]
    return ("\n".join(lines) + "\n").encode()
