"""When labels are known, and the book that is kept of them: no label comes early, twice, or of nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wavecore.errors import DataError, SettingsError
from wavecore.seeds import generator
from wavecore.stream.settings import DelaySettings


def due(origin: int, horizon: int, delay: DelaySettings) -> int:
    """The number of rows that must be known before the label of the forecast from `origin` is.

    The label is rows `origin` to `origin + horizon - 1`: the last of them is known with `origin + horizon` rows. A
    delay comes on top; a drawn one is a function of its seed and of the origin alone.
    """
    extra = delay.steps
    if delay.kind == "geometric" and delay.steps:
        # From 0 on, with mean `steps`.
        extra = int(generator(delay.seed, "delay", origin).geometric(1 / (1 + delay.steps))) - 1
    return origin + horizon + extra


def check_delay(delay: DelaySettings, horizon: int, rows: int) -> None:
    """Refuse a delay behind which no label comes.

    Args:
        rows: that are pushed after the first forecast.

    Raises:
        SettingsError: horizon and delay together are longer than the stream.
    """
    if horizon + delay.steps > rows:
        raise SettingsError(
            f"online.delay.steps: {delay.steps} steps after a horizon of {horizon} are more than the {rows} rows that "
            "are streamed: no label would ever be known",
            "set a shorter delay, or stream more rows",
        )


@dataclass
class Pending:
    """The forecasts whose labels are not yet known.

    Attributes:
        horizon, delay: see `due`.
        notes: origin → what the learner wants to have beside the label, such as the memory that the forecast met.
        last: the origin of the newest forecast.
        labelled: how many labels have come.
    """

    horizon: int
    delay: DelaySettings
    notes: dict[int, Any] = field(default_factory=dict)
    last: int = -1
    labelled: int = 0

    def expect(self, origin: int, note: Any = None) -> None:
        """A forecast was made from `origin`.

        Raises:
            DataError: forecasts go forward in time, one per origin.
        """
        if origin <= self.last:
            raise DataError(
                f"a forecast from row {origin} after one from row {self.last}",
                "forecast each row once, in order of time",
                rows=(origin,),
            )
        self.notes[origin] = note
        self.last = origin

    def known(self, rows: int) -> tuple[int, ...]:
        """The origins whose labels are known with `rows` rows, oldest first."""
        return tuple(o for o in self.notes if due(o, self.horizon, self.delay) <= rows)

    def take(self, origin: int, rows: int) -> Any:
        """The label of `origin` is used: what was noted of it. It will not be given again.

        Raises:
            DataError: nothing was forecast from there, the label was used before, or it is not known yet.
        """
        if origin not in self.notes:
            again = 0 <= origin <= self.last
            raise DataError(
                f"a label of row {origin}, "
                + ("which was used already or never forecast" if again else "which was never forecast"),
                "give each forecast's label once",
                rows=(origin,),
            )
        when = due(origin, self.horizon, self.delay)
        if when > rows:
            raise DataError(
                f"a label of row {origin} with {rows} rows known: it is known with {when}",
                "wait until its horizon and its delay have passed",
                rows=(origin,),
            )
        self.labelled += 1
        return self.notes.pop(origin)

    @property
    def oldest(self) -> int | None:
        """The first origin still without a label."""
        return next(iter(self.notes), None)
