"""The ladder: which stages there are, what each is, and which stands below which. Only this knows the order."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wavecore.errors import SettingsError


@dataclass(frozen=True)
class Stage:
    """One rung: a value, not a subclass.

    Attributes:
        name: as it stands in params.yaml, in paths and in the UI.
        family: which forecaster `wavecore.model.build` makes for it.
        trained: whether weights are learned; a baseline without any has no training curve.
        seeded: whether the seed changes the result; where it does not, `seed=0` stands for all.
        below: the stage that it is judged against first; None at the bottom.
        description: one line for the UI and the report.
        switches: the model settings that make the stage what it is; params.yaml may not set them otherwise.
        train_switches: the training settings of which the same is true.
        online_switches: the same of how it learns in a stream.
    """

    name: str
    family: str
    trained: bool
    seeded: bool
    below: str | None
    description: str
    switches: Mapping[str, Any] = field(default_factory=dict, hash=False)
    train_switches: Mapping[str, Any] = field(default_factory=dict, hash=False)
    online_switches: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def root(self) -> str:
        """The stage that a variant (`base.unmasked`) is a variant of; the stage itself where it is none."""
        return self.name.split(".")[0]

    @property
    def trained_as(self) -> str:
        """The stage whose weights it has: its root, where nothing but the stream tells the two apart."""
        return self.root if self.online_switches else self.name


# The corrections of `base`, each of which `reference` undoes: what the published model does, and what is done instead.
_BASE: dict[str, Any] = {
    "llm": "pretrained",
    "attention_mask": True,
    "frozen_mode": "eval",
    "attention_outputs": False,
    "prompt_attention": "prefix",
    "computation": "cached",
    "prototype_source": "words",
    "dropout_on": "prototypes",
    "token_norm": True,
    "query_std": 0.3,
    "skip": "none",
    "budget": {"enabled": False},
    "tokens": {"enabled": False},
    "streams": {"enabled": False},
    "sparse": {"enabled": False},
    "prompt": {"statistics": "time", "lags": "peaks", "digits": 3, "flat": True, "description": "dataset"},
}
# How tokens and queries begin in the reference.
_PUBLISHED_START: dict[str, Any] = {"token_norm": False, "query_std": 0.0}
# What the ladder taught.
_BEST: dict[str, Any] = {**_PUBLISHED_START, "skip": "averaged"}
# What the reference does in place of the corrections that make a step fast and leave the start plateau.
_SLOW: dict[str, Any] = {
    "prompt_attention": "full",
    "computation": "plain",
    "prototype_source": "mapping",
    "dropout_on": "weights",
    **_PUBLISHED_START,
}

# The loss of every stage but those that are about it.
_PLAIN_LOSS: dict[str, Any] = {"wavelet_loss": {"enabled": False}}
# What the wavelet innovations switch on, in the order in which they land on each other (W1, W2, W4, W3, W5).
_PROMPT: dict[str, Any] = {"prompt": {"statistics": "both"}}
_TOKENS: dict[str, Any] = {"tokens": {"enabled": True, "transform": "dwt", "levels": 0, "fusion": "concatenate"}}
_LOSS: dict[str, Any] = {"wavelet_loss": {"enabled": True, "curriculum": "improving"}}
_STREAMS: dict[str, Any] = {"streams": {"enabled": True, "gate": "learned", "subsets": True}}
_SPARSE: dict[str, Any] = {
    "sparse": {"enabled": True, "by": "energy", "keep": "share", "rest": "pool", "give_back": True}
}


# The states that Titan-Stream reads in place of patches. Of what a prompt tells, the fixed part: it is read once.
_LANGUAGE: dict[str, Any] = {"llm": "pretrained", "prompt": {"statistics": "none"}}
# What tells the variants of Titan-Stream apart.
_TITAN: dict[str, Any] = {
    "channels": "independent",
    "skip": "linear",
    "input": "patches",
    "memory": {"retrieval": "map", "life": "window", "high_order": True},
    "head": {"pooling": "attention"},
}


def _titan(name: str, below: str, description: str, online: Mapping[str, Any] | None = None, **switches: Any) -> Stage:
    """A variant of Titan-Stream: `titan`, but for `switches` of the model and `online` of how it learns in a stream."""
    nested = {key: {**value, **switches.get(key, {})} for key, value in _TITAN.items() if isinstance(value, Mapping)}
    return Stage(
        name, "titan", True, True, below, description, {**_TITAN, **switches, **nested},
        train_switches=_PLAIN_LOSS, online_switches=online or {},
    )  # fmt: skip


def _time_llm(
    name: str, below: str, description: str, train: Mapping[str, Any] | None = None, **switches: Any
) -> Stage:
    """A stage of the Time-LLM family: `base`, but for `switches` of the model and of its training."""
    nested = {key: {**value, **switches.get(key, {})} for key, value in _BASE.items() if isinstance(value, Mapping)}
    chosen = {**_BASE, **switches, **nested}
    own = {**_PLAIN_LOSS, **(train or {})}
    return Stage(name, "time_llm", True, True, below, description, switches=chosen, train_switches=own)


def _variant(of: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """The one switch of an innovation, some of its keys changed."""
    ((key, value),) = of.items()
    return {key: {**value, **changed}}


STAGES: tuple[Stage, ...] = (
    Stage(
        "seasonal_naive", "seasonal_naive", trained=False, seeded=False, below=None,
        description="The value one season ago, repeated: what any model must beat.",
    ),
    Stage(
        "last_value", "last_value", trained=False, seeded=False, below="seasonal_naive",
        description="The last value, repeated: hard to beat a step ahead, and on series without a season.",
    ),
    Stage(
        "dlinear", "dlinear", trained=True, seeded=True, below="seasonal_naive",
        description="Trend and remainder by a moving average, one linear map each (Zeng et al., AAAI 2023).",
        train_switches=_PLAIN_LOSS,
    ),
    Stage(
        "ridge", "ridge", trained=False, seeded=False, below="dlinear",
        description="Ridge regression of the horizon on the window, in closed form, one for all channels.",
    ),
    _time_llm(
        "reference", "dlinear",
        "Time-LLM as published (Jin et al., ICLR 2024), with its unmasked padding, circular lags and long numbers.",
        **_SLOW, attention_mask=False, frozen_mode="train", attention_outputs=True,
        prompt={"lags": "circular", "digits": 0, "flat": False, "description": "ett", "tokens": 0},
    ),
    _time_llm(
        "base", "reference",
        "The reference with deliberate corrections; all further stages stand on it.",
    ),
    _time_llm(
        "base.plain", "base",
        "`base` without what makes it fast and start well: prompts see patches, prototypes are mapped from all words.",
        **_SLOW,
    ),
    _time_llm(
        "base.full_attention", "base", "`base` with prompts that see the patches, as in the reference.",
        prompt_attention="full", computation="plain",
    ),
    _time_llm(
        "base.mapping", "base", "`base` with prototypes mapped from all words, as in the reference.",
        prototype_source="mapping",
    ),
    _time_llm(
        "base.weights_dropout", "base", "`base` with single attention weights dropped, as in the reference.",
        dropout_on="weights",
    ),
    _time_llm(
        "base.published_start", "base", "`base` with tokens and queries that begin as in the reference.",
        **_PUBLISHED_START,
    ),
    _time_llm(
        "base.skip", "base", "`base` with a linear map of the window added to its forecast.",
        skip="linear",
    ),
    _time_llm(
        "base.averaged", "ridge", "`base` averaged with a linear regression.",
        skip="averaged",
    ),
    _time_llm(
        "base.static_prompt", "base", "`base` with description and task alone in the prompt.",
        prompt={"statistics": "none"},
    ),
    _time_llm(
        "base.unmasked", "base", "`base` with padding attended to and prompts that see patches, as in the reference.",
        attention_mask=False, prompt_attention="full", computation="plain",
    ),
    _time_llm(
        "base.circular_lags", "base", "`base` with lag 0 and mirrored lags in the prompt, as in the reference.",
        prompt={"lags": "circular"},
    ),
    _time_llm(
        "base.long_numbers", "base", "`base` with all digits of a float32 in the prompt, as in the reference.",
        prompt={"digits": 0},
    ),
    _time_llm(
        "base.never_flat", "base", "`base` with a window that ends where it began told as downward, as the reference.",
        prompt={"flat": False},
    ),
    _time_llm(
        "base.frozen_dropout", "base",
        "`base` with dropout in the frozen model while training, as in the reference.",
        frozen_mode="train", computation="plain",
    ),
    _time_llm(
        "base.attention_outputs", "base", "`base` with unused attention weights returned, as in the reference.",
        attention_outputs=True, computation="plain",
    ),
    _time_llm(
        "base.ett_description", "base", "`base` with every dataset described as ETT, as in the reference.",
        prompt={"description": "ett"},
    ),
    _time_llm(
        "no_llm", "base", "`base` without frozen layers and prompt: reprogrammed tokens go straight to the head.",
        llm="none",
    ),
    _time_llm(
        "random_llm", "base", "`base` with random frozen weights in place of the learned ones.",
        llm="random",
    ),
    _time_llm(
        "budget", "base",
        "`base` with fewer series tokens by their spectrum and prompt tokens that fall with depth (B1, B2).",
        budget={"enabled": True, "reduce": "merge", "spectrum": "auto", "counted": True, "give_back": True,
                "per_window": False, "prompt": True, "shared": False},
    ),
    _time_llm(
        "budget.drop", "budget", "`budget` with the kept patch alone in place of its group's mean.",
        budget={"enabled": True, "reduce": "drop"},
    ),
    _time_llm(
        "budget.uncounted", "budget", "`budget` with every token that is read attended to as one token.",
        budget={"enabled": True, "counted": False},
    ),
    _time_llm(
        "budget.no_return", "budget", "`budget` without what sets a patch apart from its group going to the head.",
        budget={"enabled": True, "give_back": False},
    ),
    _time_llm(
        "budget.fourier", "budget", "`budget` with the spectrum of the whole window, also where it changes.",
        budget={"enabled": True, "spectrum": "fourier"},
    ),
    _time_llm(
        "budget.wavelet", "budget", "`budget` with the local spectrum in every window.",
        budget={"enabled": True, "spectrum": "wavelet"},
    ),
    _time_llm(
        "budget.per_window", "budget", "`budget` with as many tokens as each window needs.",
        budget={"enabled": True, "per_window": True},
    ),
    _time_llm(
        "budget.shared", "budget",
        "`budget` with one total for series and prompt tokens: of all sizes the one that reads least.",
        budget={"enabled": True, "shared": True},
    ),
    _time_llm(
        "budget.series_only", "budget", "`budget` with all prompt tokens in every layer.",
        budget={"enabled": True, "prompt": False},
    ),
    _time_llm(
        "prompt", "base", "`base` with wavelet statistics beside the time-domain ones in the prompt (W1).",
        prompt={"statistics": "both"},
    ),
    _time_llm(
        "tokens", "prompt", "`prompt` with wavelet coefficients as tokens before the patches (W2).",
        **_PROMPT, **_TOKENS,
    ),
    _time_llm(
        "loss", "tokens", "`tokens` with an error per wavelet scale in the loss, slow scales first (W4).",
        _LOSS, **_PROMPT, **_TOKENS,
    ),
    _time_llm(
        "streams", "loss", "`loss` with what is slow and what is fast reprogrammed apart (W3).",
        _LOSS, **_PROMPT, **_TOKENS, **_STREAMS,
    ),
    _time_llm(
        "sparse", "streams", "`streams` with fewer tokens, the energetic ones (W5).",
        _LOSS, **_PROMPT, **_TOKENS, **_STREAMS, **_SPARSE,
    ),
    _time_llm("only_tokens", "base", "`base` with wavelet coefficients as tokens before the patches (W2).", **_TOKENS),
    _time_llm("only_loss", "base", "`base` with the error per wavelet scale in its loss, slow first (W4).", _LOSS),
    _time_llm("only_streams", "base", "`base` with what is slow and what is fast reprogrammed apart (W3).", **_STREAMS),
    _time_llm("only_sparse", "base", "`base` with fewer tokens, the energetic ones (W5).", **_SPARSE),
    _time_llm(
        "llm_to_attention", "base", "`base` with one trainable attention layer in place of the language model.",
        llm="attention",
    ),
    _time_llm(
        "best", "ridge", "What the ladder taught: `base` with the published start, averaged with a linear regression.",
        **_BEST,
    ),
    _time_llm(
        "best.no_llm", "ridge", "`best` without a language model: what of its gain needs one.", **_BEST, llm="none",
    ),
    _time_llm(
        "best.random_llm", "ridge", "`best` with random frozen weights in place of the learned ones.",
        **_BEST, llm="random",
    ),
    _time_llm(
        "only_tokens.packet", "only_tokens", "`only_tokens` with wavelet packets, bands of equal width.",
        **_variant(_TOKENS, transform="packet"),
    ),
    _time_llm(
        "only_tokens.levels3", "only_tokens", "`only_tokens` with three levels.", **_variant(_TOKENS, levels=3),
    ),
    _time_llm(
        "only_tokens.levels5", "only_tokens", "`only_tokens` with five levels.", **_variant(_TOKENS, levels=5),
    ),
    _time_llm(
        "only_tokens.instead", "only_tokens", "`only_tokens` with wavelet tokens in place of the patches.",
        **_variant(_TOKENS, fusion="instead"),
    ),
    _time_llm(
        "only_tokens.mean", "only_tokens", "`only_tokens` with each patch a weighted mean of itself and its scales.",
        **_variant(_TOKENS, fusion="mean"),
    ),
    _time_llm(
        "only_tokens.attention", "only_tokens", "`only_tokens` with patches that attend to wavelet tokens.",
        **_variant(_TOKENS, fusion="attention"),
    ),
    _time_llm(
        "only_loss.constant", "only_loss", "`only_loss` with the last weights from the first step on.",
        _variant(_LOSS, curriculum="none"),
    ),
    _time_llm(
        "only_streams.energy_gate", "only_streams", "`only_streams` with a gate that is the share of slow energy.",
        **_variant(_STREAMS, gate="energy"),
    ),
    _time_llm(
        "only_streams.shared", "only_streams", "`only_streams` with all prototypes in both streams.",
        **_variant(_STREAMS, subsets=False),
    ),
    _time_llm(
        "only_sparse.entropy", "only_sparse", "`only_sparse` with the tokens of the highest entropy over scales.",
        **_variant(_SPARSE, by="entropy"),
    ),
    _time_llm(
        "only_sparse.variance", "only_sparse", "`only_sparse` with the tokens of the highest variance.",
        **_variant(_SPARSE, by="variance"),
    ),
    _time_llm(
        "only_sparse.drop", "only_sparse", "`only_sparse` with tokens that are not kept left out.",
        **_variant(_SPARSE, rest="drop", give_back=False),
    ),
    _time_llm(
        "only_sparse.count", "only_sparse", "`only_sparse` with a fixed number of tokens.",
        **_variant(_SPARSE, keep="count"),
    ),
    _time_llm(
        "only_sparse.threshold", "only_sparse", "`only_sparse` with all tokens above a threshold.",
        **_variant(_SPARSE, keep="threshold"),
    ),
    _time_llm(
        "prompt.replace", "prompt", "`prompt` with wavelet statistics in place of the time-domain ones.",
        prompt={"statistics": "wavelet"},
    ),
    _titan("titan", "dlinear", "Titan-Stream: attention over patches and a memory that learns while it is read."),
    _titan(
        "titan.linear_attention", "titan", "`titan` with a memory that sums outer products, read as linear attention.",
        memory={"retrieval": "linear_attention"},
    ),
    _titan(
        "titan.first_order", "titan", "`titan` without gradients through the memory's updates.",
        memory={"high_order": False},
    ),
    _titan(
        "titan.static_memory", "titan", "`titan` whose memory is as learned offline: nothing is written to it.",
        memory={"eta": 0.0},
    ),
    _titan(
        "titan.carried", "titan", "`titan` whose memory goes on from window to window in a stream.",
        memory={"life": "stream"},
    ),
    _titan("titan.no_momentum", "titan", "`titan` whose memory follows each chunk's surprise.", memory={"beta": 0.0}),
    _titan("titan.clip_1000", "titan", "`titan` with a momentum of up to 1000.", memory={"clip": 1000.0}),
    _titan("titan.no_persistent", "titan", "`titan` without learned pairs of key and value.", persistent=0),
    _titan(
        "titan.no_orthogonality", "titan", "`titan` whose keys may point the same way.", loss={"orthogonality": 0.0},
    ),
    _titan("titan.mean", "titan", "`titan` with the mean of its tokens and one linear map.", head={"pooling": "mean"}),
    _titan("titan.last_k", "titan", "`titan` with the mean of its last tokens.", head={"pooling": "last_k"}),
    _titan("titan.flatten", "titan", "`titan` with all tokens side by side.", head={"pooling": "flatten"}),
    _titan(
        "titan.narrow_head", "titan", "`titan` whose head has a hidden layer of 32 units.",
        head={"forecast_hidden_dim": 32},
    ),
    _titan("titan.no_skip", "titan", "`titan` without a linear map of the window.", skip="none"),
    _titan("titan.joint", "titan", "`titan` with all channels in one token.", channels="joint"),
    # The same weights as `titan`: only the stream differs.
    _titan("titan.every_2", "titan", "`titan` that learns online from two labels at once.", online={"every": 2}),
    _titan("titan.every_4", "titan", "`titan` that learns online from four labels at once.", online={"every": 4}),
    _titan(
        "titan.one_speed", "titan", "`titan` whose backbone learns online as fast as its head.",
        online={"backbone_scale": 1.0},
    ),
    _titan(
        "titan.tuned_persistent", "titan", "`titan` whose persistent tokens learn online, at a hundredth of the rate.",
        online={"persistent_lr_scale": 0.01},
    ),
    _titan(
        "titan.late", "titan", "`titan` whose labels come a drawn time after their horizon, 24 steps on average.",
        online={"delay": {"kind": "geometric", "steps": 24}},
    ),
    _titan(
        "titan.language", "titan", "`titan` that reads the states of a frozen language model in place of raw patches.",
        input="language", language=_LANGUAGE,
    ),
    _titan(
        "titan.random_language", "titan.language", "`titan.language` with random frozen weights for the learned ones.",
        input="language", language={**_LANGUAGE, "llm": "random"},
    ),
    _titan(
        "titan.no_language", "titan.language", "`titan.language` without frozen layers: reads reprogrammed patches.",
        input="language", language={**_LANGUAGE, "llm": "none"},
    ),
)  # fmt: skip

_BY_NAME = {stage.name: stage for stage in STAGES}


def families() -> tuple[str, ...]:
    """The families of forecasters, in the order of their first stage."""
    return tuple(dict.fromkeys(stage.family for stage in STAGES))


def family_switches(family: str, kind: str = "switches") -> dict[str, Any]:
    """The switches that tell the stages of a family apart, so that none can be set for all: those that every stage has,
    and of a part that can be on or off all that any stage with it has. Nested mappings key by key.

    Args:
        kind: `switches` of the model or `train_switches`.
    """
    own: list[Mapping[str, Any]] = [getattr(stage, kind) for stage in STAGES if stage.family == family]

    def told_apart(switches: list[Mapping[str, Any]]) -> dict[str, Any]:
        first, *rest = switches
        found: dict[str, Any] = {}
        for key, value in first.items():
            if not all(key in other for other in rest):
                continue
            if isinstance(value, Mapping) and "enabled" in value:
                found[key] = {k: v for other in switches for k, v in other[key].items()}
            else:
                nested = isinstance(value, Mapping)
                found[key] = told_apart([value, *(other[key] for other in rest)]) if nested else value
        return found

    return told_apart(own)


def find(name: str) -> Stage | None:
    """The stage called `name`; None where there is none."""
    return _BY_NAME.get(name)


def names() -> tuple[str, ...]:
    """All stage names, lowest rung first."""
    return tuple(stage.name for stage in STAGES)


def get(name: str) -> Stage:
    """The stage called `name`.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"stages: {', '.join(_BY_NAME)}"
    raise SettingsError(f"there is no stage {name!r}", hint)


def order(name: str) -> int:
    """Position on the ladder, for sorting tables."""
    return names().index(get(name).name)
