"""Seeing inside a reprogrammed forecaster: what a prototype stands for, and which prototypes a patch attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavecore.learn.forecast import evaluating
from wavecore.model import backbone as language
from wavecore.model.budget import group
from wavecore.model.layers import Mapping, patches
from wavecore.model.looking import attended
from wavecore.model.spectrum import contribution, spectra
from wavecore.model.time_llm import TimeLLM
from wavecore.prompt.tokens import tokenizer_of


class Word(NamedTuple):
    """One real word behind a prototype. `weight`: of the mapping; `likeness`: cosine between the two embeddings."""

    text: str
    weight: float | None
    likeness: float | None


@dataclass(frozen=True)
class Look:
    """One window of one channel, seen from inside.

    Attributes:
        prototypes: [k] ids, most attended first.
        attention: [L, k], mean over heads, of these prototypes; first a wavelet stage's own tokens, if it has any.
        entropy: of a patch's attention over all prototypes and heads, over log S: 1 where all count the same.
        top_mass: share of the attention that the k prototypes hold.
        by_weight: per prototype the words of the largest mapping weights; empty where prototypes are weights of their
            own and nothing is mapped.
        nearest: per prototype the words whose embeddings point the same way.
    """

    prototypes: tuple[int, ...]
    attention: np.ndarray
    entropy: float
    top_mass: float
    by_weight: tuple[tuple[Word, ...], ...]
    nearest: tuple[tuple[Word, ...], ...]

    def as_plain(self) -> dict[str, Any]:
        """As JSON values, rounded to what a reader can use."""
        return {
            "prototypes": list(self.prototypes),
            "attention": np.round(self.attention.astype(np.float64), 6).tolist(),
            "entropy": round(self.entropy, 6),
            "top_mass": round(self.top_mass, 6),
            "words by mapping weight": [[[w.text, round(w.weight or 0.0, 5)] for w in p] for p in self.by_weight],
            "nearest words": [[[w.text, round(w.likeness or 0.0, 4)] for w in p] for p in self.nearest],
        }


def look(
    model: TimeLLM,
    x: Tensor,
    channel: int = 0,
    most: int = 12,
    words: int = 4,
    stream: Literal["slow", "fast"] = "slow",
) -> Look:
    """Look at one window.

    Args:
        x: [T, N], train-standardized.
        channel: which of its N channels.
        most: k, how many prototypes are named.
        words: how many words are named for each.
        stream: of two; with one, that is `slow`.
    """
    place = model.mapping.weight.device
    with evaluating(model), torch.inference_mode():
        attention = attended(model, x[:, channel : channel + 1].unsqueeze(0).to(place), stream)[0].double()
        mean = attention.mean(dim=0)
        order = mean.mean(dim=0).argsort(descending=True, stable=True)[:most]
        spread = -(attention * attention.clamp_min(1e-300).log()).sum(dim=-1).mean()
        own = torch.arange(len(model.prototypes()), device=order.device)
        if model.streams is not None:
            own = model.streams.subsets(own)[0 if stream == "slow" else 1]
        prototypes = tuple(own[order].tolist())
        weighed = words_by_weight(model, prototypes, words)
        near = nearest_words(model, prototypes, words)
    shown = mean[:, order].cpu().numpy()
    whole = float(np.log(mean.shape[-1])) or 1.0
    return Look(prototypes, shown, float(spread) / whole, float(shown.sum(axis=-1).mean()), weighed, near)


def stayed(model: TimeLLM, x: Tensor, channel: int = 0) -> dict[str, Any] | None:
    """Which patches of one window a token budget reads, and why; None for a model without one.

    Args:
        x: [T, N], train-standardized.
        channel: which of its N channels.

    Returns:
        series: [T] normalized values.
        kept: places of the patches read. evidence: of each its distance from all that were kept before, null for the
        first.
        owner: per patch the place of the one that stands for it. away: its distance from that one.
        contribution: per patch its share of the window's whitened spectrum.
        layers: per layer the series tokens and prompt tokens read.
    """
    if model.budget is None:
        return None
    place = model.mapping.weight.device
    with evaluating(model), torch.inference_mode():
        one = x[:, channel : channel + 1].unsqueeze(0).to(place)
        series, _, _ = model.normalized(one)
        cut = patches(series, *model.patch)
        count = int(model.needed(one)[0])
        settings = model.settings.budget
        found = group(spectra(cut, settings), count)
        width = max(len(p.ids) for p in model.prompts(one)) if model.prompter is not None else 0
        told = model.budget.told[:, :width].sum(dim=1).tolist()
        evidence = [None if v == float("inf") else round(v, 4) for v in found.evidence[0].tolist()]
        return {
            "series": np.round(series[0].double().cpu().numpy(), 4).tolist(),
            "kept": found.kept[0].tolist(),
            "owner": found.kept[0][found.owner[0]].tolist(),
            "evidence": evidence,
            "away": np.round(found.away[0].double().cpu().numpy(), 4).tolist(),
            "contribution": np.round(contribution(cut, settings)[0].double().cpu().numpy(), 5).tolist(),
            "layers": [[count, int(n)] for n in told],
        }


def words_by_weight(model: TimeLLM, prototypes: tuple[int, ...], most: int = 4) -> tuple[tuple[Word, ...], ...]:
    """The words with the largest mapping weights (by size; the sign is kept) of each of some prototypes; () where they
    are weights of their own."""
    if not isinstance(model.mapping, Mapping):
        return ()
    tokenizer = _tokenizer(model)
    found = []
    for weights in model.mapping.weight.detach()[list(prototypes)]:
        best = weights.abs().argsort(descending=True, stable=True)[:most].tolist()
        texts = tokenizer.convert_ids_to_tokens(best)
        found.append(tuple(Word(str(t), float(weights[i]), None) for t, i in zip(texts, best, strict=True)))
    return tuple(found)


def nearest_words(model: TimeLLM, prototypes: tuple[int, ...], most: int = 4) -> tuple[tuple[Word, ...], ...]:
    """The words whose embeddings are most like each of some prototypes, by cosine."""
    tokenizer = _tokenizer(model)
    with torch.no_grad():
        real = torch.nn.functional.normalize(model.words.detach(), dim=-1)
        own = torch.nn.functional.normalize(model.prototypes()[list(prototypes)], dim=-1)
        likeness = own @ real.t()
    found = []
    for row in likeness:
        best = row.argsort(descending=True, stable=True)[:most].tolist()
        texts = tokenizer.convert_ids_to_tokens(best)
        found.append(tuple(Word(str(t), None, float(row[i])) for t, i in zip(texts, best, strict=True)))
    return tuple(found)


def _tokenizer(model: TimeLLM) -> Any:
    if model.prompter is not None:
        return model.prompter.tokenizer
    return tokenizer_of(language.find(model.settings.backbone).folder)
