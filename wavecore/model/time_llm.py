"""Time-LLM: patches re-expressed through a frozen language model's own words (Jin et al., ICLR 2024).

A window of one channel is normalized, cut into patches, reprogrammed into tokens of the language model, and read by its
frozen layers behind a prompt that tells about the window; a linear head turns the patches' last hidden states into the
forecast. Channels share all weights and never see each other.

    x [B, T, N] → [M, T] (M = B·N) → patches [M, L, 16] → [M, L, d_model] → tokens [M, L, D]
    prompt [M, P, D] | tokens [M, L, D] → frozen layers → last L states, first d_ff features → [M, H] → [B, H, N]

The settings of `reference` are the published model's; what `base` does otherwise are named options, each with its
reason below and an ablation row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from wavecore.errors import DataError, SettingsError
from wavecore.model.backbone import Backbone
from wavecore.model.groups import ParameterGroup, Part, part
from wavecore.model.layers import Head, Mapping, PatchEmbedding, Reprogramming, patch_count, patches
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.tokens import Prompt, Prompter, padding_id
from wavecore.series.normalize import instance_denormalize, single_series
from wavecore.series.windows import Batch


@dataclass(frozen=True)
class TimeLLMSettings:
    """How the model is built.

    Attributes:
        backbone: the language model: `minilm`, a folder (`/models/x`, `./x`), or a name on the hub (`gpt2`,
            `Qwen/Qwen2.5-3B`).
        llm: `pretrained`; `random`: the same architecture with random frozen weights; `none`: tokens go straight to the
            head, and there is no prompt. The word embeddings are in all three what prototypes are made of (random ones
            in `random`).
        llm_layers: how many of the language model's layers are used, from the first on.
        d_model: width of a patch embedding.
        d_ff: width E of a reprogramming head, and how many features of a hidden state the forecast is made from.
        heads: of reprogramming.
        prototypes: S.
        dropout: on patch embeddings, attention weights and forecast.
        attention_mask: padding between prompt and patches is neither attended to nor counted as a position. Without it
            (as in the reference) a forecast depends on which other windows share its batch.
        frozen_mode: `eval`: no dropout inside the frozen model; it costs half of the training forward and is noise in
            weights that cannot learn from it. `train`: as in the reference, which leaves it on while training.
        attention_outputs: have the frozen model return all attention weights and hidden states, as the reference does
            without using them; fused attention is then impossible. Forecasts are the same.
        prompt: see PromptSettings.
    """

    backbone: str = "minilm"
    llm: Literal["pretrained", "random", "none"] = "pretrained"
    llm_layers: int = 6
    d_model: int = 32
    d_ff: int = 128
    heads: int = 8
    prototypes: int = 1000
    dropout: float = 0.1
    attention_mask: bool = True
    frozen_mode: Literal["eval", "train"] = "eval"
    attention_outputs: bool = False
    prompt: PromptSettings = field(default_factory=PromptSettings)

    def __post_init__(self) -> None:
        for name in ("llm_layers", "d_model", "d_ff", "heads", "prototypes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout: must be 0 or more and below 1")


class Trace(NamedTuple):
    """Every step of one forward pass, for tests and for those who want to see inside. M = B·N, window first.

    Attributes:
        patch_embedding: [M, L, d_model].
        reprogrammed: [M, L, D].
        hidden: [M, P+L, D]; without a language model the reprogrammed tokens.
        forecast: [B, H, N].
    """

    patch_embedding: Tensor
    reprogrammed: Tensor
    hidden: Tensor
    forecast: Tensor


class _State(NamedTuple):
    """What changes whenever one of some weights does: in place, replaced, moved or cast; and the autocast in force.

    It holds the weights themselves, so that no other tensor can come to lie where one of them lay.
    """

    weights: tuple[Tensor, ...]
    marks: tuple[tuple[object, ...], ...]
    mixed: torch.dtype | None

    def same(self, other: _State) -> bool:
        alike = all(a is b for a, b in zip(self.weights, other.weights, strict=True))
        return alike and self.marks == other.marks and self.mixed == other.mixed


class TimeLLM(nn.Module):
    """The assembled model.

    Args:
        window, horizon: T and H.
        patch: length and stride in steps.
        settings: see TimeLLMSettings.
        words: the word embeddings [V, D], of the backbone where there is one; V and D are read from them.
        backbone: the frozen language model; None for `llm: none`.
        prompter: makes the prompts; None for `llm: none`, or where the caller gives the ids.

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
        self.window, self.patch = window, patch
        self.patches = patch_count(window, *patch)
        self.padding, self.padding_side = 0, "right"
        if prompter is not None and backbone is not None:
            _check_positions(prompter.longest, self.patches, backbone.positions, settings)
            if not settings.attention_mask:
                # Padding that is seen matters, so it is as the published code has it: the tokenizer's own side.
                self.padding = padding_id(prompter.tokenizer, settings.backbone)
                self.padding_side = prompter.tokenizer.padding_side
            prompter.check_ids(vocabulary, self.padding)
        self.patch_embedding = PatchEmbedding(patch[0], settings.d_model, settings.dropout)
        self.mapping = Mapping(vocabulary, settings.prototypes)
        self.reprogramming = Reprogramming(settings.d_model, settings.d_ff, settings.heads, width, settings.dropout)
        self.head = Head(settings.d_ff, self.patches, horizon, settings.dropout)
        self.backbone = backbone
        # Without a language model its words are still what prototypes are made of.
        self.own_words = None if backbone is not None else nn.Parameter(words.detach(), requires_grad=False)
        self.prompter = prompter
        # Hash of the language model's config and tokenizer, where it comes from a folder; goes into the manifest.
        self.identity: str | None = None
        self._constants: tuple[_State, tuple[Tensor, Tensor]] | None = None

    @property
    def words(self) -> Tensor:
        """The frozen word embeddings, [V, D]."""
        return self.backbone.words if self.backbone is not None else self.own_words  # type: ignore[return-value]

    def prototypes(self) -> Tensor:
        """The prototypes as they are now, [S, D]."""
        found: Tensor = self.mapping(self.words)
        return found

    def keys_values(self) -> tuple[Tensor, Tensor]:
        """K and V of the prototypes, [S, h, E] each.

        They depend on weights alone. In eval mode without gradients they are computed once and kept until one of the
        weights they come from changes, or `train()` or `eval()` is called: each forecasting pass begins with that, so
        even a write through `.data`, which torch itself does not count, lasts no longer than a pass.
        """
        if self.training or torch.is_grad_enabled():
            self._constants = None
            return self.reprogramming.keys_values(self.prototypes())
        state = self._weights_state()
        if self._constants is None or not state.same(self._constants[0]):
            self._constants = (state, self.reprogramming.keys_values(self.prototypes()))
        return self._constants[1]

    def _weights_state(self) -> _State:
        weights = (
            self.words,
            *self.mapping.parameters(),
            *self.reprogramming.key.parameters(),
            *self.reprogramming.value.parameters(),
        )
        kind = weights[0].device.type
        mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return _State(weights, tuple((w.data_ptr(), w._version, w.dtype) for w in weights), mixed)

    def train(self, mode: bool = True) -> TimeLLM:
        """Also drops the kept keys and values."""
        self._constants = None
        return super().train(mode)

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N].

        Raises:
            DataError: a value of a window is not finite.
        """
        return self.trace(batch.x).forecast

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
        if self.prompter is None:
            return []
        series, _, _ = self.normalized(x)
        return self.prompter.prompts(series.detach().float().cpu().numpy())

    def trace(self, x: Tensor, prompt_ids: Tensor | None = None) -> Trace:
        """A forward pass with every step of it.

        Args:
            x: [B, T, N].
            prompt_ids: [M, P] to use in place of the windows' own prompts, without padding.
        """
        series, mean, std = self.normalized(x)
        embedded = self.patch_embedding(patches(series, *self.patch))
        reprogrammed = self.reprogramming(embedded, *self.keys_values())
        hidden = self._read(series, reprogrammed, prompt_ids)
        ahead = self.head(hidden[:, -self.patches :]).view(x.shape[0], x.shape[2], -1).transpose(1, 2)
        forecast = instance_denormalize(ahead, mean, std, axis=1)
        return Trace(embedded, reprogrammed, hidden, forecast)

    def _read(self, series: Tensor, tokens: Tensor, prompt_ids: Tensor | None) -> Tensor:
        """Prompt and tokens through the frozen layers: [M, T], [M, L, D] → [M, P+L, D]."""
        if self.backbone is None:
            return tokens
        mask = None
        if prompt_ids is None:
            prompt_ids, mask = self._ids(series)
        if prompt_ids.shape[1] + self.patches > self.backbone.positions:
            _check_positions(prompt_ids.shape[1], self.patches, self.backbone.positions, self.settings)
        told = self.backbone.transformer.get_input_embeddings()(prompt_ids)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), self.patches)], dim=1)
        found: Tensor = self.backbone(torch.cat([told, tokens.to(told.dtype)], dim=1), mask)
        return found

    def _ids(self, series: Tensor) -> tuple[Tensor, Tensor | None]:
        """Token ids [M, P] of the windows' prompts, padded, and the mask [M, P] where it is needed."""
        if self.prompter is None:
            raise SettingsError("the model was built without a tokenizer", "give it the prompts' token ids")
        rows = [p.ids for p in self.prompter.prompts(series.detach().float().cpu().numpy())]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), self.padding)
        for i, row in enumerate(rows):
            at = ids.shape[1] - len(row) if self.padding_side == "left" else 0
            ids[i, at : at + len(row)] = torch.tensor(row)
        masked = self.settings.attention_mask and bool((lengths < ids.shape[1]).any())
        mask = torch.arange(ids.shape[1]) < lengths[:, None] if masked else None
        device = series.device
        return ids.to(device), mask.to(device) if mask is not None else None

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The trainable parts, at the same speed."""
        return (
            ParameterGroup("patch embedding", tuple(self.patch_embedding.parameters())),
            ParameterGroup("mapping", tuple(self.mapping.parameters())),
            ParameterGroup("reprogramming", tuple(self.reprogramming.parameters())),
            ParameterGroup("head", tuple(self.head.parameters())),
        )

    def weight_parts(self) -> tuple[Part, ...]:
        """Trainable and frozen weights, part by part (R12)."""
        found = [
            part("patch embedding", self.patch_embedding),
            part("mapping of words to prototypes", self.mapping),
            part("reprogramming", self.reprogramming),
            Part("word embeddings", 0, self.words.numel()),
        ]
        if self.backbone is not None:
            frozen = part("", self.backbone).frozen
            found.append(Part("language model without its words", 0, frozen - self.words.numel()))
        return (*found, part("head", self.head))


def _check_positions(prompt: int, tokens: int, positions: int, settings: TimeLLMSettings) -> None:
    if prompt + tokens > positions:
        raise SettingsError(
            f"prompt: up to {prompt} prompt tokens and {tokens} patches are more than the {positions} positions of "
            f"{settings.backbone}",
            f"set prompt.tokens to {positions - tokens} or less, shorten the window, or take a longer patch.stride"
            if positions > tokens
            else "shorten the window, or take a longer patch.stride",
        )
