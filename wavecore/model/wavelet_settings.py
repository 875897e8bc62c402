"""How wavelets enter a model of the Time-LLM family, as data: tokens (W2), streams (W3), sparse (W5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TokensSettings:
    """Wavelet coefficients as tokens.

    Attributes:
        enabled: whether there are any.
        transform: `dwt`: the bands A_J, D_J … D_1; `packet`: 2^J bands of equal width.
        levels: J; 0: as `features.levels`.
        block: coefficients of a band that make one token.
        least_share: a band with less of the train windows' energy is left out; the slowest never is.
        fusion: `concatenate`: wavelet tokens stand before the patches; `instead`: they take their place; `mean`: each
            patch becomes a weighted mean of itself and the blocks that cover its middle; `attention`: each patch adds
            what it finds by attending to all of them.
    """

    enabled: bool = False
    transform: Literal["dwt", "packet"] = "dwt"
    levels: int = 0
    block: int = 16
    least_share: float = 0.01
    fusion: Literal["concatenate", "instead", "mean", "attention"] = "concatenate"

    def __post_init__(self) -> None:
        if self.levels < 0:
            raise ValueError("levels: must be 1 or more, or 0 for those of `features`")
        if self.block < 1:
            raise ValueError("block: must be 1 or more")
        if not 0 <= self.least_share < 1:
            raise ValueError("least_share: must be 0 or more and below 1")


@dataclass(frozen=True)
class StreamsSettings:
    """What is slow and what is fast, reprogrammed apart.

    Attributes:
        enabled: whether there are two streams.
        fastest: the fastest band D_j that counts as slow: j, or J + 1 for A_J alone; 0: by energy.
        slow_share: where that is by energy, slow are the fewest bands, from A_J on, that hold this share of the energy
            of the train windows.
        gate: how much of a token is slow. `learned`: a linear map of both embeddings; `energy`: the share of the
            patch's energy that is slow.
        subsets: each stream has its own half of the prototypes; without, both have all of them.
    """

    enabled: bool = False
    fastest: int = 0
    slow_share: float = 0.5
    gate: Literal["learned", "energy"] = "learned"
    subsets: bool = True

    def __post_init__(self) -> None:
        if self.fastest < 0:
            raise ValueError("fastest: must be 1 or more, or 0 to choose by energy")
        if not 0 < self.slow_share < 1:
            raise ValueError("slow_share: must be above 0 and below 1")


@dataclass(frozen=True)
class SparseSettings:
    """Fewer tokens between embedding and reprogramming, by what wavelets say of them.

    Attributes:
        enabled: whether there are fewer.
        by: `energy`: of the dominant scales within the token; `entropy`: of a patch's energy over its scales, of a
            wavelet token's over its coefficients; `variance`: of the token's values.
        dominant: the dominant scales of a window are the fewest that hold this share of its energy.
        keep: `share` of the tokens, a fixed `count`, or all above a `threshold`.
        share: see `keep`.
        count: see `keep`.
        threshold: see `keep`; in means of the window's tokens of a kind, so that 1 keeps what is above average.
        rest: `pool`: a token that is not kept is averaged into the nearest kept one of its scale; `drop`: it is not
            read.
        give_back: what sets a token apart from the one that stands for it goes to the head.
    """

    enabled: bool = False
    by: Literal["energy", "entropy", "variance"] = "energy"
    dominant: float = 0.9
    keep: Literal["share", "count", "threshold"] = "share"
    share: float = 0.5
    count: int = 16
    threshold: float = 1.0
    rest: Literal["pool", "drop"] = "pool"
    give_back: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.dominant <= 1:
            raise ValueError("dominant: must be above 0 and at most 1")
        if not 0 < self.share <= 1:
            raise ValueError("share: must be above 0 and at most 1")
        if self.count < 1:
            raise ValueError("count: must be 1 or more")
        if self.threshold < 0:
            raise ValueError("threshold: must be 0 or more")
