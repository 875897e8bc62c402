"""Which stages share the prompts of the asset `prompts`, and its token ids as their windows carry them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from assets.project import Project
from wavecore.errors import StorageError
from wavecore.stages import Stage
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from assets.training import Ground
    from wavecore.model.settings import TimeLLMSettings
    from wavecore.prompt.tokens import Prompter
    from wavecore.series.windows import WindowData

# The stage whose prompts are in the table. Stages that tell something else make theirs when a window is read.
SHARED = "base"
ABOUT = "prompts.json"


def has_prompt(stage: Stage) -> bool:
    """Whether the stage has a language model that is told anything."""
    return stage.family == get_stage(SHARED).family and stage.switches["llm"] != "none"


def shares(stage: Stage) -> bool:
    """Whether the stage is told what SHARED is told, unless params.yaml sets the two otherwise."""
    return has_prompt(stage) and stage.switches["prompt"] == get_stage(SHARED).switches["prompt"]


def settings_of(ground: Ground, stage: Stage) -> TimeLLMSettings:
    """The model settings of a stage that `has_prompt`."""
    from wavecore.model.build import model_settings
    from wavecore.model.settings import TimeLLMSettings

    settings = model_settings(stage, ground.settings, ground.benchmark.name)
    assert isinstance(settings, TimeLLMSettings)
    return settings


def prompter_of(ground: Ground, stage: Stage) -> tuple[Prompter, str]:
    """What makes the prompts of a stage that `has_prompt`, and the hash of all they follow from beside the series."""
    from wavecore.model import backbone as language
    from wavecore.model.build import prompter
    from wavecore.prompt.stored import setup_of

    settings = settings_of(ground, stage)
    source = language.find(settings.backbone)
    made = prompter(ground.geometry, settings)
    assert made is not None
    return made, setup_of(made, language.identity(source))


def told_windows(project: Project, ground: Ground, stage: Stage) -> tuple[WindowData, str | None]:
    """The benchmark's windows, with the token ids of their prompts where the table holds what this stage is told.

    Returns:
        the windows, and where the ids come from, for people to read; None for a stage without prompts.

    Raises:
        StorageError: the table is not there, or is of other data.
    """
    from assets.storage import read_json
    from assets.tables import PROMPTS, read_parquet
    from wavecore.prompt.stored import packed

    if not has_prompt(stage):
        return ground.windows, None
    if not shares(stage):
        return ground.windows, f"made when a window is read: {stage.name} tells otherwise than {SHARED}"
    benchmark = ground.benchmark.name
    folder, fix = project.prompts(benchmark), f"wavecore materialize prompts {benchmark}"
    if not (folder / ABOUT).is_file():
        raise StorageError(f"{folder / ABOUT}: not there", fix)
    about = read_json(folder / ABOUT)
    if about["data"] != ground.data_hash:
        raise StorageError(f"{folder}: made of another series or of other splits", fix)
    if about["setup"] != prompter_of(ground, stage)[1]:
        return ground.windows, f"made when a window is read: params.yaml has {stage.name} tell otherwise than {SHARED}"
    if not about["stored"]:
        return ground.windows, "made when a window is read: all of them are above features.prompt_budget_mb"
    ids = read_parquet(folder / PROMPTS)["ids"]
    facts = packed(ids.explode().drop_nulls().to_numpy(), ids.list.len().to_numpy(), len(ground.arrays.channels))
    return dataclasses.replace(ground.windows, facts=facts), f"of the asset prompts, {len(ids)} rows"
