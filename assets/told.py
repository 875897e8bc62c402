"""Which stages share the prompts of the asset `prompts`, and its token ids as their windows carry them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.project import Project
from wavecore.errors import StorageError
from wavecore.stages import Stage
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from torch import nn

    from assets.training import Ground
    from wavecore.model.time_llm import TimeLLM
    from wavecore.series.windows import WindowData

# The stage whose prompts are in the table. Stages that tell something else make theirs when a window is read.
SHARED = "base"
ABOUT = "prompts.json"
COMPARED = 8  # windows, spread over the series


def shares(stage: Stage) -> bool:
    """Whether the stage has a language model that is told the same as SHARED, unless params.yaml sets them apart."""
    shared = get_stage(SHARED)
    reads = stage.family == shared.family and stage.switches["llm"] in ("pretrained", "random")
    return reads and stage.switches["prompt"] == shared.switches["prompt"]


def told_windows(project: Project, ground: Ground, stage: Stage, module: nn.Module) -> tuple[WindowData, str | None]:
    """The benchmark's windows, with the token ids of their prompts where the table holds what this model is told.

    Args:
        module: of the stage. Its own prompter decides, not params.yaml: a model may be older than a change there.

    Returns:
        the windows, and where the ids come from, for people to read; None for a model without prompts.

    Raises:
        StorageError: the table is not there, is of other data, or of another code or tokenizer.
    """
    from assets.storage import read_json
    from assets.tables import PROMPTS, read_parquet
    from wavecore.model.time_llm import TimeLLM
    from wavecore.prompt.stored import packed, setup_of

    if not isinstance(module, TimeLLM) or module.prompter is None:
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
    if module.identity is None or about["setup"] != setup_of(module.prompter, module.identity):
        return ground.windows, "made when a window is read: this model is told otherwise than the asset prompts has it"
    if not about["stored"]:
        return ground.windows, "made when a window is read: all of them are above features.prompt_budget_mb"
    ids = read_parquet(folder / PROMPTS, ["ids"])["ids"]
    facts = packed(ids.explode().drop_nulls().to_numpy(), ids.list.len().to_numpy(), len(ground.arrays.channels))
    windows = dataclasses.replace(ground.windows, facts=facts)
    _compare(module, windows, folder, fix)
    return windows, f"of the asset prompts, {len(ids)} rows"


def _compare(module: TimeLLM, windows: WindowData, folder: Path, fix: str) -> None:
    """Make some prompts anew: a table may be older than the code or the tokenizer that the model stands for.

    Raises:
        StorageError: they are not those of the table.
    """
    from wavecore.prompt.stored import unpacked

    first, last = windows.window, len(windows) - windows.horizon
    batch = windows.batch(np.unique(np.linspace(first, last, COMPARED).astype(np.int64)))
    assert batch.facts is not None
    assert module.prompter is not None
    known = unpacked(batch.facts.flatten(end_dim=1), module.prompter.fixed_ids)
    if known != [prompt.ids for prompt in module.prompts(batch.x)]:
        raise StorageError(f"{folder}: token ids that this code and this tokenizer do not make", fix)
