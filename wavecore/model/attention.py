"""The frozen attention with a prefix: what the prompt says is computed once, and the patches only read it.

In a causal language model the prompt never sees the patches, so its keys and values are constants of the prompt. A
`Prefix` holds them, layer by layer. The layers of transformers are left as they are; their attention function is
replaced by `attend` (transformers' AttentionInterface), which puts the prefix in front of a layer's own keys and
values. `Reading` travels to it as a keyword argument, so nothing is global.

Letters: M series, P prompt tokens, L own tokens, h heads, e features per head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Under this name transformers finds `attend`.
NAME = "wavecore_prefix"
# Queries whose weights over a thousand prototypes are written out at once.
QUERIES = 512


class Prefix(NamedTuple):
    """Keys and values of tokens that stand before others.

    Attributes:
        keys, values: one tensor [M, h, P_l, e] per layer; M is 1 where all series share them. P_l may become smaller
            with depth, never larger.
        masks: [M, P_l] bool per layer, False on padding; None where there is none.
        length: [M] int64, tokens that they stand for, without padding: where the next token's position begins.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    length: Tensor

    def before(self, other: Prefix) -> Prefix:
        """This prefix and then `other`, as one; shared ones are repeated for every series."""
        series = max(len(self.length), len(other.length))
        keys, values = [], []
        masks: list[Tensor | None] = []
        for layer in range(len(self.keys)):
            if not other.keys[layer].shape[2]:
                # Nothing comes behind it here: what is shared stays shared.
                keys.append(self.keys[layer])
                values.append(self.values[layer])
                masks.append(self.masks[layer])
                continue
            keys.append(_joined(self.keys[layer], other.keys[layer], series, 2))
            values.append(_joined(self.values[layer], other.values[layer], series, 2))
            both = (self.masks[layer], other.masks[layer])
            if both[0] is None and both[1] is None:
                masks.append(None)
                continue
            own = [
                found if found is not None else torch.ones((), dtype=torch.bool, device=k.device).expand(1, k.shape[2])
                for found, k in zip(both, (self.keys[layer], other.keys[layer]), strict=True)
            ]
            masks.append(_joined(own[0], own[1], series, 1))
        return Prefix(tuple(keys), tuple(values), tuple(masks), self.length + other.length)

    def chosen(self, told: Tensor) -> Prefix:
        """Only some of the keys: `told` [layers, P] says which each layer sees."""
        keys, values = [], []
        masks: list[Tensor | None] = []
        for key, value, mask, row in zip(self.keys, self.values, self.masks, told, strict=True):
            stay = row[: key.shape[2]].nonzero()[:, 0].to(key.device)
            all_stay = len(stay) == key.shape[2]
            keys.append(key if all_stay else key[:, :, stay])
            values.append(value if all_stay else value[:, :, stay])
            masks.append(mask if all_stay or mask is None else mask[:, stay])
        return Prefix(tuple(keys), tuple(values), tuple(masks), self.length)


def _joined(first: Tensor, second: Tensor, series: int, axis: int) -> Tensor:
    widened = (t.expand(series, *t.shape[1:]) if len(t) != series else t for t in (first, second))
    return torch.cat(tuple(widened), dim=axis)


class Enough(Exception):
    """Raised by `attend` where a pass has given all that it was made for."""


