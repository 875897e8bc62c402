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
        attention: [L, k], mean over heads, of these prototypes; L wavelet tokens where no patch is read.
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
        if model.wavelets is not None:
            # Wavelet tokens that stand before the patches have another clock.
            attention = attention[:, -model.wavelets.head_count :]
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


def two_streams(model: TimeLLM, x: Tensor, channel: int = 0) -> dict[str, Any] | None:
    """The slow and the fast stream of one window, and how much of each patch is slow; None with one stream.

    Args:
        x: [T, N], train-standardized.
        channel: which of its N channels.

    Returns:
        slow, fast: [T] parts of the normalized window. share: [L], of each patch that is slow. fastest: the fastest
        band that counts as slow. look: the fast stream as `Look.as_plain` has it (`look` itself shows the slow one).
    """
    if model.streams is None:
        return None
    place = model.mapping.weight.device
    with evaluating(model), torch.inference_mode():
        series, _, _ = model.normalized(x[:, channel : channel + 1].unsqueeze(0).to(place))
        slow, fast = model.streams.split(series)
        seen, _, _ = model.tokens(series, model.seen_count)
        share = seen[0, -model.patches :, -1]
    levels, fastest = model.streams.levels, model.streams.fastest
    return {
        "slow": np.round(slow[0].double().cpu().numpy(), 4).tolist(),
        "fast": np.round(fast[0].double().cpu().numpy(), 4).tolist(),
        "share": np.round(share.double().cpu().numpy(), 4).tolist(),
        "fastest": f"D{fastest}" if fastest <= levels else f"A{levels}",
        "look": look(model, x, channel, stream="fast").as_plain(),
    }


def stayed(model: TimeLLM, x: Tensor, channel: int = 0) -> dict[str, Any] | None:
    """Which patches of one window are read, and why; None for a model that reads all of them.

    Args:
        x: [T, N], train-standardized.
        channel: which of its N channels.

    Returns:
        series: [T] normalized values.
        by: what evidence is: `distance` from all patches kept before (token budget), or the score that chose, such as
        `energy`.
        kept: places of the patches read. evidence: of each, null for the one that is read whatever it says.
        owner: per patch the place of the one that stands for it. away: its distance from that one, in evidence or in
        steps.
        contribution: per patch its share of the window's whitened spectrum, or of all scores.
        layers: per layer the series tokens and prompt tokens read.
    """
    if model.wavelets is not None:
        return _kept_by_wavelets(model, x, channel)
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
            "by": "distance",
            "series": np.round(series[0].double().cpu().numpy(), 4).tolist(),
            "kept": found.kept[0].tolist(),
            "owner": found.kept[0][found.owner[0]].tolist(),
            "evidence": evidence,
            "away": np.round(found.away[0].double().cpu().numpy(), 4).tolist(),
            "contribution": np.round(contribution(cut, settings)[0].double().cpu().numpy(), 5).tolist(),
            "layers": [[count, int(n)] for n in told],
        }


def _kept_by_wavelets(model: TimeLLM, x: Tensor, channel: int) -> dict[str, Any] | None:
    """As `stayed`, of a sparse stage that reads patches."""
    assert model.wavelets is not None
    sparse, before = model.wavelets.sparse, model.seen_count - model.patches
    if sparse is None or not sparse.patches:
        return None
    place = model.mapping.weight.device
    with evaluating(model), torch.inference_mode():
        one = x[:, channel : channel + 1].unsqueeze(0).to(place)
        series, _, _ = model.normalized(one)
        count = int(model.needed(one)[0])
        score = sparse.scores(series)[0]
        found = sparse.groups(series, count)
        width = max(len(p.ids) for p in model.prompts(one)) if model.prompter is not None else 0
    kept, owner = found.kept[0], found.kept[0][found.owner[0]]
    mine, last = kept[kept >= before], model.seen_count - 1
    share = score[before:] / score[before:].sum().clamp_min(1e-12)
    return {
        "by": sparse.settings.by,
        "series": np.round(series[0].double().cpu().numpy(), 4).tolist(),
        "kept": (mine - before).tolist(),
        "owner": (owner[before:] - before).tolist(),
        "evidence": [None if int(i) == last else round(float(score[i]), 4) for i in mine],
        "away": np.round(found.away[0, before:].double().cpu().numpy(), 4).tolist(),
        "contribution": np.round(share.double().cpu().numpy(), 5).tolist(),
        "layers": [[count, width]] * (model.backbone.layers if model.backbone is not None else 0),
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
