"""The frozen layers, run plainly over a whole sequence or over the patches alone behind a prefix."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.attention import NAME, Enough, Prefix, Reading, register
from wavecore.model.backbone import ENCODERS, FAMILIES, first_position, positions_of
from wavecore.model.kept import Kept


class Backbone(nn.Module):
    """A frozen language model, fed with embeddings.

    Args:
        transformer: of transformers, without a language-model head.
        mode: `eval` holds it in eval mode whatever happens around it; `train` lets its dropout follow the model it is
            part of, as the reference does.
        attention_outputs: ask every layer for its attention weights and hidden states and drop them, as the reference
            does; the plain attention then takes the place of the fused one.
        hooked: let `read` take the place of `forward`: our attention function instead of transformers' own.

    Raises:
        SettingsError: `hooked`, but the architecture takes no attention function from outside.
    """

    def __init__(
        self, transformer: Any, mode: str = "eval", attention_outputs: bool = False, hooked: bool = False
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.mode = mode
        self.attention_outputs = attention_outputs
        self.hooked = hooked
        if attention_outputs:
            transformer.set_attn_implementation("eager")
        if hooked:
            _hook(transformer)
        self._low: Kept[Any] = Kept()
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Frozen weights have nothing to learn: in `eval` mode their dropout would be noise alone."""
        return super().train(mode and self.mode == "train")

    @property
    def words(self) -> Tensor:
        """The word embeddings, [V, D]."""
        weight: Tensor = self.transformer.get_input_embeddings().weight
        return weight

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return int(self.transformer.config.num_hidden_layers)

    @property
    def positions(self) -> int:
        """The longest sequence it takes, in tokens."""
        return positions_of(self.transformer.config)

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it; in an encoder all see all."""
        return self.transformer.config.model_type not in ENCODERS

    def embedded(self, ids: Tensor) -> Tensor:
        """Token ids [M, P] as word embeddings [M, P, D]."""
        found: Tensor = self.transformer.get_input_embeddings()(ids)
        return found

    def forward(self, embeddings: Tensor, mask: Tensor | None = None, blocks: Tensor | None = None) -> Tensor:
        """Run the layers over whole sequences.

        Args:
            embeddings: [M, P+L, D].
            mask: [M, P+L] bool, False on padding: it is not attended to and takes up no position. None: every token
                counts, and positions are simply 0, 1, 2, …
            blocks: [P+L] numbers that do not fall: in an encoder a token then sees only tokens of its own block and of
                those before it.

        Returns:
            the last hidden states, [M, P+L, D]; on padding they mean nothing.
        """
        extra: dict[str, Any] = {}
        if mask is not None:
            extra["attention_mask"] = mask.long()
            first = first_position(self.transformer.config)
            extra["position_ids"] = (mask.long().cumsum(dim=-1) - 1).clamp(min=0) + first
        if blocks is not None and not self.causal:
            seen = (blocks[:, None] >= blocks[None, :])[None, None]
            if mask is not None:
                seen = seen & mask[:, None, None, :]
            dtype = embeddings.dtype
            extra["attention_mask"] = torch.zeros(seen.shape, dtype=dtype, device=embeddings.device).masked_fill(
                ~seen, torch.finfo(dtype).min
            )
        if self.attention_outputs:
            extra |= {"output_attentions": True, "output_hidden_states": True}
        if self.causal:
            extra["use_cache"] = False
        hidden: Tensor = self.transformer(inputs_embeds=embeddings, **extra).last_hidden_state
        return hidden

    def read(self, embeddings: Tensor, positions: Tensor, reading: Reading) -> Tensor:
        """Run the layers over some tokens behind a prefix (see `attention`).

        Under autocast to bf16 the layers themselves are held in bf16, so that nothing is cast twice.

        Args:
            embeddings: [M, L, D].
            positions: [M, L] int64, counted from 0.
            reading: what they stand behind; `causal` is set here.

        Returns:
            the last hidden states, [M, L, D].
        """
        reading.causal = self.causal
        kind = embeddings.device.type
        mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        transformer = self.transformer
        if mixed is not None and not transformer.training:
            transformer = self._low.get(transformer.parameters(), lambda: _cast(transformer, mixed))
        extra: dict[str, Any] = {"use_cache": False} if self.causal else {}
        dtype = next(transformer.parameters()).dtype
        with torch.autocast(kind, enabled=False):
            hidden: Tensor = transformer(
                inputs_embeds=embeddings.to(dtype),
                position_ids=positions + first_position(transformer.config),
                reading=reading,
                **extra,
            ).last_hidden_state
        return hidden

    def prefix(
        self, ids: Tensor, mask: Tensor | None = None, before: Prefix | None = None, layers: int | None = None
    ) -> Prefix:
        """Keys and values of token ids behind `before`.

        Args:
            ids: [M, P], padded on the right where `mask` [M, P] is False.
            layers: of the first so many layers only; the others then hold none.
        """
        with torch.no_grad():
            length = mask.sum(dim=-1) if mask is not None else torch.full((len(ids),), ids.shape[1], device=ids.device)
            first = before.length if before is not None else torch.zeros(1, dtype=torch.int64, device=ids.device)
            # Padding takes the last token's position: there may be none behind it.
            steps = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
            places = first[:, None] + steps.minimum((length - 1).clamp(min=0)[:, None])
            reading = Reading(before, mask, kept=[], last=(layers or self.layers) - 1)
            with suppress(Enough):
                self.read(self.embedded(ids), places, reading)
            assert reading.kept is not None
            masks = [mask] * len(reading.kept)
            while len(reading.kept) < self.layers:
                key, value = reading.kept[0]
                reading.kept.append((key[:, :, :0], value[:, :, :0]))
                masks.append(mask[:, :0] if mask is not None else None)
            keys, values = zip(*reading.kept, strict=True)
            return Prefix(tuple(keys), tuple(values), tuple(masks), length)


def _hook(transformer: Any) -> None:
    family = FAMILIES.get(transformer.config.model_type, transformer.config.model_type)
    if not getattr(transformer, "_supports_attention_backend", False):
        raise SettingsError(
            f"backbone: {family} as this version of transformers has it takes no attention function from outside, "
            "which `computation: cached` needs",
            "set `computation: plain` (slower; causal models give the same forecasts)",
        )
    register()
    transformer.set_attn_implementation(NAME)
    _fuse_activations(transformer)


def _fuse_activations(transformer: Any) -> None:
    """GPT-2's GELU in one pass over memory: transformers writes its formula out in eight, which took two thirds of a
    forecast. torch's own is the same formula (Hendrycks & Gimpel, 2016, the tanh form)."""
    from transformers.activations import NewGELUActivation

    for module in list(transformer.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _cast(transformer: Any, dtype: torch.dtype) -> Any:
    """The layers with weights of another type; word embeddings are left out, buffers (of positions) stay exact."""
    found = copy.deepcopy(transformer, {id(transformer.get_input_embeddings()): nn.Identity()})
    for parameter in found.parameters():
        parameter.data = parameter.data.to(dtype)
    return found
