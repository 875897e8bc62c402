"""How Titan-Stream is built, and how any forecaster learns in a session."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from wavecore.model.settings import TimeLLMSettings
from wavecore.strict import need

# As it was trained; gradient steps on labels; the same with labels of the past; beside a Fourier regression.
LEARNERS = ("frozen", "online", "replay", "elf")


@dataclass(frozen=True)
class MemorySettings:
    """The memory.

    Attributes:
        retrieval: `map`: the memory is a linear map, moved against the gradient of its associative loss;
            `linear_attention`: outer products of keys and values, read with a normalizer.
        beta: share of the old momentum, in [0, 1).
        eta: step along the momentum, in [0, 1]; with 0 the memory stays as it began.
        clip: bound on the momentum's norm.
        gate_start: share of the memory that is forgotten with each chunk at the start of training, in (0, 1).
        chunk: tokens that are written at once.
        life: `window`: begins anew with each window; `stream`: goes on from window to window.
        high_order: whether gradients flow through updates, so that gate and start of the memory learn from what is
            read later.
        chunks: over how many updates they flow at most; then the state is detached.
        checkpointing: compute updates anew in the backward pass instead of keeping them.
    """

    retrieval: Literal["map", "linear_attention"] = "map"
    beta: float = 0.9
    eta: float = 0.5
    clip: float = 10.0
    gate_start: float = 0.05
    chunk: int = 3
    life: Literal["window", "stream"] = "window"
    high_order: bool = True
    chunks: int = 8
    checkpointing: bool = False

    def __post_init__(self) -> None:
        need(0 <= self.beta < 1, f"beta: {self.beta} does not lie in [0, 1)")
        need(0 <= self.eta <= 1, f"eta: {self.eta} does not lie in [0, 1]")
        need(self.clip > 0, "clip: must be above 0")
        need(0 < self.gate_start < 1, "gate_start: must lie between 0 and 1")
        need(self.chunk >= 1 and self.chunks >= 1, "chunk and chunks: must be 1 or more")


@dataclass(frozen=True)
class HeadSettings:
    """From tokens to the forecast.

    Attributes:
        pooling: `attention` (a learned query), `mean` (then one linear map: the order of the tokens is lost), `last_k`
            (the mean of the last ones), `flatten` (all tokens side by side).
        last_k: of `last_k`.
        forecast_hidden_dim: width of the head's hidden layer; 0: twice that of a token.
        dropout: in the head.
        limit: the most weights that the head may have, in millions; `flatten` grows with the window.
    """

    pooling: Literal["attention", "mean", "last_k", "flatten"] = "attention"
    last_k: int = 4
    forecast_hidden_dim: int = 0
    dropout: float = 0.1
    limit: float = 20.0

    def __post_init__(self) -> None:
        need(self.last_k >= 1, "last_k: must be 1 or more")
        need(self.forecast_hidden_dim >= 0, "forecast_hidden_dim: must be 0 or more")
        need(0 <= self.dropout < 1, "dropout: must lie in [0, 1)")
        need(self.limit > 0, "limit: must be above 0")


@dataclass(frozen=True)
class LossSettings:
    """The three losses and their weights.

    Attributes:
        forecast: of the error.
        associative: of what the memory does not yet know of a chunk before it is written.
        orthogonality: of keys of one chunk that point the same way.
    """

    forecast: float = 1.0
    associative: float = 0.01
    orthogonality: float = 0.01

    def __post_init__(self) -> None:
        need(self.forecast > 0, "forecast: must be above 0")
        need(self.associative >= 0 and self.orthogonality >= 0, "associative, orthogonality: must be 0 or more")


@dataclass(frozen=True)
class DelaySettings:
    """When a label is known: at the earliest when its horizon has passed.

    Attributes:
        kind: `fixed`: `steps` later than that; `geometric`: a number of steps of that mean, drawn for each label.
        steps: see `kind`.
        seed: of the draws.
    """

    kind: Literal["fixed", "geometric"] = "fixed"
    steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        need(self.steps >= 0, "steps: must be 0 or more")


@dataclass(frozen=True)
class OnlineSettings:
    """Learning in a session.

    Attributes:
        learners: which of LEARNERS are run for a stage.
        learning_rate: of heads, pooling, gate and memory.
        search: rates with each of which a learner that takes gradient steps is streamed through `decide` first; it
            takes the one with the lowest error. Empty: `learning_rate`, untried.
        every: labels that are gathered for one step of learning.
        backbone_scale: factor on it for input, q/k/v and core.
        persistent_lr_scale: the same for the persistent tokens; 0: they stay.
        clip_norm: bound on the gradient's norm.
        delay: see DelaySettings.
        missing: what a row without a value, or a step without a row, is: an `error`, or a row to `skip` (the last known
            value stands in, it is no label, and it is counted).
    """

    learners: tuple[str, ...] = LEARNERS
    learning_rate: float = 1e-4
    search: tuple[float, ...] = ()
    every: int = 1
    backbone_scale: float = 0.1
    persistent_lr_scale: float = 0.0
    clip_norm: float = 1.0
    delay: DelaySettings = field(default_factory=DelaySettings)
    missing: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        for name in self.learners:
            need(name in LEARNERS, f"learners: {name!r} is not one of {', '.join(LEARNERS)}")
        need(len(set(self.learners)) == len(self.learners) > 0, "learners: at least one, none twice")
        need(self.learning_rate > 0, "learning_rate: must be above 0")
        need(all(0 < rate < math.inf for rate in self.search), "search: each rate must be above 0 and finite")
        need(len(set(self.search)) == len(self.search), "search: no rate twice")
        need(self.every >= 1, "every: must be 1 or more")
        need(self.backbone_scale >= 0, "backbone_scale: must be 0 or more")
        need(self.persistent_lr_scale >= 0, "persistent_lr_scale: must be 0 or more")
        need(self.clip_norm > 0, "clip_norm: must be above 0")


@dataclass(frozen=True)
class StreamSettings:
    """How Titan-Stream is built; the same object offline and online.

    Attributes:
        d_model: D, width of a token.
        heads: of the core attention and of the pooling.
        patch: rows of a token, side by side without overlap; the oldest rows of a window that fill none are left out.
        channels: `independent`: each channel is a series of its own, with shared weights and a memory of its own;
            `joint`: a token holds all channels.
        persistent: number of learned pairs of key and value that every window attends to.
        skip: `linear`: a linear map of the window is added to the forecast; `none`.
        input: what a token begins as. `patches`: raw values; `language`: the state that a frozen language model has for
            each of the benchmark's patches, re-expressed as in the Time-LLM model.
        language: of `input: language`, how that side is built: keys as of a Time-LLM model, but no token budget, no
            wavelet stage, and no path beside the language model.
        memory, head, loss: see there.
    """

    d_model: int = 64
    heads: int = 4
    patch: int = 8
    channels: Literal["independent", "joint"] = "independent"
    persistent: int = 8
    skip: Literal["none", "linear"] = "linear"
    input: Literal["patches", "language"] = "patches"
    language: TimeLLMSettings = field(default_factory=TimeLLMSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    loss: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        need(self.d_model >= 1 and self.heads >= 1, "d_model and heads: must be 1 or more")
        need(self.d_model % self.heads == 0, f"d_model: {self.d_model} is no multiple of heads = {self.heads}")
        need(self.patch >= 1, "patch: must be 1 or more")
        need(self.persistent >= 0, "persistent: must be 0 or more")
        if self.input == "language":
            need(
                self.channels == "independent",
                "input: language needs channels: independent; a prompt is of one channel",
            )
            further = [
                part for part in ("budget", "tokens", "streams", "sparse") if getattr(self.language, part).enabled
            ]
            need(not further, f"language: not together with {', '.join(further)}, which choose other tokens")
            need(
                self.language.prototype_rate == 1.0, "language.prototype_rate: must be 1; all of that side learns alike"
            )
            need(self.language.skip == "none", "language.skip: must be none; the path beside it is `skip`")
            need(self.language.llm != "attention", "language.llm: not attention, of which nothing is frozen")