@dataclass(eq=False)
class Reading:
    """What the attention of one pass does beside its own tokens.

    Attributes:
        prefix: what stands before them.
        own: [M, L] bool, False on padding among them; None where there is none.
        causal: whether a token sees only those before it.
        counts: [M, L], as how many tokens each of them counts: a token that stands for n is attended to as n tokens
            with its key would be, by log n on its scores (Bolya et al., "Token Merging", ICLR 2023, section 3); None:
            as one each.
        kept: filled with (keys, values) of each layer, the pass's own ones, where it is a list.
        weights: filled with the attention weights [M, h, L, P_l + L] of each layer, where it is a list (for looking
            inside; the products are then written out).
        last: the layer whose keys and values are the last that are wanted: there the pass ends with `Enough`, and the
            rest of that layer and all deeper ones are never computed.
    """

    prefix: Prefix | None = None
    own: Tensor | None = None
    causal: bool = False
    counts: Tensor | None = None
    kept: list[tuple[Tensor, Tensor]] | None = None
    weights: list[Tensor] | None = None
    last: int | None = None
    _masks: dict[tuple[int, int], Tensor | None] = field(default_factory=dict)

    def mask(self, layer: int, queries: int, like: Tensor) -> Tensor | None:
        """Which keys each query sees, [M or 1, 1, L or 1, P_l + L] bool, or with `counts` what is added to its scores:
        float32 where they are written out, for bf16 would round log n by up to a percent of n, else of the type of
        `like`, as the fused way wants it; None where it sees all and each counts as one."""
        before = self.prefix.masks[layer] if self.prefix is not None else None
        width = self.prefix.keys[layer].shape[2] if self.prefix is not None else 0
        # Most layers have the mask of the one before.
        same = (id(before), width)
        if same not in self._masks:
            seen = self._mask(before, width, queries, like.device)
            if self.counts is not None:
                dtype = torch.float32 if written_out(like) else like.dtype
                added = F.pad(self.counts.log().to(dtype), (width, 0))[:, None, None, :]
                seen = added if seen is None else torch.where(seen, added, torch.finfo(dtype).min)
            self._masks[same] = seen
        return self._masks[same]

    def _mask(self, before: Tensor | None, width: int, queries: int, device: torch.device) -> Tensor | None:
        if before is None and self.own is None and not self.causal:
            return None
        series = next((len(m) for m in (before, self.own) if m is not None), 1)
        if before is None:
            before = torch.ones((), dtype=torch.bool, device=device).expand(series, width)
        own = self.own if self.own is not None else torch.ones((series, queries), dtype=torch.bool, device=device)
        own = own[:, None, None, :]
        if self.causal:
            own = own & torch.ones((queries, queries), dtype=torch.bool, device=device).tril()
        return torch.cat([before[:, None, None, :].expand(*own.shape[:3], width), own], dim=-1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    reading: Reading | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """One layer's attention over a prefix and its own tokens, as transformers calls it.

    Args:
        module: the attention layer; its `layer_idx` says which layer's prefix is meant.
        query: [M, h, L, e]; key, value: [M, h', L, e], where h' divides h.
        reading: see Reading.

    Returns:
        [M, L, h, e], and None for the attention weights.

    Raises:
        Enough: this was the last layer that was wanted.
    """
    if reading is None:
        raise TypeError("layers with a replaced attention are run by Backbone.read, which says what they read")
    layer = int(module.layer_idx)
    if reading.kept is not None:
        reading.kept.append((key, value))
    if reading.last == layer:
        raise Enough
    mask = reading.mask(layer, query.shape[2], query)
    if reading.prefix is not None and reading.prefix.keys[layer].shape[2]:
        series = len(query)
        key = _joined(reading.prefix.keys[layer], key, series, 2)
        value = _joined(reading.prefix.values[layer], value, series, 2)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if reading.weights is not None:
        reading.weights.append(weights_of(query, key, mask, scaling))
    return dot_product(query, key, value, mask, scaling).transpose(1, 2), None


def dot_product(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scaling: float | None = None
) -> Tensor:
    """Attention [..., L, e] over [..., P, e], by the faster of two ways that compute the same.

    The fused one writes out no weights. On a CPU in bf16 plain products are faster, a few hundred queries at a time so
    that their weights stay in its cache (docs/performance.md has both times).
    """
    if not written_out(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    found = []
    for start in range(0, query.shape[-2], QUERIES):
        part = slice(start, start + QUERIES)
        seen = mask if mask is None or mask.shape[-2] == 1 else mask[..., part, :]
        found.append(torch.matmul(weights_of(query[..., part, :], key, seen, scaling), value))
    return found[0] if len(found) == 1 else torch.cat(found, dim=-2)


def written_out(x: Tensor) -> bool:
    """Whether queries like `x` are multiplied by plain products: on a CPU in bf16."""
    if x.device.type != "cpu":
        return False
    mixed = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return mixed or x.dtype == torch.bfloat16


def weights_of(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attention weights [..., L, P], rows summing to 1."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = torch.matmul(query * scale, key.transpose(-1, -2))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        # Summed in the wider type of the two; the products with the values are of the scores' own again.
        return (scores + mask).softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


def register() -> None:
    """Tell transformers of `attend`. Without a mask function of the same name it makes no masks of its own."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
