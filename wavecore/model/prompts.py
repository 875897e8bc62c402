"""Prompts as the frozen layers read them: token ids, and the keys and values that are kept of them between batches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavecore.errors import SettingsError
from wavecore.model.attention import Prefix
from wavecore.model.frozen import Backbone
from wavecore.model.kept import Kept
from wavecore.model.settings import TimeLLMSettings
from wavecore.prompt.stored import unpacked
from wavecore.prompt.tokens import Prompt, Prompter, padding_id


class Known(NamedTuple):
    """What is known of the prompts of M series, and so is not made from them.

    Attributes:
        ids: [M, P] whole prompts without padding, in place of the series' own.
        facts: [M, F] token ids of what the series' own prompts tell about them (see `Batch`).
    """

    ids: Tensor | None = None
    facts: Tensor | None = None

    def of(self, rows: Tensor) -> Known:
        """The same of some of the series."""
        chosen = (None if part is None else part[rows.to(part.device)] for part in self)
        return Known(*chosen)


NOTHING = Known()


class PromptReader:
    """Makes prompts of normalized series and has the frozen layers read them.

    Args:
        backbone: the frozen layers.
        prompter: makes the prompts; None where the caller gives the ids.
        settings: of the model.
        patches: how many tokens may follow a prompt.

    Attributes:
        padding, padding_side: what fills the shorter prompts of a batch, and where.

    Raises:
        SettingsError: the longest prompt and the patches have no place in the positions of the language model, or a
            token has no word there.
    """

    def __init__(self, backbone: Backbone, prompter: Prompter | None, settings: TimeLLMSettings, patches: int) -> None:
        self.backbone = backbone
        self.settings = settings
        self.patches = patches
        self.padding, self.padding_side = 0, "right"
        self.prompter = prompter
        self._fixed: Kept[Prefix] = Kept()
        if prompter is not None:
            self._check_positions(prompter.longest)
            if not settings.attention_mask:
                # Padding that is seen matters, so it is as the published code has it: the tokenizer's own side.
                self.padding = padding_id(prompter.tokenizer, settings.backbone)
                self.padding_side = prompter.tokenizer.padding_side
            prompter.check_ids(len(backbone.words), self.padding)

    def drop(self) -> None:
        """Forget the kept keys and values."""
        self._fixed.drop()

    def prompts(self, series: Tensor) -> list[Prompt]:
        """The prompts of normalized series [M, T].

        Raises:
            SettingsError: nothing is there to make them.
        """
        return self._needed().prompts(series.detach().float().cpu().numpy())

    def prefix(self, series: Tensor, known: Known = NOTHING, told: Tensor | None = None) -> Prefix:
        """Keys and values of the prompts of normalized series [M, T]: description and task from what is kept, the facts
        about each window behind them; with `told` [layers, P] only of those that a layer sees.

        Raises:
            SettingsError: a prompt does not begin with the ids that all are meant to begin with, or is too long.
        """
        if known.ids is not None:
            self._check_positions(known.ids.shape[1])
            given = self.backbone.prefix(known.ids)
            return given if told is None else given.chosen(told)
        backbone, prompter, device = self.backbone, self._needed(), series.device
        same = len(prompter.fixed_ids)
        fixed = self._fixed.get(
            backbone.parameters(),
            lambda: backbone.prefix(torch.tensor([prompter.fixed_ids], device=device)),
            prompter.fixed_ids,
        )
        rows = [row[same:] for row in self._rows(series, known)]
        width = max(map(len, rows))
        whole = fixed
        if width:
            # Facts need not be computed behind the last layer that sees any.
            layers = None
            if told is not None:
                seeing = told[:, same : same + width].any(dim=1).nonzero()
                layers = int(seeing.max()) + 1 if len(seeing) else 1
            ids, mask = _padded(rows, 0, "right")
            seen = mask.to(device) if not mask.all() else None
            whole = fixed.before(backbone.prefix(ids.to(device), seen, fixed, layers))
        return whole if told is None else whole.chosen(told)

    def plain(self, series: Tensor, tokens: Tensor, known: Known) -> Tensor:
        """Prompt and tokens in one pass: normalized series [M, T], [M, L, D] → [M, P+L, D].

        Raises:
            SettingsError: as `prefix`.
        """
        mask, fixed = None, 0
        if known.ids is not None:
            self._check_positions(known.ids.shape[1])
            ids = known.ids
        else:
            rows = self._rows(series, known)
            ids, mask = (t.to(series.device) for t in _padded(rows, self.padding, self.padding_side))
            fixed = len(self._needed().fixed_ids)
        told = self.backbone.embedded(ids)
        if not self.settings.attention_mask or mask is None or mask.all():
            seen = None
        else:
            seen = torch.cat([mask, mask.new_ones(len(mask), tokens.shape[1])], dim=1)
        blocks = None
        if self.settings.prompt_attention == "prefix":
            sizes = torch.tensor([fixed, told.shape[1] - fixed, tokens.shape[1]])
            blocks = torch.arange(3).repeat_interleave(sizes).to(series.device)
        found: Tensor = self.backbone(torch.cat([told, tokens.to(told.dtype)], dim=1), seen, blocks)
        return found

    def _rows(self, series: Tensor, known: Known) -> list[list[int]]:
        """The token ids of the prompts of normalized series [M, T], made from them or known already."""
        prompter = self._needed()
        if known.facts is not None:
            return unpacked(known.facts, prompter.fixed_ids)
        rows = [p.ids for p in self.prompts(series)]
        same = len(prompter.fixed_ids)
        if any(tuple(row[:same]) != prompter.fixed_ids for row in rows):
            raise SettingsError(
                f"backbone: the tokenizer of {self.settings.backbone} joins the end of the task with what follows it",
                "end the dataset's `prompt` with a full stop, or set `computation: plain` and `prompt_attention: full`",
            )
        return rows

    def _needed(self) -> Prompter:
        if self.prompter is None:
            raise SettingsError("the model was built without a tokenizer", "give it the prompts' token ids")
        return self.prompter

    def _check_positions(self, prompt: int) -> None:
        positions, tokens = self.backbone.positions, self.patches
        if prompt + tokens > positions:
            raise SettingsError(
                f"prompt: up to {prompt} prompt tokens and {tokens} patches are more than the {positions} positions of "
                f"{self.settings.backbone}",
                f"set prompt.tokens to {positions - tokens} or less, shorten the window, or take a longer patch.stride"
                if positions > tokens
                else "shorten the window, or take a longer patch.stride",
            )


def _padded(rows: list[list[int]], padding: int, side: str) -> tuple[Tensor, Tensor]:
    """Token ids of different lengths as [M, P], and [M, P] bool, True where they are no padding."""
    ids = [torch.tensor(row, dtype=torch.int64) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    return (
        pad_sequence(ids, batch_first=True, padding_value=padding, padding_side=side),
        pad_sequence(mask, batch_first=True, padding_value=False, padding_side=side),
    )
