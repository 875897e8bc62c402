"""How a model of the Time-LLM family and its token budget are built, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from wavecore.model.wavelet_settings import SparseSettings, StreamsSettings, TokensSettings
from wavecore.prompt.settings import PromptSettings


@dataclass(frozen=True)
class BudgetSettings:
    """The token budget.

    Attributes:
        enabled: whether there is one.
        tolerance: how much more error on `decide` than with the best number of patches a smaller budget may cost, as a
            share: 0.01 is one percent.
        shares: of the patches that are tried, beside all of them.
        reduce: `merge`: a group is the mean of its patches; `drop`: the kept patch alone.
        spectrum: `fourier`; `wavelet`: local; `auto`: local in windows whose spectrum changes.
        change: where `auto` begins to speak of change: distance of the spectra of a window's halves, 0 to 1.
        counted: a token is attended to as often as it has patches, so that fewer tokens divide attention between
            prompt and patches as all of them would.
        give_back: what sets a patch apart from its group goes to the head.
        per_window: as many tokens as a window needs, not one number for all.
        prompt: let prompt tokens fall with depth.
        shared: patches and prompt tokens share one total, instead of first one and then the other: of all sizes within
            the tolerance the one that reads the fewest tokens.
        full: share of training steps with all tokens; above 0, for all of them are always tried too.
        windows: of `decide`, on which each choice is scored; 0: all.
    """

    enabled: bool = False
    tolerance: float = 0.01
    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    reduce: Literal["merge", "drop"] = "merge"
    spectrum: Literal["fourier", "wavelet", "auto"] = "auto"
    change: float = 0.3
    counted: bool = True
    give_back: bool = True
    per_window: bool = False
    prompt: bool = True
    shared: bool = False
    full: float = 0.2
    windows: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError("tolerance: must be above 0 and below 1; 0.01 allows one percent more error")
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ValueError("shares: each must be above 0 and below 1 (all tokens are always tried)")
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares: must rise")
        if self.shared and self.per_window:
            raise ValueError("shared: not together with per_window")
        if not 0 <= self.change <= 1:
            raise ValueError("change: must lie between 0 and 1")
        if self.windows < 0:
            raise ValueError("windows: must be 0 or more")
        if not 0 < self.full <= 1:
            raise ValueError("full: must be above 0 and at most 1; all tokens are always tried too")


class Size(NamedTuple):
    """How much of a window and its prompt is read.

    Attributes:
        tokens: patches.
        facts: layers that see the facts about the window; all of them in the first ones.
        depth: layers that see all of description and task; `facts` or more.
    """

    tokens: int
    facts: int
    depth: int


@dataclass(frozen=True)
class TimeLLMSettings:
    """How the model is built.

    Attributes:
        backbone: the language model: `minilm`, a folder (`/models/x`, `./x`), or a name on the hub (`gpt2`,
            `Qwen/Qwen2.5-3B`).
        llm: `pretrained`; `random`: the same architecture with random frozen weights; `attention`: one trainable
            attention layer in its place, without a prompt; `none`: tokens go straight to the head, and there is no
            prompt. The word embeddings are in all what prototypes are made of (random ones in `random`).
        llm_layers: how many of the language model's layers are used, from the first on.
        d_model: width of a patch embedding.
        d_ff: width E of a reprogramming head, and how many features of a hidden state the forecast is made from.
        heads: of reprogramming.
        prototypes: S.
        prototype_source: `mapping`: a trained linear map of all words, as in the reference, 94% of its weights.
            `words`: the [S, D] result itself is trained, which spans the same functions; it begins as S real words,
            standardized.
        prototype_rate: factor on the learning rate of prototypes from `words`.
        dropout: on patch embeddings, attention and forecast.
        dropout_on: in reprogramming, `weights`: single attention weights, as in the reference. `prototypes`: whole
            prototypes, other ones in every step but always the same number, which needs a random number per prototype,
            not per weight.
        token_norm: a LayerNorm after reprogramming that begins at the size of real word embeddings.
        query_std: deviation of the query weights at the start; 0: torch's own, with which all prototypes are attended
            to alike at first.
        skip: a linear path beside the language model. `linear`: one linear map of the normalized window, shared by all
            channels, is added to the forecast; it begins at zero, so that the language model need only say what no
            linear map can. `averaged`: the forecast is the mean with that of a linear regression, which is found in
            closed form after training (`wavecore.learn.least_squares`). `none`: as in the reference.
        attention_mask: padding between prompt and patches is neither attended to nor counted as a position. Without it
            (as in the reference) a forecast depends on which other windows share its batch.
        prompt_attention: `prefix`: description and task see only themselves, the facts about the window also those,
            and patches see everything. In a causal language model it cannot be otherwise; in an encoder it is a
            deviation that makes the prompt a constant. `full`: all see all, as far as the language model lets them.
        computation: `cached`: keys and values of the prompt are computed once (of description and task: once per model)
            without gradient. `plain`: the same in one pass over prompt and patches. Equal up to rounding; in bf16 the
            cached way also holds the frozen weights and the sums between layers in bf16.
        frozen_mode: `eval`: no dropout inside the frozen model; it costs time and is noise in weights that cannot learn
            from it. `train`: as in the reference, which leaves it on while training.
        attention_outputs: have the frozen model return all attention weights and hidden states, as the reference does
            without using them; fused attention is then impossible. Forecasts are the same.
        budget: see BudgetSettings.
        tokens, streams, sparse: see `wavecore.model.wavelet_settings`.
        prompt: see PromptSettings.
    """

    backbone: str = "minilm"
    llm: Literal["pretrained", "random", "attention", "none"] = "pretrained"
    llm_layers: int = 6
    d_model: int = 32
    d_ff: int = 128
    heads: int = 8
    prototypes: int = 1000
    prototype_source: Literal["mapping", "words"] = "words"
    prototype_rate: float = 1.0
    dropout: float = 0.1
    dropout_on: Literal["weights", "prototypes"] = "prototypes"
    token_norm: bool = True
    query_std: float = 0.3
    skip: Literal["none", "linear", "averaged"] = "none"
    attention_mask: bool = True
    prompt_attention: Literal["prefix", "full"] = "prefix"
    computation: Literal["cached", "plain"] = "cached"
    frozen_mode: Literal["eval", "train"] = "eval"
    attention_outputs: bool = False
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    tokens: TokensSettings = field(default_factory=TokensSettings)
    streams: StreamsSettings = field(default_factory=StreamsSettings)
    sparse: SparseSettings = field(default_factory=SparseSettings)
    prompt: PromptSettings = field(default_factory=PromptSettings)

    @property
    def frozen(self) -> bool:
        """Whether tokens are read by a frozen language model, behind a prompt."""
        return self.llm in ("pretrained", "random")

    def __post_init__(self) -> None:
        for name in ("llm_layers", "d_model", "d_ff", "heads", "prototypes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout: must be 0 or more and below 1")
        if self.query_std < 0:
            raise ValueError("query_std: must be 0 or more")
        if self.prototype_rate <= 0:
            raise ValueError("prototype_rate: must be above 0")
        if self.budget.enabled and (self.computation != "cached" or not self.frozen):
            raise ValueError("budget: needs a language model and `computation: cached`")
        wavelets = [name for name in ("tokens", "streams", "sparse") if getattr(self, name).enabled]
        if self.budget.enabled and wavelets:
            raise ValueError(f"budget: not together with {', '.join(wavelets)}, which choose the tokens too")
        if self.streams.enabled and self.tokens.enabled and self.tokens.fusion != "concatenate":
            raise ValueError(
                f"streams: not together with tokens.fusion {self.tokens.fusion}, where a token is of no one scale"
            )
        if self.streams.enabled and self.prototypes < 2:
            raise ValueError("streams: needs 2 prototypes or more, one for each stream")
        if self.sparse.enabled and self.computation != "cached" and self.frozen:
            raise ValueError("sparse: needs `computation: cached`, in which positions travel with the tokens")
        if self.computation == "cached" and self.frozen:
            # What is computed once cannot depend on what shares the batch, nor be noisy.
            for name, value in (("attention_mask", True), ("frozen_mode", "eval"), ("attention_outputs", False)):
                if getattr(self, name) != value:
                    raise ValueError(
                        f"computation: cached needs {name}: {str(value).lower()}; set `computation: plain`"
                    )
        if self.prompt_attention == "prefix" and not self.attention_mask and self.frozen:
            raise ValueError("prompt_attention: prefix needs attention_mask: true; padding has no block to belong to")
