"""From words to token ids, within a token budget that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wavecore.errors import SettingsError
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.text import BURST_MARKS, Subject, facts, fixed_text
from wavecore.wavelet.transform import check

# Room that a budget must leave for the facts: about the four shortest ones.
LEAST_ROOM = 24


class Prompt(NamedTuple):
    """The prompt of one window.

    Attributes:
        text: what is said, after the budget.
        ids: [P] token ids, special tokens included; the first of them are the prompter's `fixed_ids`.
        left_out: facts that found no room.
    """

    text: str
    ids: list[int]
    left_out: tuple[str, ...]


class Prompter:
    """Makes the prompts of windows; the same window always gets the same prompt.

    Args:
        tokenizer: of transformers.
        subject: what the prompts are about.
        settings: see PromptSettings.

    Raises:
        SettingsError: the fixed part leaves too little of the budget for the facts, or the wavelet does not fit the
            window.
    """

    def __init__(self, tokenizer: Any, subject: Subject, settings: PromptSettings) -> None:
        if settings.statistics in ("wavelet", "both"):
            features = subject.features
            check(features.wavelet, features.mode, features.levels, subject.window)
        self.tokenizer = tokenizer
        self.subject = subject
        self.settings = settings
        self.fixed = fixed_text(subject, settings)
        taken = self._count(self.fixed)
        room = 0 if settings.statistics == "none" else LEAST_ROOM
        if settings.tokens and settings.tokens - taken < room:
            raise SettingsError(
                f"prompt.tokens: {settings.tokens}, but description and task take {taken} and the facts need "
                f"{room} or more",
                f"give the dataset's YAML a short `prompt`, or set prompt.tokens to {taken + room} or more",
            )
        self.fixed_ids = self._fixed_ids()

    def _count(self, text: str) -> int:
        return len(self.tokenizer([text])["input_ids"][0])

    def _fixed_ids(self) -> tuple[int, ...]:
        """The token ids that every prompt begins with, whatever it tells about its window."""
        if self.settings.statistics == "none":
            return tuple(self.tokenizer([self.fixed])["input_ids"][0])
        begins = ("", " Window: minimum -1", " Window: main period 2 hours", " Window: no movement")
        told = self.tokenizer([self.fixed + begin for begin in begins])["input_ids"]
        same = 0
        while same < min(map(len, told)) and len({ids[same] for ids in told}) == 1:
            same += 1
        return tuple(told[0][:same])

    def __deepcopy__(self, memo: dict[int, Any]) -> Prompter:
        """Nothing in it ever changes, so a copied model shares it."""
        return self

    @property
    def longest(self) -> int:
        """The most tokens that a prompt can take: the budget, or without one what the longest facts come to."""
        if self.settings.statistics == "none":
            return len(self.fixed_ids)
        return self.settings.tokens or self._count(self.fixed + self._longest_facts()) + LEAST_ROOM

    def _longest_facts(self) -> str:
        # Numbers of float32 have at most 17 digits, sign, point and a small exponent; lags as many digits as T.
        number, step = "-0.00012345678901234567", f" {self.subject.window - 1}"
        text = f" Window: minimum {number}, maximum {number}, median {number}, trend downward, repeats after"
        text += step * self.subject.features.lags + " steps"
        if self.settings.statistics in ("wavelet", "both"):
            text += ", main period 12345 minutes, energy" + " 99% at 10240-20480 (14482)," * self.settings.bands
            text += f" entropy 0.99, bursts at steps{step * BURST_MARKS}"
        return text

    def check_ids(self, vocabulary: int, padding: int) -> None:
        """Make sure that the language model has an embedding for every id that a prompt can hold.

        Raises:
            SettingsError: it has not: the tokenizer is another model's.
        """
        every = self.tokenizer([self.fixed + self._longest_facts() + " 0123456789 flat upward no movement"])
        largest = max(*every["input_ids"][0], padding)
        if largest >= vocabulary:
            raise SettingsError(
                f"backbone: its tokenizer gives the id {largest}, the language model has {vocabulary} words",
                "copy tokenizer and weights of the same model; a pad token beyond the vocabulary needs attention_mask: "
                "true",
            )

    def prompts(self, x: np.ndarray) -> list[Prompt]:
        """The prompts of instance-normalized windows x [M, T]."""
        if self.settings.statistics == "none":
            return [Prompt(self.fixed, list(self.fixed_ids), ())] * len(x)
        told = facts(x, self.subject, self.settings)
        kept = [len(window) for window in told]
        found: list[list[int]] = [[] for _ in told]
        due = list(range(len(told)))
        # Whole texts are tokenized, never pieces: what a tokenizer makes of a comma depends on what stands before it.
        while due:
            texts = [self.fixed + "".join(told[i][: kept[i]]) for i in due]
            for i, ids in zip(due, self.tokenizer(texts)["input_ids"], strict=True):
                found[i] = ids
            due = [i for i in due if self.settings.tokens and kept[i] and len(found[i]) > self.settings.tokens]
            for i in due:
                kept[i] -= 1
        return [
            Prompt(self.fixed + "".join(window[:n]), ids, tuple(fact.strip(" ,") for fact in window[n:]))
            for window, n, ids in zip(told, kept, found, strict=True)
        ]


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of a language model's folder.

    Raises:
        SettingsError: there is none.
    """
    from transformers import AutoTokenizer

    # Without these transformers makes an empty tokenizer from the config alone.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")):
        raise SettingsError(f"backbone: {folder}: no tokenizer there (tokenizer.json)", "copy the model's whole folder")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare ones
        said = str(error).strip() or type(error).__name__
        raise SettingsError(
            f"backbone: {folder}: no usable tokenizer there ({said.splitlines()[0][:200]})",
            "copy the model's whole folder, tokenizer.json included",
        ) from error


def padding_id(tokenizer: Any, name: str) -> int:
    """The id that fills up shorter prompts: the end token where there is one, else the pad token, as the published code
    has it.

    Raises:
        SettingsError: the tokenizer has neither.
    """
    for found in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if found is not None:
            return int(found)
    raise SettingsError(
        f"backbone: the tokenizer of {name} has neither a pad nor an end token, and padding is attended to here",
        "take a stage with a mask, such as base, which needs none, or set `pad_token` in its tokenizer_config.json",
    )
