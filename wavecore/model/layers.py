"""The trainable parts of the model: patches, prototypes, reprogramming and head (R2–R5, R8).

Jin et al., "Time-LLM: Time Series Forecasting by Reprogramming Large Language Models", ICLR 2024, section 3. Letters: M
series (a window of one channel each), T steps, L patches, S prototypes, V words of D features, h heads of E features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavecore.errors import SettingsError


def patch_count(window: int, length: int, stride: int) -> int:
    """L: how many patches `patches` cuts.

    Raises:
        SettingsError: a patch longer than the window, or a stride that leaves steps out.
    """
    if not 1 <= length <= window:
        raise SettingsError(
            f"patch.length: {length} steps do not lie within a window of {window}",
            "set `patch` in the benchmark's YAML to what the window can hold",
        )
    if not 1 <= stride <= length:
        raise SettingsError(
            f"patch.stride: {stride} steps, but patches of {length} would then leave steps out or never move on",
            f"set `patch.stride` in the benchmark's YAML between 1 and {length}",
        )
    return (window - length) // stride + 2


def patches(x: Tensor, length: int, stride: int) -> Tensor:
    """Cut windows into patches, the last value repeated `stride` times on the right (R2): [M, T] → [M, L, length]."""
    padded = torch.cat([x, x[:, -1:].expand(-1, stride)], dim=-1)
    return padded.unfold(-1, length, stride)


class PatchEmbedding(nn.Module):
    """Patches as tokens: a convolution over neighbouring patches that meet in a circle, then dropout (R3).

    Args:
        length: steps per patch.
        width: d_model.
        dropout: share of features dropped in training.
    """

    def __init__(self, length: int, width: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(length, width, kernel_size=3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[M, L, length] → [M, L, d_model]."""
        embedded: Tensor = self.dropout(self.convolution(x.transpose(1, 2)).transpose(1, 2))
        return embedded


class Mapping(nn.Linear):
    """Prototypes as mixtures of the language model's words: Linear(V → S) over the word embeddings (R4).

    Args:
        vocabulary: V; prototypes: S.
    """

    def __init__(self, vocabulary: int, prototypes: int) -> None:
        super().__init__(vocabulary, prototypes)

    def forward(self, words: Tensor) -> Tensor:
        """[V, D] → [S, D]."""
        return F.linear(words.t(), self.weight, self.bias).t()


class Reprogramming(nn.Module):
    """Patches re-expressed through prototypes (R5): attention from patches to prototypes.

    A head is `head_width` features wide, whatever d_model is, as in the reference.

    Args:
        width: d_model.
        head_width: E, which is d_ff.
        heads: h.
        words: D.
        dropout: share of attention weights dropped in training.
    """

    def __init__(self, width: int, head_width: int, heads: int, words: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(words, heads * head_width)
        self.value = nn.Linear(words, heads * head_width)
        self.out = nn.Linear(heads * head_width, words)
        self.dropout = nn.Dropout(dropout)

    def keys_values(self, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """K and V: [S, D] → [S, h, E] each. They depend on weights alone, never on data."""
        shape = (prototypes.shape[0], self.heads, self.head_width)
        return self.key(prototypes).view(shape), self.value(prototypes).view(shape)

    def queries(self, embedded: Tensor) -> Tensor:
        """Q: [M, L, d_model] → [M, L, h, E]."""
        query: Tensor = self.query(embedded).view(*embedded.shape[:2], self.heads, self.head_width)
        return query

    def attention(self, embedded: Tensor, keys: Tensor) -> Tensor:
        """Which prototypes a patch attends to: [M, L, d_model] with K [S, h, E] → [M, h, L, S], rows summing to 1."""
        scores = torch.einsum("mlhe,she->mhls", self.queries(embedded), keys) / math.sqrt(self.head_width)
        return scores.softmax(dim=-1)

    def forward(self, embedded: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[M, L, d_model] with K, V [S, h, E] → tokens [M, L, D]."""
        if self.training and self.dropout.p > 0:
            weights = self.dropout(self.attention(embedded, keys))
            mixed = torch.einsum("mhls,she->mlhe", weights, values)
        else:
            # The same sums, fused: the scores [M, h, L, S] are never written out, and memory is what they cost.
            query = self.queries(embedded).transpose(1, 2)
            shape = (len(embedded), *keys.transpose(0, 1).shape)
            mixed = F.scaled_dot_product_attention(
                query, keys.transpose(0, 1).expand(shape), values.transpose(0, 1).expand(shape)
            ).transpose(1, 2)
        tokens: Tensor = self.out(mixed.flatten(start_dim=2))
        return tokens


class Head(nn.Module):
    """The first d_ff features of the patches' last hidden states, flattened (feature, patch), to H steps (R8).

    Args:
        features: d_ff; patches: L; horizon: H.
        dropout: share of the forecast dropped in training, after the linear map as in the reference.
    """

    def __init__(self, features: int, patches: int, horizon: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.linear = nn.Linear(features * patches, horizon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """[M, L, D] → [M, H]."""
        kept = hidden[:, :, : self.features].transpose(1, 2)
        forecast: Tensor = self.dropout(self.linear(kept.flatten(start_dim=1)))
        return forecast
