"""Time-LLM: patches re-expressed through a frozen language model's own words (Jin et al., ICLR 2024).

A window of one channel is normalized, cut into patches, reprogrammed into tokens of the language model, and read by its
frozen layers behind a prompt that tells about the window; a linear head turns the patches' last hidden states into the
forecast. Channels share all weights and never see each other.

    x [B, T, N] → [M, T] (M = B·N) → patches [M, L, 16] → [M, L, d_model] → tokens [M, L, D]
    prompt [M, P, D] | tokens [M, L, D] → frozen layers → last L states, first d_ff features → [M, H] → [B, H, N]
    with a linear skip: + the window [M, T] mapped to [M, H]; averaged: the mean with a linear regression's forecast

The settings of `reference` are the published model's; what `base` does otherwise are named options, each with its
reason below and an ablation row of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavecore.errors import DataError, SettingsError
from wavecore.model.attention import Reading
from wavecore.model.budget import Groups, Reduced, TokenBudget, falling
from wavecore.model.frozen import Backbone
from wavecore.model.groups import ParameterGroup, Part, part
from wavecore.model.kept import Kept
from wavecore.model.layers import (
    Head,
    Mapping,
    OneAttention,
    PatchEmbedding,
    Reprogramming,
    Skip,
    WordPrototypes,
    patch_count,
    patches,
)
from wavecore.model.prompts import NOTHING, Known, PromptReader
from wavecore.model.regression import Regression
from wavecore.model.scales import Scales
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.streams import Streams
from wavecore.model.wavelets import Wavelets
from wavecore.prompt.tokens import Prompt, Prompter
from wavecore.series.normalize import instance_denormalize, single_series
from wavecore.series.windows import Batch


class Trace(NamedTuple):
    """Every step of one forward pass, for tests and for those who want to see inside. M = B·N, window first.

    Attributes:
        patch_embedding: [M, L, d_model]; of a wavelet stage what is seen, [M, K, C], see `wavecore.model.wavelets`.
        reprogrammed: [M, K, D]; K is L but for a token budget and the wavelet stages.
        hidden: last hidden states, [M, K, D] behind a cached prompt, [M, P+L, D] computed plainly; without a language
            model the reprogrammed tokens.
        forecast: [B, H, N], before it is averaged with a regression's.
        groups: which patches were read in place of which; None where all were read for themselves.
    """

    patch_embedding: Tensor
    reprogrammed: Tensor
    hidden: Tensor
    forecast: Tensor
    groups: Groups | None = None


class Use(NamedTuple):
    """How much of what there is to read one pass reads.

    Attributes:
        tokens: K of the L patches, or of what a wavelet stage sees.
        told: [layers, P] bool, which prompt tokens each layer sees; None: all.
    """

    tokens: int
    told: Tensor | None = None


class TimeLLM(nn.Module):
    """The assembled model.

    Args:
        window, horizon: T and H.
        patch: length and stride in steps.
        settings: see TimeLLMSettings.
        words: the word embeddings [V, D], of the backbone where there is one; V and D are read from them.
        backbone: the frozen language model; None for `llm: none` and `llm: attention`.
        prompter: makes the prompts; None without a language model, or where the caller gives the ids.
        scales: of the benchmark; only the wavelet stages look at them.

    Raises:
        SettingsError: settings that do not fit window, patches or language model.
    """

    def __init__(
        self,
        window: int,
        horizon: int,
        patch: tuple[int, int],
        settings: TimeLLMSettings,
        words: Tensor,
        backbone: Backbone | None,
        prompter: Prompter | None,
        scales: Scales | None = None,
    ) -> None:
        super().__init__()
        vocabulary, width = words.shape
        if settings.d_ff > width:
            raise SettingsError(
                f"d_ff: {settings.d_ff}, but the language model {settings.backbone} is {width} features wide, and the "
                "forecast is made from the first d_ff of them",
                f"set d_ff to {width} or less",
            )
        self.settings = settings
        self.patch = patch
        self.patches = patch_count(window, *patch)
        self.patch_embedding: nn.Module = PatchEmbedding(patch[0], settings.d_model, settings.dropout)
        self.mapping: Mapping | WordPrototypes
        if settings.prototype_source == "mapping":
            self.mapping = Mapping(vocabulary, settings.prototypes)
        else:
            self.mapping = WordPrototypes(words, settings.prototypes)
        scale = float(words.detach().float().square().mean().sqrt()) if settings.token_norm else 0.0

        def layer() -> Reprogramming:
            return Reprogramming(
                settings.d_model,
                settings.d_ff,
                settings.heads,
                width,
                settings.dropout,
                settings.dropout_on,
                settings.query_std,
                scale,
            )

        self.reprogramming = layer()
        # Behind the parts of `base`, which so begin with the same weights in every stage.
        self.head = Head(settings.d_ff, self.patches, horizon, settings.dropout)
        self.wavelets: Wavelets | None = None
        if settings.tokens.enabled or settings.streams.enabled or settings.sparse.enabled:
            self.wavelets = Wavelets(settings, scales or Scales(), window, patch, self.patches, layer)
            if settings.tokens.enabled and settings.tokens.fusion == "instead":
                # No patch is read.
                self.patch_embedding = nn.Identity()
                self.head = Head(settings.d_ff, self.wavelets.head_count, horizon, settings.dropout)
        self.skip = Skip(window, horizon) if settings.skip == "linear" else None
        self.linear = Regression(window, horizon) if settings.skip == "averaged" else None
        self.attention = OneAttention(width, settings.heads) if settings.llm == "attention" else None
        self.seen_count = self.patches if self.wavelets is None else self.wavelets.seen_count
        self.reader = None if backbone is None else PromptReader(backbone, prompter, settings, self.seen_count)
        self.backbone = backbone
        # Without a language model its words are still what prototypes are made of.
        self.own_words = None if backbone is not None else nn.Parameter(words.detach(), requires_grad=False)
        if backbone is not None and backbone.hooked != (settings.computation == "cached"):
            raise SettingsError(
                f"computation: {settings.computation}, but the frozen layers were made for the other way",
                "build the model with `wavecore.model.build`",
            )
        self.budget: TokenBudget | None = None
        if settings.budget.enabled and backbone is not None:
            longest = prompter.longest if prompter is not None else backbone.positions - self.patches
            self.budget = TokenBudget(
                settings.budget, self.patches, settings.d_model, settings.d_ff, backbone.layers, longest
            )
        # Hash of the language model's config and tokenizer, where it comes from a folder; goes into the manifest.
        self.identity: str | None = None
        self._keys_values: Kept[tuple[Tensor, Tensor]] = Kept()
        self._fast_keys_values: Kept[tuple[Tensor, Tensor]] = Kept()

    @property
    def prompter(self) -> Prompter | None:
        """What makes the prompts; None without a language model, or where the caller gives the ids."""
        return self.reader.prompter if self.reader is not None else None

    @property
    def words(self) -> Tensor:
        """The frozen word embeddings, [V, D]."""
        return self.backbone.words if self.backbone is not None else self.own_words  # type: ignore[return-value]

    def prototypes(self) -> Tensor:
        """The prototypes as they are now, [S, D]."""
        found: Tensor = self.mapping(self.words)
        return found

    def keys_values(self) -> tuple[Tensor, Tensor]:
        """K and V of the prototypes, [S, h, E] each; with two streams those of the slow one.

        They depend on weights alone. In eval mode without gradients they are computed once and kept until one of the
        weights they come from changes, or `train()` or `eval()` is called: each forecasting pass begins with that, so
        even a write through `.data`, which torch itself does not count, lasts no longer than a pass.
        """
        return self._constants(self._keys_values, self.reprogramming, 0)

    def fast_keys_values(self) -> tuple[Tensor, Tensor]:
        """As `keys_values`, of the fast one of two streams."""
        assert self.streams is not None
        return self._constants(self._fast_keys_values, self.streams.fast, 1)

    def _constants(self, kept: Kept[tuple[Tensor, Tensor]], layer: Reprogramming, stream: int) -> tuple[Tensor, Tensor]:
        def made() -> tuple[Tensor, Tensor]:
            prototypes = self.prototypes()
            return layer.keys_values(prototypes if self.streams is None else self.streams.subsets(prototypes)[stream])

        if self.training or torch.is_grad_enabled():
            kept.drop()
            return made()
        own = (*self.mapping.parameters(), *layer.key.parameters(), *layer.value.parameters())
        return kept.get((self.words, *own), made)

    @property
    def streams(self) -> Streams | None:
        """The second stream and the gate; None where there is one stream."""
        return self.wavelets.streams if self.wavelets is not None else None

    def train(self, mode: bool = True) -> TimeLLM:
        """Also drops the kept keys and values of the prototypes; `eval()` those of the prompt too."""
        self._keys_values.drop()
        self._fast_keys_values.drop()
        if not mode and self.reader is not None:
            self.reader.drop()
        return super().train(mode)

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N].

        Raises:
            DataError: a value of a window is not finite.
        """
        own = self._own(batch)
        if self.linear is None or not self.linear.known:
            return own
        with torch.autocast(own.device.type, enabled=False):
            return (own.float() + self.linear(batch.x)) / 2

    def _own(self, batch: Batch) -> Tensor:
        """The forecast without that of the regression, [B, H, N]."""
        sparse = self.settings.sparse
        each = self.settings.budget.per_window and not self.training
        if (self.budget is not None and each) or (sparse.enabled and sparse.keep == "threshold"):
            return self._by_need(batch.x, _known(facts=batch.facts))
        return self.trace(batch.x, facts=batch.facts).forecast

    def _by_need(self, x: Tensor, known: Known) -> Tensor:
        """Forecasts where each series is read with as many tokens as it needs: those of a size together."""
        series, mean, std = self.normalized(x)
        need, told = self._needed(series), self.use().told
        ahead = series.new_empty((len(series), self.head.linear.out_features))
        for size in need.unique().tolist():
            rows = (need == size).nonzero()[:, 0]
            ahead[rows] = self._trace(series[rows], known.of(rows), Use(size, told)).forecast
        return instance_denormalize(ahead.view(x.shape[0], x.shape[2], -1).transpose(1, 2), mean, std, axis=1)

    def needed(self, x: Tensor) -> Tensor:
        """How many tokens each series of the windows x [B, T, N] is read with, [M] int64."""
        return self._needed(self.normalized(x)[0])

    def _needed(self, series: Tensor) -> Tensor:
        if self.wavelets is not None:
            return self.wavelets.needed(series)
        if self.budget is None or not self.settings.budget.per_window:
            tokens = self.patches if self.budget is None else int(self.budget.tokens)
            return torch.full((len(series),), tokens, device=series.device)
        return self.budget.needed(patches(series, *self.patch))

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows as single series, window first: [B, T, N] → [M, T], their mean and deviation [B, N] (R1).

        Raises:
            DataError: a value is not finite; window and channel are named by their places.
        """
        finite = torch.isfinite(x)
        if not finite.all():
            window, step, channel = (int(i) for i in (~finite).nonzero()[0])
            raise DataError(
                f"window {window} of the batch holds {x[window, step, channel].item()} at step {step}, channel "
                f"{channel} (counted from 0); one such value would spoil its whole forecast",
                "fill it before: declare how missing values are treated (`treatment` in the dataset's YAML)",
                rows=(step,),
            )
        return single_series(x)

    def prompts(self, x: Tensor) -> list[Prompt]:
        """The prompts of the windows x [B, T, N], window first, then channel; none without a language model."""
        if self.reader is None or self.prompter is None:
            return []
        series, _, _ = self.normalized(x)
        return self.reader.prompts(series)

    def trace(
        self, x: Tensor, prompt_ids: Tensor | None = None, use: Use | None = None, facts: Tensor | None = None
    ) -> Trace:
        """A forward pass with every step of it but the regression that it may be averaged with.

        Args:
            x: [B, T, N].
            prompt_ids: [M, P] to use in place of the windows' own prompts, without padding.
            use: how much is read; by default what the budget or a sparse stage says, or all. Where each window says it
                for itself (`forward` then asks them one by one), the most that any may read.
            facts: [B, N, F] token ids of what this model's prompts tell about the windows, where they are known already
                (see `Batch`).
        """
        series, mean, std = self.normalized(x)
        trace = self._trace(series, _known(facts=facts, ids=prompt_ids), use or self.use())
        ahead = trace.forecast.view(x.shape[0], x.shape[2], -1).transpose(1, 2)
        return trace._replace(forecast=instance_denormalize(ahead, mean, std, axis=1))

    def _trace(self, series: Tensor, known: Known, use: Use) -> Trace:
        """As `trace`, of normalized series [M, T]; the forecast [M, H] is normalized too."""
        embedded, reduced, reprogrammed = self.tokens(series, use.tokens)
        hidden = self._read(series, reprogrammed, reduced, known, use)
        with torch.autocast(series.device.type, enabled=False):
            read = self._features(hidden, reprogrammed.shape[1])
            if self.wavelets is not None:
                read = self.wavelets.states(read, reduced)
            elif self.budget is not None:
                read = self.budget.restore(read, reduced)
            ahead = self.head(read)
            if self.skip is not None:
                ahead = ahead + self.skip(series.float())
        return Trace(embedded, reprogrammed, hidden, ahead, reduced.groups)

    def states(self, x: Tensor) -> Tensor:
        """What a forecast is made from, for who makes it otherwise: the patches' last hidden states, their first d_ff
        features. [B, T, N] → [M, K, d_ff], window first, then channel."""
        series, _, _ = self.normalized(x)
        use = self.use()
        _, reduced, reprogrammed = self.tokens(series, use.tokens)
        hidden = self._read(series, reprogrammed, reduced, NOTHING, use)
        return self._features(hidden, reprogrammed.shape[1])

    def _features(self, hidden: Tensor, count: int) -> Tensor:
        """The first d_ff features of the last `count` hidden states, in float32."""
        return hidden[:, -count:, : self.settings.d_ff].float()

    def tokens(self, series: Tensor, count: int) -> tuple[Tensor, Reduced, Tensor]:
        """Normalized series [M, T] → what is seen of them [M, L, d_model], the `count` tokens that are read, and these
        re-expressed through the prototypes, [M, count, D]."""
        cut = patches(series, *self.patch)
        if self.wavelets is not None:
            seen = self.wavelets.seen(series, cut, self.patch_embedding)
            reduced = self.wavelets.read(series, seen, count)
            constants, fast = self.keys_values(), self.fast_keys_values
            return seen, reduced, self.wavelets.reprogrammed(reduced.embedded, self.reprogramming, constants, fast)
        seen = self.patch_embedding(cut)
        reduced = Reduced(seen, None, None) if self.budget is None else self.budget.reduce(cut, seen, count)
        return seen, reduced, self.reprogramming(reduced.embedded, *self.keys_values())

    def use(self) -> Use:
        """What a pass reads: all without a budget; in training a size drawn for the step; else what was chosen."""
        if self.wavelets is not None and self.wavelets.sparse is not None:
            return Use(self.wavelets.sparse.most)
        if self.budget is None:
            return Use(self.seen_count)
        if self.training:
            size = self.budget.drawn()
            return Use(size.tokens, self.falling(size.facts, size.depth))
        told = self.budget.told
        return Use(int(self.budget.tokens), None if bool(told.all()) else told)

    def falling(self, facts: int, depth: int) -> Tensor | None:
        """Which prompt tokens each layer sees, [layers, P] bool; None: all. What falls away of description and task
        behind `depth` is drawn anew each time, as training does."""
        assert self.budget is not None
        if facts == len(self.budget.told):
            return None
        fixed = len(self.prompter.fixed_ids) if self.prompter is not None else 0
        return falling(torch.rand(self.budget.told.shape), fixed, facts, depth)

    def _read(self, series: Tensor, tokens: Tensor, reduced: Reduced, known: Known, use: Use) -> Tensor:
        """Tokens through the frozen layers, behind the prompt: [M, T], [M, K, D] → see Trace.hidden."""
        if self.attention is not None:
            attended: Tensor = self.attention(tokens)
            return attended
        if self.backbone is None or self.reader is None:
            return tokens
        if self.settings.computation == "plain":
            return self.reader.plain(series, tokens, known)
        prefix = self.reader.prefix(series, known, use.told)
        at = torch.arange(self.seen_count, device=tokens.device) if reduced.groups is None else reduced.groups.kept
        positions = (prefix.length[:, None] + at).expand(len(tokens), -1)
        if self.wavelets is not None:
            counts = self.wavelets.counts(reduced.groups)
        else:
            counted = reduced.groups is not None and self.settings.budget.counted
            counts = reduced.groups.members if counted and reduced.groups is not None else None
        return self.backbone.read(tokens, positions, Reading(prefix, counts=counts))

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The trainable parts; prototypes that are weights of their own have a speed of their own."""
        mapped = isinstance(self.mapping, Mapping)
        prototypes = ParameterGroup(
            "mapping" if mapped else "prototypes",
            tuple(self.mapping.parameters()),
            1.0 if mapped else self.settings.prototype_rate,
        )
        groups = (
            ParameterGroup("patch embedding", tuple(self.patch_embedding.parameters())),
            prototypes,
            ParameterGroup("reprogramming", tuple(self.reprogramming.parameters())),
            ParameterGroup("head", tuple(self.head.parameters())),
            *(ParameterGroup(name, tuple(module.parameters())) for name, module in self._further()),
        )
        return tuple(group for group in groups if group.parameters)

    def _further(self) -> list[tuple[str, nn.Module]]:
        """The trainable parts that only some stages have."""
        named = {
            "token budget": self.budget,
            "wavelets": self.wavelets,
            "attention": self.attention,
            "linear skip": self.skip,
        }
        return [(name, module) for name, module in named.items() if module is not None]

    def weight_parts(self) -> tuple[Part, ...]:
        """Trainable and frozen weights, part by part (R12)."""
        found = [
            part("patch embedding", self.patch_embedding),
            part("mapping of words to prototypes" if isinstance(self.mapping, Mapping) else "prototypes", self.mapping),
            part("reprogramming", self.reprogramming),
            Part("word embeddings", 0, self.words.numel()),
        ]
        if self.backbone is not None:
            frozen = part("", self.backbone).frozen
            found.append(Part("language model without its words", 0, frozen - self.words.numel()))
        found += [part(name, module) for name, module in self._further()]
        if self.linear is not None:
            found.append(self.linear.weight_part())
        return (*found, part("head", self.head))


def _known(*, facts: Tensor | None, ids: Tensor | None = None) -> Known:
    """What a batch knows of its prompts: facts [B, N, F], window first, then channel."""
    return Known(ids=ids, facts=None if facts is None else facts.flatten(end_dim=1))
