"""What a prompt says, and how much room it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The feature settings that a prompt follows from.
PROMPT_FEATURES = ("wavelet", "mode", "levels", "burst_threshold", "lags")


@dataclass(frozen=True)
class PromptSettings:
    """How the prompt of a window is made.

    Attributes:
        statistics: `time` (extremes, median, trend, lags), `wavelet` (scales, entropy, bursts), `both`, or `none`:
            description and task alone, the same for every window.
        lags: `peaks`: local peaks of the autocorrelation between 1 and T/2. `circular`: the largest values of the
            circular autocorrelation, as in the reference: lag 0 always stands first and the others come in mirrored
            pairs (k, T-k), so they say next to nothing.
        digits: significant digits of a number; 0: all that float32 has, as in the reference, which costs many
            more tokens and tells a language model nothing.
        flat: a window that ends where it began is called flat; the reference calls it downward.
        description: `dataset`: from the dataset's own YAML. `ett`: the electricity transformer's for every dataset, as
            in the reference, unless it is told otherwise.
        tokens: the most tokens that a prompt takes; facts that find no room are left out, the least important first.
            0: as many as it happens to need, as in the reference.
        bands: the most bands whose energy is told.
        band_share: a band below this share of the energy is not told.
    """

    statistics: Literal["time", "wavelet", "both", "none"] = "time"
    lags: Literal["peaks", "circular"] = "peaks"
    digits: int = 3
    flat: bool = True
    description: Literal["dataset", "ett"] = "dataset"
    tokens: int = 128
    bands: int = 3
    band_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("digits", "tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be 0 or more")
        if self.bands < 1:
            raise ValueError("bands: must be 1 or more")
        if not 0 <= self.band_share < 1:
            raise ValueError("band_share: must be 0 or more and below 1")
