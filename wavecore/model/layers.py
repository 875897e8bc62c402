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
from wavecore.model.attention import dot_product


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


class WordPrototypes(nn.Module):
    """Prototypes as weights of their own that begin as real words.

    A linear map of all words spans the same [S, D] that are trained here directly, without its two largest products of
    a training step. They begin as S different words, standardized feature by feature over the vocabulary: at
    random weights instead, attention takes hundreds of steps to find anything in them.

    Args:
        words: [V, D].
        prototypes: S.

    Raises:
        SettingsError: more prototypes than words.
    """

    def __init__(self, words: Tensor, prototypes: int) -> None:
        super().__init__()
        if prototypes > len(words):
            raise SettingsError(
                f"prototypes: {prototypes}, but the language model has {len(words)} words to begin them with",
                f"set prototypes to {len(words)} or less, or prototype_source to mapping",
            )
        found = words.detach().float()
        chosen = torch.randperm(len(found))[:prototypes].sort().values
        mean, std = found.mean(dim=0), found.std(dim=0).clamp_min(1e-6)
        self.weight = nn.Parameter((found[chosen] - mean) / std)

    def forward(self, words: Tensor) -> Tensor:
        """[V, D] → [S, D]; the words play a part at the start only."""
        return self.weight


class Reprogramming(nn.Module):
    """Patches re-expressed through prototypes (R5): attention from patches to prototypes.

    A head is `head_width` features wide, whatever d_model is, as in the reference.

    Args:
        width: d_model.
        head_width: E, which is d_ff.
        heads: h.
        words: D.
        dropout: share of attention weights dropped in training, each for itself; or of prototypes, the same number in
            every step (rounded: none of 5 prototypes at 0.1).
        dropout_on: `weights` or `prototypes`.
        query_std: deviation of the query weights at the start; 0: torch's own.
        token_scale: root mean square of a feature of a token at the start, held by a LayerNorm; 0: no LayerNorm.
    """

    def __init__(
        self,
        width: int,
        head_width: int,
        heads: int,
        words: int,
        dropout: float,
        dropout_on: str = "weights",
        query_std: float = 0.0,
        token_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(words, heads * head_width)
        self.value = nn.Linear(words, heads * head_width)
        self.out = nn.Linear(heads * head_width, words)
        self.norm: nn.Module = nn.Identity()
        if token_scale:
            self.norm = nn.LayerNorm(words)
            nn.init.constant_(self.norm.weight, token_scale)
        if query_std:
            nn.init.normal_(self.query.weight, std=query_std)
        self.dropout = nn.Dropout(dropout)
        self.dropout_on = dropout_on

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
        dropping = self.training and self.dropout.p > 0
        if dropping and self.dropout_on == "weights":
            weights = self.dropout(self.attention(embedded, keys))
            mixed = torch.einsum("mhls,she->mlhe", weights, values)
        else:
            if dropping:
                # The same prototypes for all patches of a step, so that the rest is a smaller product of the same kind.
                # Always the same number: products of ever new sizes leave gaps in the heap, which grows step by step.
                dropped = min(round(self.dropout.p * len(keys)), len(keys) - 1)
                stay = torch.randperm(len(keys), device=keys.device)[dropped:].sort().values
                keys, values = keys.index_select(0, stay), values.index_select(0, stay)
            # Prototypes are the same for every series: all patches of the batch are the queries of one product.
            query = self.queries(embedded).flatten(end_dim=1).transpose(0, 1).unsqueeze(0)
            mixed = dot_product(query, keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0))
            mixed = mixed.squeeze(0).transpose(0, 1).reshape(*embedded.shape[:2], self.heads, self.head_width)
        tokens: Tensor = self.norm(self.out(mixed.flatten(start_dim=2)))
        return tokens


class OneAttention(nn.Module):
    """One trainable attention layer in place of a language model, the ablation "LLM2Attn" of Tan et al., "Are Language
    Models Actually Useful for Time Series Forecasting?", NeurIPS 2024, here with the tokens themselves added to what it
    finds, as in every layer of the language model.

    Args:
        width: D; heads: h.

    Raises:
        SettingsError: the heads do not divide the features.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise SettingsError(
                f"heads: {heads}, which do not divide the {width} features of a token",
                f"set heads to a divisor of {width}",
            )
        self.layer = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """[M, L, D] → [M, L, D]."""
        found: Tensor = tokens + self.layer(tokens, tokens, tokens, need_weights=False)[0]
        return found


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


class Skip(nn.Module):
    """A linear map from the normalized window straight to the forecast, which begins at zero.

    Args:
        window, horizon: T and H.
    """

    def __init__(self, window: int, horizon: int) -> None:
        super().__init__()
        # Without drawing random numbers: every other part begins as it would without it.
        self.weight = nn.Parameter(torch.zeros(horizon, window))

    def forward(self, series: Tensor) -> Tensor:
        """[M, T] → [M, H]."""
        return F.linear(series, self.weight)
