"""Forecasting row by row. A session has the rows that were pushed into it and no others: nothing that it forecasts or
learns from can have seen the future.

With each row, in this order: it is checked and kept; labels that are now known go to the learner, as soon as there are
`online.every` of them; the learner forecasts the rows to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from wavecore.errors import DataError
from wavecore.stream.delay import Pending
from wavecore.stream.settings import OnlineSettings


class Label(NamedTuple):
    """What followed a forecast.

    Attributes:
        origin: the row of the first target.
        x: [T, N], what was known when the forecast was made.
        y: [H, N], what came.
        mask: [H, N], whether it was observed.
        note: what the learner noted with the forecast.
    """

    origin: int
    x: Tensor
    y: Tensor
    mask: Tensor
    note: Any


class Learner(Protocol):
    """What forecasts in a session and learns from labels."""

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        """The next H rows [H, N] from the last T [T, N], and what to note of it (None, or a tuple of tensors)."""

    def learn(self, labels: Sequence[Label]) -> None:
        """Labels that have become known, oldest first."""

    def state(self) -> dict[str, Tensor]:
        """All that it has learned in the session, by name."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""


@dataclass(frozen=True)
class Shape:
    """What a session forecasts.

    Attributes:
        window, horizon: T and H.
        channels: names of the N channels.
        step: of time, between two rows; None: rows are not dated and none is missed.
    """

    window: int
    horizon: int
    channels: tuple[str, ...]
    step: np.timedelta64 | None = None


class Session:
    """One stream and one learner.

    Args:
        learner: see Learner.
        shape: see Shape.
        online: delay and treatment of missing rows.
        begin: number of the first row that is pushed, so that origins are those of a longer series.
        before: [N], the last values known before it; they stand in where the first rows have none. None: 0, the train
            mean.

    Attributes:
        rows: number of the next row: `begin` and all that were pushed or missed.
        skipped: how many of these were missed or had no value.
    """

    def __init__(
        self, learner: Learner, shape: Shape, online: OnlineSettings, begin: int = 0, before: Tensor | None = None
    ) -> None:
        self.learner = learner
        self.shape = shape
        self.online = online
        self.pending = Pending(shape.horizon, online.delay)
        self.rows = self.begin = begin
        self.skipped = 0
        self.before = torch.zeros(len(shape.channels)) if before is None else before.float()
        self.time: np.datetime64 | None = None
        # Rows that are still needed: the last window, and those of forecasts without a label.
        self.first = begin
        self.values = torch.zeros(0, len(shape.channels))
        self.observed = torch.zeros(0, len(shape.channels), dtype=torch.bool)

    def push(self, values: Tensor, time: np.datetime64 | None = None) -> Tensor | None:
        """The next row; returns the forecast of the H rows after it, [H, N], once a whole window is known.

        Args:
            values: [N], train-standardized; NaN where there is no value.
            time: of the row.

        Raises:
            DataError: another number of channels, an infinity; a time that does not rise by whole steps; with
                `missing: error` a value or a row that is missing. The session is as it was before.
        """
        missed = self._missed(time)
        row, seen = self._checked(values, missed, time)
        for _ in range(missed):
            self._keep(self.values[-1], torch.zeros_like(seen))
        self._keep(row, seen)
        self.time = time
        self._learn()
        if self.rows - self.begin < self.shape.window:
            return None
        forecast, note = self.learner.forecast(self._window(self.rows), self.rows)
        self.pending.expect(self.rows, note)
        return forecast

    def _missed(self, time: np.datetime64 | None) -> int:
        """How many rows lie between the last one and `time`."""
        step = self.shape.step
        if step is None or time is None or self.time is None:
            return 0
        steps = (time - self.time) / step
        if steps <= 0:
            raise DataError(
                f"a row of {time} after one of {self.time}" + (" (twice the same time)" if not steps else ""),
                "push rows in order of time, each once",
                rows=(str(time),),
            )
        if steps != int(steps):
            raise DataError(
                f"a row of {time}, which is no whole number of steps ({step}) after {self.time}",
                "resample the stream to its step",
                rows=(str(time),),
            )
        if steps > 1 and self.online.missing == "error":
            raise DataError(
                f"{int(steps) - 1} rows are missing between {self.time} and {time}",
                "give them, or set online.missing: skip",
                rows=(str(time),),
            )
        return int(steps) - 1

    def _checked(self, values: Tensor, missed: int, time: np.datetime64 | None) -> tuple[Tensor, Tensor]:
        """The row as it is kept, and which of its values were observed."""
        where = f"row {self.rows + missed}" + (f" ({time})" if time is not None else "")
        if values.shape != (len(self.shape.channels),):
            raise DataError(
                f"{where}: {tuple(values.shape)} values for {len(self.shape.channels)} channels",
                f"give one for each of {', '.join(self.shape.channels)}",
            )
        row = values.float()
        seen = ~torch.isnan(row)
        if torch.isinf(row).any():
            at = [self.shape.channels[i] for i in torch.isinf(row).nonzero()[:, 0].tolist()]
            raise DataError(f"{where}: an infinite value of {', '.join(at)}", "leave it out as NaN", columns=at)
        if not seen.all():
            at = [self.shape.channels[i] for i in (~seen).nonzero()[:, 0].tolist()]
            if self.online.missing == "error":
                raise DataError(
                    f"{where}: no value of {', '.join(at)}", "give it, or set online.missing: skip", columns=at
                )
            before = self.values[-1] if len(self.values) else self.before
            row = torch.where(seen, row, before)
        return row, seen

    def _keep(self, row: Tensor, seen: Tensor) -> None:
        self.values = torch.cat([self.values, row[None]])
        self.observed = torch.cat([self.observed, seen[None]])
        self.rows += 1
        self.skipped += int(not seen.all())
        oldest = self.pending.oldest
        needed = (self.rows if oldest is None else oldest) - self.shape.window
        # Not with every row: letting go copies what stays.
        if needed - self.first > 2 * self.shape.window:
            self.values, self.observed = self.values[needed - self.first :], self.observed[needed - self.first :]
            self.first = needed

    def _window(self, origin: int) -> Tensor:
        """Rows [origin - T, origin), a copy: what a learner keeps cannot change."""
        stop = origin - self.first
        return self.values[stop - self.shape.window : stop].clone()

    def _learn(self) -> None:
        known = self.pending.known(self.rows)
        if len(known) < self.online.every:
            return
        labels = []
        for origin in known:
            start = origin - self.first
            rows = slice(start, start + self.shape.horizon)
            x = self._window(origin)
            note = self.pending.take(origin, self.rows)
            labels.append(Label(origin, x, self.values[rows].clone(), self.observed[rows].clone(), note))
        self.learner.learn(labels)
