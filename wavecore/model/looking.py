"""What a model attends to: its prototypes, its prompt, and the evidence by which a token budget chooses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wavecore.errors import SettingsError
from wavecore.model.attention import Reading
from wavecore.model.budget import group
from wavecore.model.layers import patches
from wavecore.model.spectrum import spectra
from wavecore.model.time_llm import TimeLLM


def attended(model: TimeLLM, x: Tensor, stream: Literal["slow", "fast"] = "slow") -> Tensor:
    """Which prototypes each token seen of the windows x [B, T, N] attends to: [M, h, K, S], rows summing to 1.

    Args:
        stream: of two; with one, that is `slow`.
    """
    series, _, _ = model.normalized(x)
    seen, _, _ = model.tokens(series, model.seen_count)
    if model.streams is None:
        return model.reprogramming.attention(seen, model.keys_values()[0])
    slow, fast, _ = seen.split([model.settings.d_model, model.settings.d_model, 1], dim=-1)
    if stream == "slow":
        return model.reprogramming.attention(slow, model.keys_values()[0])
    return model.streams.fast.attention(fast, model.fast_keys_values()[0])


def evidence(model: TimeLLM, x: Tensor, count: int) -> Tensor:
    """Evidence of the first `count` tokens kept of each series, in the order of choice, falling: [M, count]."""
    series, _, _ = model.normalized(x)
    return group(spectra(patches(series, *model.patch), model.settings.budget), count).in_turn()


def influence(model: TimeLLM, x: Tensor) -> Tensor:
    """How much each layer's series tokens attend to each prompt token, [layers, P]: mean over series, tokens and heads;
    P is the longest prompt among these windows x [B, T, N].

    Raises:
        SettingsError: the prompt is not computed apart from the patches (`computation: plain`), or there is none.
    """
    if model.backbone is None or model.reader is None or model.settings.computation == "plain":
        raise SettingsError("influence: needs a language model and `computation: cached`", "choose another stage")
    series, _, _ = model.normalized(x)
    _, _, tokens = model.tokens(series, model.seen_count)
    prefix = model.reader.prefix(series)
    reading = Reading(prefix, weights=[])
    positions = prefix.length[:, None] + torch.arange(model.seen_count, device=x.device)
    model.backbone.read(tokens, positions.expand(len(tokens), -1), reading)
    assert reading.weights is not None
    width = prefix.keys[0].shape[2]
    return torch.stack([w[..., :width].float().mean(dim=(0, 1, 2)) for w in reading.weights])
