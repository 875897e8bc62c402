"""Error in segments that are known to be special: holidays, storms, outages, as the dataset declares them.

Letters: B windows, H horizon steps, N channels, S segments, n rows of the series.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from wavecore.judge.metrics import rounded

Array = np.ndarray[Any, np.dtype[Any]]


class Part(NamedTuple):
    """What one batch leaves behind, one row per window.

    Attributes:
        origins: [B].
        squared, points: [B, S+1] squared errors and their number in each segment and, last, in none.
    """

    origins: Array
    squared: Array
    points: Array


class Segments:
    """Collects batch by batch; as with the `Judge`, nothing is added up across windows before `rows`.

    Args:
        timestamps: [n] of the series' rows.
        segments: name → first and last moment, both included. Where two overlap a row counts in both.
        horizon: H.
    """

    def __init__(
        self, timestamps: Array, segments: Mapping[str, tuple[np.datetime64, np.datetime64]], horizon: int
    ) -> None:
        self.names = tuple(segments)
        inside = [(timestamps >= first) & (timestamps <= last) for first, last in segments.values()]
        special = np.any(inside, axis=0) if inside else np.zeros(len(timestamps), dtype=bool)
        self.member = np.stack([*inside, ~special], axis=1)
        self.horizon = horizon
        self.parts: list[Part] = []

    def update(self, origins: Any, yhat: Array, y: Array, mask: Array) -> None:
        """Add a batch: [B]; [B, H, N] on standardized channels, finite where `mask` is True."""
        rows, scored = np.asarray(origins, dtype=np.int64), np.asarray(mask, dtype=bool)
        error = np.asarray(yhat, np.float64) - np.asarray(y, np.float64)
        squared = np.where(scored, np.square(np.where(scored, error, 0.0)), 0.0).sum(axis=2)
        member = self.member[rows[:, None] + np.arange(self.horizon)]
        self.parts.append(
            Part(
                rows,
                np.where(member, squared[:, :, None], 0.0).sum(axis=1),
                (member * scored.sum(axis=2)[:, :, None]).sum(axis=1),
            )
        )

    def rows(self) -> list[dict[str, Any]]:
        """metric (`mse`), group (`segment`, key: its name; `no_segment`, key all), value, n. A segment that no scored
        point lies in is left out; with all of them nothing is told apart."""
        order = np.argsort(np.concatenate([part.origins for part in self.parts]), kind="stable")
        squared = np.concatenate([part.squared for part in self.parts])[order].sum(axis=0)
        points = np.concatenate([part.points for part in self.parts])[order].sum(axis=0)
        if not points[:-1].any():
            return []
        keys = [*(("segment", name) for name in self.names), ("no_segment", "all")]
        return [
            {"metric": "mse", "group": group, "key": key, "value": rounded(float(total / n)), "n": int(n)}
            for (group, key), total, n in zip(keys, squared, points, strict=True)
            if n
        ]
