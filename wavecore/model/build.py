"""From a stage of the ladder to a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from wavecore import stages
from wavecore.config import FeatureSettings, PipelineSettings, Settings, StageOverride
from wavecore.errors import SettingsError
from wavecore.model import backbone as language
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.model.frozen import Backbone
from wavecore.model.regression import Ridge
from wavecore.model.scales import Scales
from wavecore.model.seasonal import SeasonalNaive
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.time_llm import TimeLLM
from wavecore.prompt.text import Subject
from wavecore.prompt.tokens import Prompter, tokenizer_of
from wavecore.seeds import derive, isolated
from wavecore.stages import Stage
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.language import LanguageStates
from wavecore.stream.settings import StreamSettings
from wavecore.strict import build as read


@dataclass(frozen=True)
class Geometry:
    """The shape of a benchmark.

    Attributes:
        window: T steps seen.
        horizon: H steps to forecast.
        channels: names of the N channels.
        season: length of the main cycle in steps.
        step: the time step, such as `1h`.
        patch: length and stride of a patch in steps.
        description: what the data is, for prompts.
        features: how wavelet statistics of a window are computed, and how many lags there are.
        energy: of the bands in the train windows, see `wavecore.model.scales`; for the wavelet stages.
    """

    window: int
    horizon: int
    channels: tuple[str, ...]
    season: int
    step: str = "1h"
    patch: tuple[int, int] = (16, 8)
    description: str = ""
    features: FeatureSettings = field(default_factory=FeatureSettings)
    energy: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class NoSettings:
    """For families that have nothing to set: any key under `model:` is an error."""


Chosen = DLinearSettings | TimeLLMSettings | StreamSettings | NoSettings


def model_settings(stage: Stage, settings: Settings, benchmark: str) -> Chosen:
    """The settings of the stage's family, as the frozen dataclass it is built from.

    Raises:
        SettingsError: an unknown or ill-typed key under `model:`.
    """
    if stage.family == "dlinear":
        return settings.model_of(benchmark, stage.name, DLinearSettings)
    if stage.family == "time_llm":
        return settings.model_of(benchmark, stage.name, TimeLLMSettings)
    if stage.family == "titan":
        return settings.model_of(benchmark, stage.name, StreamSettings)
    if stage.family in ("ridge", "seasonal_naive", "last_value"):
        return settings.model_of(benchmark, stage.name, NoSettings)
    raise SettingsError(
        f"stage {stage.name!r} is of the unknown family {stage.family!r}",
        "families: dlinear, last_value, ridge, seasonal_naive, time_llm, titan",
    )


def language_side(chosen: Chosen) -> TimeLLMSettings | None:
    """How the Time-LLM model is built that a forecaster is or reads with; None for the others."""
    if isinstance(chosen, StreamSettings):
        return chosen.language if chosen.input == "language" else None
    return chosen if isinstance(chosen, TimeLLMSettings) else None


def build(stage: Stage, geometry: Geometry, settings: Settings, benchmark: str, seed: int) -> nn.Module:
    """The forecaster of a stage, its weights a function of `seed` alone.

    Returns:
        a module with `forward(batch: Batch) -> [B, H, N]` and `parameter_groups()`, on the CPU in float32.

    Raises:
        SettingsError: settings that do not fit the family or the geometry.
    """
    chosen = model_settings(stage, settings, benchmark)
    with isolated(torch.device("cpu"), derive(seed, "weights")):
        if isinstance(chosen, DLinearSettings):
            return DLinear(geometry.window, geometry.horizon, len(geometry.channels), chosen)
        if isinstance(chosen, TimeLLMSettings):
            return _time_llm(geometry, chosen, seed)
        if isinstance(chosen, StreamSettings):
            side = LanguageStates(_time_llm(geometry, chosen.language, seed)) if chosen.input == "language" else None
            return TitanStream(geometry.window, geometry.horizon, len(geometry.channels), chosen, side)
        if stage.family == "ridge":
            return Ridge(geometry.window, geometry.horizon)
        season = 1 if stage.family == "last_value" else geometry.season
        return SeasonalNaive(geometry.window, geometry.horizon, season)


def _time_llm(geometry: Geometry, settings: TimeLLMSettings, seed: int) -> TimeLLM:
    # The frozen weights first, in a stream of their own: the trainable ones then start equal in every arm of a seed.
    source = language.find(settings.backbone)
    frozen: Backbone | None = None
    with isolated(torch.device("cpu"), derive(seed, "frozen")):
        if not settings.frozen:
            words = language.word_embeddings(source)
        else:
            make = language.pretrained if settings.llm == "pretrained" else language.random
            cached = settings.computation == "cached"
            if cached and settings.prompt_attention == "full" and source.config.model_type in language.ENCODERS:
                raise SettingsError(
                    f"computation: cached, but in {settings.backbone} with prompt_attention: full a prompt sees the "
                    "patches, so nothing of it is constant",
                    "set `prompt_attention: prefix` or `computation: plain`",
                )
            transformer = make(source, settings.llm_layers)
            frozen = Backbone(transformer, settings.frozen_mode, settings.attention_outputs, cached)
            # Trainable weights begin with a look at every word; later only those of prompts are needed. Read apart and
            # let go, the pages of a mapped file do not stay in memory.
            words = language.word_embeddings(source) if _mapped(source, settings) else frozen.words
    told, scales = prompter(geometry, settings), Scales(geometry.features, geometry.energy)
    model = TimeLLM(geometry.window, geometry.horizon, geometry.patch, settings, words, frozen, told, scales)
    model.identity = language.identity(source)
    return model


def _mapped(source: language.Source, settings: TimeLLMSettings) -> bool:
    """Whether the learned words are mapped from a file; those of another type than float32 are copies in memory, and a
    mapping of all words to prototypes reads them in every step."""
    stored = getattr(source.config, "dtype", None) in (None, torch.float32)
    return stored and settings.llm == "pretrained" and settings.prototype_source == "words"


def prompter(geometry: Geometry, settings: TimeLLMSettings) -> Prompter | None:
    """What makes the prompts of a stage; None where there is no language model to read them.

    Raises:
        SettingsError: the language model is not there, has no tokenizer, or the prompt does not fit its budget.
    """
    if not settings.frozen:
        return None
    tokenizer = tokenizer_of(language.find(settings.backbone, fetch=False).folder)
    subject = Subject(geometry.description, geometry.step, geometry.window, geometry.horizon, geometry.features)
    return Prompter(tokenizer, subject, settings.prompt)


def from_config(config: Mapping[str, Any]) -> nn.Module:
    """Build the module that a saved model's config.json describes, its weights still to be filled in.

    The config is the truth about a model: today's settings play no part.
    """
    stage = stages.get(config["stage"])
    pipeline = read(PipelineSettings, {"benchmarks": [config["benchmark"]], "stages": [stage.name]}, "config.json")
    settings = Settings(pipeline=pipeline, stages={stage.name: StageOverride(model=config["model"])})
    geometry = Geometry(config["window"], config["horizon"], tuple(config["channels"]), config["season"])
    if "description" in config:
        length, stride = config["patch"]
        geometry = replace(
            geometry,
            step=config["step"],
            patch=(length, stride),
            description=config["description"],
            features=read(FeatureSettings, config["features"], "config.json: features"),
            energy={key: tuple(shares) for key, shares in config.get("energy", {}).items()},
        )
    return build(stage, geometry, settings, config["benchmark"], config["seed"])
