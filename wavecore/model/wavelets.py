"""What the wavelet stages put between patches and the frozen language model: tokens (W2), streams (W3), sparse (W5).

    patches [M, L, P] → seen [M, K, C] → fewer [M, k, C] → tokens [M, k, D] → language model → states [M, K, f]

*Seen* is what can be read of a window: its patches, and wavelet tokens before or in place of them. With two streams a
token carries both embeddings and the share of it that is slow.

Letters: M series, T steps, L patches of P steps, W wavelet tokens, K tokens seen, k read, S prototypes, d = d_model, D
features of the language model, f of them for the head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wavecore.model.budget import GiveBack, Groups, Reduced, spread
from wavecore.model.layers import Reprogramming, patches
from wavecore.model.scales import Scales
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.sparse import Sparse
from wavecore.model.streams import Streams
from wavecore.model.wavelet_tokens import WaveletTokens

Constants = tuple[Tensor, Tensor]


class Wavelets(nn.Module):
    """The parts that a stage has.

    Args:
        settings: of the model.
        scales: of the benchmark.
        window: T.
        patch: length and stride of a patch in steps.
        count: L.
        layer: makes a reprogramming layer.

    Attributes:
        seen_count: K.
        head_count: how many tokens, the last of those seen, the head reads: the patches, or the wavelet tokens in their
            place.
    """

    def __init__(
        self,
        settings: TimeLLMSettings,
        scales: Scales,
        window: int,
        patch: tuple[int, int],
        count: int,
        layer: Callable[[], Reprogramming],
    ) -> None:
        super().__init__()
        self.patch, self.width = patch, settings.d_model
        chosen, width = settings.tokens, settings.d_model
        self.tokens: WaveletTokens | None = None
        self.seen_count = self.head_count = count
        if chosen.enabled:
            self.tokens = WaveletTokens(chosen, scales, window, patch, count, width, settings.dropout)
            self.seen_count += len(self.tokens) if chosen.fusion == "concatenate" else 0
            if chosen.fusion == "instead":
                self.seen_count = self.head_count = len(self.tokens)
        self.streams: Streams | None = None
        if settings.streams.enabled:
            self.streams = Streams(settings.streams, scales, window, width, layer())
        self.sparse: Sparse | None = None
        self.back: GiveBack | None = None
        if settings.sparse.enabled:
            self.sparse = Sparse(settings.sparse, scales, window, patch, count, self.tokens)
            if settings.sparse.give_back:
                self.back = GiveBack(2 * width + 1 if self.streams is not None else width, settings.d_ff)

    @property
    def reads_patches(self) -> bool:
        """Whether patches are read at all; else wavelet tokens take their place."""
        return self.tokens is None or self.tokens.settings.fusion != "instead"

    def seen(self, series: Tensor, cut: Tensor, embedding: nn.Module) -> Tensor:
        """Normalized series [M, T] and their patches [M, L, P] → [M, K, C]."""
        if self.tokens is not None and not self.reads_patches:
            alone: Tensor = self.tokens(series)
            return alone
        if self.streams is None:
            embedded: Tensor = embedding(cut)
            return embedded if self.tokens is None else self.tokens.fused(embedded, self.tokens(series))
        parts = [patches(part, *self.patch) for part in self.streams.split(series)]
        slow, fast = (embedding(part) for part in parts)
        share = self.streams.share(slow, fast, *parts)
        both = torch.cat([slow, fast, share.to(slow.dtype)], dim=-1)
        if self.tokens is None:
            return both
        mine, slower = self.tokens(series), self.tokens.slower(self.streams.fastest).to(both.dtype)[None, :, None]
        # A wavelet token is of one scale, and so of one stream.
        apart = torch.cat([mine * slower, mine * (1 - slower), slower.expand(len(mine), -1, -1)], dim=-1)
        return torch.cat([apart, both], dim=1)

    def read(self, series: Tensor, seen: Tensor, count: int) -> Reduced:
        """The tokens [M, K, C] that are kept, `count` of each window [M, T]."""
        return Reduced(seen, None, None) if self.sparse is None else self.sparse.reduce(series, seen, count)

    def needed(self, series: Tensor) -> Tensor:
        """How many tokens are read of each window: [M, T] → [M] int64."""
        if self.sparse is None:
            return torch.full((len(series),), self.seen_count, device=series.device)
        return self.sparse.needed(series)

    def counts(self, groups: Groups | None) -> Tensor | None:
        """How often each token is attended to, [M, k]; None for once."""
        pooled = self.sparse is not None and self.sparse.settings.rest == "pool"
        return groups.members if groups is not None and pooled else None

    def reprogrammed(
        self, read: Tensor, layer: Reprogramming, constants: Constants, fast: Callable[[], Constants]
    ) -> Tensor:
        """Tokens [M, k, C] → [M, k, D].

        Args:
            layer, constants: the model's own reprogramming layer, and its K and V.
            fast: gives K and V of the fast stream.
        """
        if self.streams is None:
            found: Tensor = layer(read, *constants)
            return found
        slow, quick, share = read.split([self.width, self.width, 1], dim=-1)
        joint: Tensor = share * layer(slow, *constants) + (1 - share) * self.streams.fast(quick, *fast())
        return joint

    def states(self, hidden: Tensor, reduced: Reduced) -> Tensor:
        """Last hidden states [M, k, f] → those of the tokens that the head reads, [M, head_count, f]."""
        if reduced.groups is not None and reduced.apart is not None:
            groups = reduced.groups
            hidden = spread(hidden, groups)
            if self.back is not None:
                apart, mine = reduced.apart.to(hidden.dtype), spread(reduced.embedded, groups).to(hidden.dtype)
                hidden = hidden + self.back(apart, mine)
        return hidden[:, -self.head_count :]
