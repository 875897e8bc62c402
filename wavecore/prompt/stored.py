"""Prompts of all windows of a series, made once for the stages and seeds that tell the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavecore.prompt.settings import PROMPT_FEATURES
from wavecore.prompt.tokens import Prompt, Prompter
from wavecore.series.normalize import single_series

# Single series at once: enough to keep a tokenizer busy.
CHUNK = 2048


class Told(NamedTuple):
    """The prompts of some windows, window first, then channel.

    Attributes:
        window: [M] int64, the row of each window's first step.
        channel: [M] int64.
        prompts: M of them.
        facts: per prompt the token ids behind the prompter's `fixed_ids`.
    """

    window: np.ndarray
    channel: np.ndarray
    prompts: list[Prompt]
    facts: list[list[int]]


def setup_of(prompter: Prompter, language_model: str) -> str:
    """SHA-256 over what token ids follow from beside the series: with the same setup two stages tell the same.

    Args:
        language_model: the hash of its config and tokenizer (`backbone.identity`).
    """
    subject = asdict(prompter.subject)
    subject["features"] = {key: subject["features"][key] for key in PROMPT_FEATURES}
    given = {"language model": language_model, "subject": subject, "settings": asdict(prompter.settings)}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def tell(prompter: Prompter, values: Tensor) -> Iterator[Told]:
    """The prompts of every window of a standardized series, in order, some at a time.

    They are the ones that a model makes of the same windows: from float32, each window normalized by itself.

    Args:
        values: [n, N] float32 on the CPU, finite.
    """
    length, channels = prompter.subject.window, values.shape[1]
    windows = values.unfold(0, length, 1).transpose(1, 2)
    same, step = len(prompter.fixed_ids), max(1, CHUNK // channels)
    for start in range(0, len(windows), step):
        # As a batch lies in memory: a view could be summed in another order, and a rounded number be another.
        some = windows[start : start + step].contiguous()
        series, _, _ = single_series(some)
        prompts = prompter.prompts(series.numpy())
        yield Told(
            window=np.repeat(np.arange(start, start + len(some)), channels),
            channel=np.tile(np.arange(channels), len(some)),
            prompts=prompts,
            facts=[prompt.ids[same:] for prompt in prompts],
        )


def size_mb(prompter: Prompter, windows: int, channels: int) -> float:
    """The most memory, in MiB, that the token ids of so many windows can take as `packed` lays them out."""
    return windows * channels * (prompter.longest - len(prompter.fixed_ids)) * 4 / 2**20


def packed(ids: np.ndarray, lengths: np.ndarray, channels: int) -> Tensor:
    """Token ids of facts as a model's batches carry them, [W, N, F] int32, -1 behind the last of each.

    Args:
        ids: of all rows (window first, then channel) one behind the other.
        lengths: how many of them are of each row, [W · N].
    """
    found = torch.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=torch.int32)
    place = torch.arange(found.shape[1]) < torch.from_numpy(lengths.astype(np.int64))[:, None]
    found[place] = torch.from_numpy(np.array(ids, dtype=np.int32))
    return found.view(len(lengths) // channels, channels, found.shape[1])


def unpacked(facts: Tensor, fixed: Sequence[int]) -> list[list[int]]:
    """Whole prompts again: facts [M, F] behind `fixed`."""
    lengths = (facts >= 0).sum(dim=-1).tolist()
    return [[*fixed, *row[:length]] for row, length in zip(facts.tolist(), lengths, strict=True)]
