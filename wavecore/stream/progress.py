"""What a stream has given so far, and how one that was cut short goes on: from its last save, to the same forecasts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from wavecore.errors import StorageError
from wavecore.learn.manifest import hash_of
from wavecore.stream.learners import Noted
from wavecore.stream.position import restore, save
from wavecore.stream.session import Session


@dataclass
class Given:
    """What came of the rows so far.

    Attributes:
        made: the forecasts, [H, N] each.
        forecasting, learning: seconds of each.
        noted, errors: as of `wavecore.stream.evaluate.Streamed`.
    """

    made: list[Tensor] = field(default_factory=list)
    forecasting: list[float] = field(default_factory=list)
    learning: list[float] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a file."""
        found = {
            name: torch.tensor(getattr(self, name), dtype=torch.float64)
            for name in ("forecasting", "learning", "noted", "errors")
        }
        return found | ({"made": torch.stack(self.made)} if self.made else {})

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.made = list(tensors["made"]) if "made" in tensors else []
        self.forecasting, self.learning = tensors["forecasting"].tolist(), tensors["learning"].tolist()
        self.noted = [Noted(int(origin), *told) for origin, *told in tensors["noted"].tolist()]
        self.errors = [(int(origin), error) for origin, error in tensors["errors"].tolist()]


@dataclass
class Keeping:
    """Where a stream is saved while it runs.

    Attributes:
        folder: of this stream alone; each of several learners has a folder in it.
        bound: hash of all that the stream follows from.
        seconds: from one save to the next.
        name: for notes.
        notes: what a user should know; added to.
    """

    folder: Path
    bound: str
    seconds: float = 60.0
    name: str = ""
    notes: list[str] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic, init=False, repr=False)

    def of(self, *names: str) -> Keeping:
        """The same for one part of it."""
        whole = " ".join([*([self.name] if self.name else []), *names])
        return Keeping(self.folder.joinpath(*names), hash_of([self.bound, *names]), self.seconds, whole, self.notes)

    def begin(self, session: Session, given: Given, rows: int) -> None:
        """Go on from the last save, if there is one that belongs to this stream.

        Args:
            session, given: new ones; filled.
            rows: where the stream ends.
        """
        if not self.folder.is_dir():
            return
        try:
            given.fill(restore(session, self.folder, self.bound, rows))
            if session.rows < rows:
                self.notes.append(f"{self.name}: goes on behind {len(given.made)} forecasts")
        except StorageError as error:
            self.notes.append(f"{self.name}: begins anew: {error.problem}")
            shutil.rmtree(self.folder, ignore_errors=True)

    def mark(self, session: Session, given: Given, last: bool = False) -> None:
        """Save, if it is time or the stream has ended."""
        if last or time.monotonic() - self._saved >= self.seconds:
            save(session, self.folder, self.bound, given.tensors())
            self._saved = time.monotonic()
