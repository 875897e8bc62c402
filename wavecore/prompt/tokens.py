"""From words to token ids, within a token budget that holds.

A prompt is the ids of its fixed part followed by those of its facts, each tokenized by itself: the fixed part is then
the same ids in every window, and a fact that finds no room is left out whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wavecore.errors import SettingsError
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.text import Subject, facts, fixed_text
from wavecore.wavelet.transform import check

# Room that a budget must leave for the facts: about the four shortest ones.
LEAST_ROOM = 24


class Prompt(NamedTuple):
    """The prompt of one window.

    Attributes:
        text: what is said, after the budget.
        ids: [P] token ids, special tokens included.
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
        if settings.statistics != "time":
            features = subject.features
            check(features.wavelet, features.mode, features.levels, subject.window)
        self.tokenizer = tokenizer
        self.subject = subject
        self.settings = settings
        self.before, self.after = _special(tokenizer)
        self.fixed = fixed_text(subject, settings)
        self.fixed_ids = tokenizer([self.fixed], add_special_tokens=False)["input_ids"][0]
        taken = len(self.before) + len(self.fixed_ids) + len(self.after)
        if settings.tokens and settings.tokens - taken < LEAST_ROOM:
            raise SettingsError(
                f"prompt.tokens: {settings.tokens}, but description and task take {taken} and the facts need "
                f"{LEAST_ROOM} or more",
                f"give the dataset's YAML a short `prompt`, or set prompt.tokens to {taken + LEAST_ROOM} or more",
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Prompter:
        """Nothing in it ever changes, so a copied model shares it."""
        return self

    @property
    def longest(self) -> int:
        """The most tokens that a prompt can take: the budget, or without one what the longest facts come to."""
        if self.settings.tokens:
            return self.settings.tokens
        # Numbers of float32 have at most 17 digits, sign, point and a small exponent; lags as many digits as T.
        number, lag = "-0.00012345678901234567", str(self.subject.window - 1)
        longest = f" minimum {number}, maximum {number}, median {number}, trend downward, repeats after " + " ".join(
            [lag] * self.subject.features.lags
        )
        if self.settings.statistics != "time":
            longest += "," + " 100% at 10240-20480 (14482)," * (self.settings.bands + 5)
        taken = len(self.before) + len(self.fixed_ids) + len(self.after)
        return taken + len(self.tokenizer([longest], add_special_tokens=False)["input_ids"][0]) + LEAST_ROOM

    def prompts(self, x: np.ndarray) -> list[Prompt]:
        """The prompts of instance-normalized windows x [M, T]."""
        told = facts(x, self.subject, self.settings)
        every = [fact for window in told for fact in window]
        ids = iter(self.tokenizer(every, add_special_tokens=False)["input_ids"] if every else [])
        found = []
        for window in told:
            room = self.settings.tokens - len(self.before) - len(self.fixed_ids) - len(self.after)
            text, taken = self.fixed, list(self.fixed_ids)
            left: list[str] = []
            for fact in window:
                own = next(ids)
                if left or (self.settings.tokens and len(own) > room):
                    left.append(fact.strip(" ,"))
                    continue
                room -= len(own)
                text, taken = text + fact, taken + own
            found.append(Prompt(text, [*self.before, *taken, *self.after], tuple(left)))
        return found


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
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SettingsError(
            f"backbone: {folder}: no tokenizer there ({str(error).splitlines()[0][:200]})",
            "copy the model's whole folder, tokenizer.json included",
        ) from error


def padding_id(tokenizer: Any, name: str) -> int:
    """The id that fills up shorter prompts: the pad token, else the end token, as the reference takes it.

    Raises:
        SettingsError: the tokenizer has neither.
    """
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise SettingsError(
        f"backbone: the tokenizer of {name} has neither a pad nor an end token, and padding is attended to here",
        "set attention_mask: true, which needs no pad token, or set `pad_token` in its tokenizer_config.json",
    )


def _special(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []
