"""How the loss looks at wavelet scales, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WaveletLossSettings:
    """The error per wavelet scale beside the error in time (W4), and the curriculum of its weights.

    Attributes:
        enabled: whether there is one.
        wavelet, mode: of PyWavelets; a short filter, since a horizon is short.
        levels: J, at most; as many as the horizon allows.
        low: weight of A_J, first and last.
        high: weight of D_J … D_1 together, first and last.
        curriculum: `improving`: the weights go from first to last in `moves` equal steps, one at each look at
            validation that is better than all before; `none`: they are the last throughout.
        moves: see `curriculum`.
        looks: at validation, spread evenly over the training steps; at most one per step.
        windows: of `select`, on which each look is scored; 0: all.
    """

    enabled: bool = False
    wavelet: str = "db2"
    mode: str = "periodization"
    levels: int = 4
    low: tuple[float, ...] = (1.0, 0.25)
    high: tuple[float, ...] = (0.0, 1.0)
    curriculum: Literal["improving", "none"] = "improving"
    moves: int = 8
    looks: int = 24
    windows: int = 32

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            weights = getattr(self, name)
            if len(weights) != 2:
                raise ValueError(f"{name}: {list(weights)}; give two weights, [first, last]")
            if min(weights) < 0:
                raise ValueError(f"{name}: {min(weights):g}; a weight below zero would reward errors")
        if self.low[0] < self.low[1] or self.high[0] > self.high[1]:
            raise ValueError("low, high: the weight of what is slow must not grow, that of what is fast must not fall")
        for name in ("levels", "moves", "looks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more")
        if self.windows < 0:
            raise ValueError("windows: must be 0 or more")

    def every(self, steps: int) -> int:
        """Training steps between two looks of a run of so many steps."""
        return max(1, steps // self.looks)

    def weights(self, moves: int) -> tuple[float, float]:
        """The weights of low and high after so many moves."""
        if self.curriculum == "none":
            return self.low[1], self.high[1]
        share = min(moves, self.moves) / self.moves
        return (
            self.low[0] + share * (self.low[1] - self.low[0]),
            self.high[0] + share * (self.high[1] - self.high[0]),
        )
