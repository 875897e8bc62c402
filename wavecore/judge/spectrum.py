"""What a mean squared error does not say: whether a forecast moves like the truth, and how it fares in events.

- *Dominant scale*: share of series whose forecast has most of its energy in the same wavelet band as the truth.
- *Energy*: Kullback-Leibler divergence of the forecast's distribution of energy over bands from the truth's, in nats.
- *Events*: squared error inside and outside of stretches with a burst in the truth.

For the first two the mean over the horizon is removed, so that movement counts and not level. A series with a target
that was not observed, or that does not move, has no distribution and does not count.

Letters: B windows, H horizon steps, N channels, J levels, n rows of the series.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pywt

from wavecore.config import FeatureSettings
from wavecore.judge.scales import error_levels
from wavecore.wavelet.statistics import MERGE_STEPS, find_bursts

Array = np.ndarray[Any, np.dtype[Any]]

# Added to every share before the divergence is taken, which a forecast without energy in a band would make infinite.
SMOOTHING = 1e-3
# Of the steps looked at, how many are events at most, but for the last of them.
EVENT_SHARE = 0.05
# What counts as a burst there, in noise levels; no setting, so that results of all stages speak of the same events.
BURST = 5.0


class Part(NamedTuple):
    """What one batch leaves behind, one row per window.

    Attributes:
        origins: [B].
        counted: [B] series that move and were wholly observed. agreed, divergence: [B] summed over these.
        inside, outside: [B] squared errors summed over event steps and the others. n_inside, n_outside: [B] points.
    """

    origins: Array
    counted: Array
    agreed: Array
    divergence: Array
    inside: Array
    outside: Array
    n_inside: Array
    n_outside: Array


class Spectrum:
    """Collects batch by batch; as with the `Judge`, nothing is added up across windows before `rows`.

    Args:
        horizon: H.
        settings: which wavelet, and its levels at most.
        events: [n, N] bool, see `event_rows`.
    """

    def __init__(self, horizon: int, settings: FeatureSettings, events: Array) -> None:
        self.horizon, self.wavelet, self.events = horizon, settings.wavelet, events
        self.levels = error_levels(horizon, settings)
        self.parts: list[Part] = []

    def update(self, origins: Any, yhat: Array, y: Array, mask: Array) -> None:
        """Add a batch: [B]; [B, H, N] on standardized channels, finite where `mask` is True."""
        rows = np.asarray(origins, dtype=np.int64)
        forecast, truth, scored = np.asarray(yhat, np.float64), np.asarray(y, np.float64), np.asarray(mask, dtype=bool)
        squared = np.where(scored, np.square(np.where(scored, forecast - truth, 0.0)), 0.0)
        event = self.events[rows[:, None] + np.arange(self.horizon)] & scored
        whole: Array = np.all(scored, axis=1)
        shares = [self._shares(np.where(whole[:, None, :], part, 0.0)) for part in (truth, forecast)]
        moves = whole & (shares[0].sum(axis=-1) > 0)
        agreed = moves & (shares[0].argmax(axis=-1) == shares[1].argmax(axis=-1)) & (shares[1].sum(axis=-1) > 0)
        divergence = np.where(moves, divergences(*shares), 0.0)
        self.parts.append(
            Part(
                rows,
                moves.sum(axis=1),
                agreed.sum(axis=1),
                divergence.sum(axis=1),
                np.where(event, squared, 0.0).sum(axis=(1, 2)),
                np.where(event, 0.0, squared).sum(axis=(1, 2)),
                event.sum(axis=(1, 2)),
                (scored & ~event).sum(axis=(1, 2)),
            )
        )

    def _shares(self, values: Array) -> Array:
        """[B, H, N] → [B, N, J+1] shares of energy, mean removed; all 0 where nothing moves."""
        moving = values - values.mean(axis=1, keepdims=True)
        levels = self.levels
        parts = pywt.wavedec(moving, self.wavelet, mode="periodization", level=levels, axis=1) if levels else [moving]
        energy = np.stack([np.square(part).sum(axis=1) for part in parts], axis=-1)
        total = energy.sum(axis=-1, keepdims=True)
        # Rounding leaves a constant forecast a trace of energy.
        return np.divide(energy, total, out=np.zeros_like(energy), where=total > 1e-12)

    def rows(self) -> list[dict[str, Any]]:
        """metric, group, key, value, n: `dominant_agreement` and `energy_kl` (group `spectrum`), `mse` (group `event`,
        keys inside and outside). A mean over nothing is None."""
        joined = Part(*(np.concatenate(arrays) for arrays in zip(*self.parts, strict=True)))
        part = Part(*(array[np.argsort(joined.origins, kind="stable")] for array in joined))
        counted = int(part.counted.sum())
        found = [
            ("dominant_agreement", "spectrum", "all", part.agreed.sum(), counted),
            ("energy_kl", "spectrum", "all", part.divergence.sum(), counted),
            ("mse", "event", "inside", part.inside.sum(), int(part.n_inside.sum())),
            ("mse", "event", "outside", part.outside.sum(), int(part.n_outside.sum())),
        ]
        return [
            {"metric": m, "group": g, "key": k, "value": float(f"{total / n:.8g}") if n else None, "n": n}
            for m, g, k, total, n in found
        ]


def divergences(truth: Array, forecast: Array) -> Array:
    """Σ p log(p / q) of smoothed shares, truth p and forecast q: [..., K] each → [...]."""
    p, q = ((share + SMOOTHING) / (share + SMOOTHING).sum(axis=-1, keepdims=True) for share in (truth, forecast))
    found: Array = (p * np.log(p / q)).sum(axis=-1)
    return found


def event_rows(values: Array, span: tuple[int, int], settings: FeatureSettings) -> Array:
    """Rows of an event, channel by channel: within MERGE_STEPS of where a burst of the finest details begins.

    Bursts are found as in a window (`wavecore.wavelet.statistics.find_bursts`), with the whole span as the window, and
    taken by their strength until they cover EVENT_SHARE of it: where every morning is steep, a morning is no event.

    Args:
        values: [n, N] standardized.
        settings: which wavelet.
        span: half-open rows that are looked at; elsewhere there is no event.

    Returns:
        [n, N] bool.
    """
    found = np.zeros(values.shape, dtype=bool)
    stretch = np.asarray(values[span[0] : span[1]], dtype=np.float64).T
    if stretch.shape[1] < 2:
        return found
    scale = stretch.std(axis=1, keepdims=True)
    stretch = (stretch - stretch.mean(axis=1, keepdims=True)) / np.where(scale > 0, scale, 1.0)
    chosen = replace(settings, burst_threshold=BURST)
    _, starts, _ = find_bursts(stretch, chosen, bursts=math.ceil(stretch.shape[1] / MERGE_STEPS))
    most = EVENT_SHARE * stretch.shape[1]
    for channel, marks in enumerate(starts):
        for mark in marks[marks >= 0]:
            if found[:, channel].sum() >= most:
                break
            first = span[0] + max(int(mark) - MERGE_STEPS, 0)
            found[first : min(span[0] + int(mark) + MERGE_STEPS + 1, span[1]), channel] = True
    return found
