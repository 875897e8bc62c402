"""From the tokens of a window to one vector, and from that to the forecast."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.stream.settings import HeadSettings

QUERY_STD = 0.02


class AttentionPooling(nn.Module):
    """One learned query attends to all tokens.

    Args:
        d_model, heads: D and the number of heads.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(QUERY_STD * torch.randn(1, 1, d_model))
        self.attention = nn.MultiheadAttention(d_model, heads, batch_first=True)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[S, L, D] → pooled [S, D] and the weight of each token, mean of the heads [S, L]."""
        query = self.query.expand(len(tokens), -1, -1)
        pooled, weights = self.attention(query, tokens, tokens)
        return pooled[:, 0], weights[:, 0]


class Pooling(nn.Module):
    """The poolings without weights: `mean`, `last_k`, `flatten`.

    Args:
        kind: which.
        last_k: of `last_k`; no more than there are tokens.
    """

    def __init__(self, kind: str, last_k: int) -> None:
        super().__init__()
        self.kind = kind
        self.last_k = last_k

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[S, L, D] → [S, D], or [S, L·D] of `flatten`, and the weight of each token [S, L]."""
        series, count, _ = tokens.shape
        if self.kind == "flatten":
            return tokens.flatten(1), tokens.new_full((series, count), 1 / count)
        read = min(self.last_k, count) if self.kind == "last_k" else count
        weights = tokens.new_zeros(series, count)
        weights[:, count - read :] = 1 / read
        return tokens[:, count - read :].mean(dim=1), weights


class Head(nn.Module):
    """Pooling and what follows it: two layers with a GELU between, or after `mean` one linear map.

    Args:
        tokens, d_model, heads: L, D and the number of heads of the pooling.
        outputs: values of a forecast, H·C.
        settings: see HeadSettings.

    Raises:
        SettingsError: it would have more weights than `settings.limit` allows.
    """

    def __init__(self, tokens: int, d_model: int, heads: int, outputs: int, settings: HeadSettings) -> None:
        super().__init__()
        kind = settings.pooling
        width = tokens * d_model if kind == "flatten" else d_model
        hidden = settings.forecast_hidden_dim or 2 * d_model
        weights = width * hidden + hidden + hidden * outputs + outputs
        if weights > settings.limit * 1e6:
            raise SettingsError(
                f"model.head.pooling: {kind} of {tokens} tokens of width {d_model} needs {weights / 1e6:.0f} million "
                f"weights, model.head.limit is {settings.limit:g}",
                "use `pooling: attention`, or a shorter window: flatten is for fewer than 100 steps",
            )
        self.pooling: AttentionPooling | Pooling
        self.pooling = AttentionPooling(d_model, heads) if kind == "attention" else Pooling(kind, settings.last_k)
        self.out: nn.Module
        if kind == "mean":
            self.out = nn.Linear(width, outputs)
        else:
            self.out = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(hidden, outputs)
            )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[S, L, D] → [S, H·C] and the weight of each token in it [S, L]."""
        pooled, weights = self.pooling(tokens)
        return cast(Tensor, self.out(pooled)), weights
