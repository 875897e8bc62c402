"""Windows of a series: as a strided view for features, as batches of tensors for models.

Letters: n rows, N channels, T window, H horizon, B windows. An origin is the row of the first target: inputs are the
rows [o - T, o), targets the rows [o, o + H). No input row is ever at or after the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavecore.errors import DataError

if TYPE_CHECKING:
    from wavecore.series.arrays import SeriesArrays
    from wavecore.series.normalize import Scaler


class Batch(NamedTuple):
    """What a model sees of B windows, and what it is scored on.

    Attributes:
        x: [B, T, N] float32, train-standardized inputs.
        y: [B, H, N] float32, train-standardized targets; a filled value where `mask` is False.
        mask: [B, H, N] bool, True where the target was observed and is scored.
        origin: [B] int64, row of the first target.
        facts: [B, N, F] int32 on the CPU, the token ids of what a prompt tells about each window, -1 behind the last;
            None: a model makes them from `x`.
    """

    x: Tensor
    y: Tensor
    mask: Tensor
    origin: Tensor
    facts: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; token ids stay where they are looked up."""
        x, y, mask, origin, facts = self
        return Batch(x.to(device), y.to(device), mask.to(device), origin.to(device), facts)


@dataclass(frozen=True, eq=False)
class WindowData:
    """A standardized series in memory, cut into windows on demand.

    Attributes:
        values: [n, N] float32, train-standardized, finite.
        observed: [n, N] bool, False where the value was missing and has been filled.
        window: T.
        horizon: H.
        facts: [n - T + 1, N, F] int32, token ids of the prompt of each window (by its first row), see `Batch`.
    """

    values: Tensor
    observed: Tensor
    window: int
    horizon: int
    facts: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != torch.float32:
            raise ValueError(f"values: expected float32 [n, N], got {self.values.dtype} {tuple(self.values.shape)}")
        if self.observed.shape != self.values.shape or self.observed.dtype != torch.bool:
            raise ValueError("observed: expected bool of the shape of values")
        if self.window < 1 or self.horizon < 1:
            raise ValueError(f"window and horizon must be 1 or more, got {self.window} and {self.horizon}")
        bad = ~torch.isfinite(self.values)
        if bad.any():
            row, channel = (int(i) for i in bad.nonzero()[0])
            raise DataError(
                f"the standardized series holds {self.values[row, channel].item()} in row {row}, channel {channel} "
                f"({int(bad.sum())} such values in all)",
                "declare how missing values are treated (`treatment` in the dataset's YAML)",
                columns=(str(channel),),
                rows=(row,),
            )
        if len(self.values) < self.window:
            raise DataError(
                f"the series has {len(self.values)} rows, one window needs {self.window}",
                "add rows, or set a shorter `window` in the benchmark's YAML",
            )
        shape = (len(self.values) - self.window + 1, self.n_channels)
        if self.facts is not None and (self.facts.shape[:2] != shape or self.facts.dtype != torch.int32):
            raise DataError(
                f"the token ids are of {tuple(self.facts.shape[:2])} windows and channels, the series has {shape}",
                "materialize prompts again",
            )

    @classmethod
    def from_arrays(cls, arrays: SeriesArrays, scaler: Scaler, window: int, horizon: int) -> WindowData:
        """Standardize a series by its train rows and put it into tensors.

        Args:
            arrays: values [n, N] in original units; NaN only before a channel's first observation.
            scaler: center and scale per channel, fitted on train rows.
            window, horizon: T and H.

        Raises:
            DataError: an infinity, or a NaN where a value is said to be observed, named by channel and timestamp; a
                value too large for float32; fewer rows than one window.
        """
        bad = np.isinf(arrays.values) | (np.isnan(arrays.values) & arrays.observed)
        standardized = scaler.transform(arrays.values)
        bad |= ~np.isfinite(standardized) | (np.abs(standardized) > np.finfo(np.float32).max)
        if bad.any():
            rows, columns = np.nonzero(bad)
            names = tuple(arrays.channels[c] for c in sorted(set(columns.tolist())))
            raise DataError(
                f"channel {arrays.channels[columns[0]]!r} holds {arrays.values[rows[0], columns[0]]} at "
                f"{arrays.timestamps[rows[0]]}, where a finite value is needed ({len(rows)} such values in all)",
                "mend the file, or declare the value as a sentinel under `treatment` in the dataset's YAML",
                columns=names,
                rows=[str(arrays.timestamps[r]) for r in rows[:20]],
            )
        return cls(
            values=torch.from_numpy(np.ascontiguousarray(standardized, dtype=np.float32)),
            observed=torch.from_numpy(np.ascontiguousarray(arrays.observed, dtype=bool)),
            window=window,
            horizon=horizon,
        )

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self.values)

    @property
    def n_channels(self) -> int:
        """Number of channels N."""
        return self.values.shape[1]

    def to(self, device: torch.device | str) -> WindowData:
        """The same data on another device; batches are then made there."""
        return replace(self, values=self.values.to(device), observed=self.observed.to(device))

    def batch(self, origins: np.ndarray | Tensor) -> Batch:
        """Cut the windows of the given origins, in their order.

        Args:
            origins: [B] whole numbers, each in [T, n - H].

        Raises:
            DataError: an origin whose inputs or targets lie outside the data; the message names it.
        """
        # A copy: torch takes neither a reversed view nor, without a warning, a read-only array.
        rows = torch.from_numpy(np.array(origins)) if isinstance(origins, np.ndarray) else torch.as_tensor(origins)
        if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise ValueError(f"origins: expected whole numbers [B], got {rows.dtype} {tuple(rows.shape)}")
        rows = rows.to(device=self.values.device, dtype=torch.int64)
        outside = (rows < self.window) | (rows > len(self) - self.horizon)
        if outside.any():
            raise DataError(
                f"origin {int(rows[outside][0])} is out of range: a window of {self.window} and a horizon of "
                f"{self.horizon} on {len(self)} rows allow origins {self.window} to {len(self) - self.horizon}",
                "take origins from `wavecore.series.splits.origins`",
                rows=rows[outside][:20].tolist(),
            )
        past = rows[:, None] + torch.arange(-self.window, 0, device=rows.device)
        future = rows[:, None] + torch.arange(self.horizon, device=rows.device)
        facts = None if self.facts is None else self.facts[(rows - self.window).cpu()]
        return Batch(self.values[past], self.values[future], self.observed[future], rows, facts)

    def future_batch(self, origin: int | None = None) -> Batch:
        """The one window that ends just before `origin`, with nothing known of its targets.

        Args:
            origin: row of the first target, in [T, n]; without one n, so that the window ends at the end of the data.

        Returns:
            a batch of B = 1; `y` is zero and `mask` False throughout, also where targets exist.

        Raises:
            DataError: the window does not lie inside the data.
        """
        row = len(self) if origin is None else int(origin)
        if not self.window <= row <= len(self):
            raise DataError(
                f"origin {row} is out of range: a window of {self.window} on {len(self)} rows allows origins "
                f"{self.window} to {len(self)}",
                "take the row after the last one that is known",
                rows=(row,),
            )
        shape = (1, self.horizon, self.n_channels)
        return Batch(
            x=self.values[row - self.window : row].unsqueeze(0).clone(),
            y=self.values.new_zeros(shape),
            mask=self.observed.new_zeros(shape),
            origin=torch.tensor([row], dtype=torch.int64, device=self.values.device),
            facts=None if self.facts is None else self.facts[row - self.window][None],
        )
