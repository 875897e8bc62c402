"""What is checked before a stream is run, and after: whether it could mean anything, and what speaks against it.

Before: the model is that of the present settings, data and code and every weight of it loads; every weight that learns
is in one group; a memory carries no graph along. Without these a stream is worth nothing, so they are errors. Settings
that are bad for learning online, and a training that ended too soon or in leaps, are a choice or a hint: warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.project import seed_folder, seeds_in
from assets.standing import made_now
from assets.storage import read_json
from assets.streaming import learners_in, settings_of, value
from wavecore.errors import StorageError, TrainingError
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from assets.producing import Work
    from assets.training import Ground
    from wavecore.stream.settings import OnlineSettings

# Growth of a step's time over the whole stream that is taken for none, as a share of it.
FLAT = 0.2
# By how much a training loss may rise from one validation to the next, as a share of it.
LEAP = 0.1
# Fewer validations without a better one than this, and training ends on a whim.
PATIENCE = 5


def trained(work: Work, ground: Ground, stage: str, wanted: Sequence[int]) -> list[int]:
    """The seeds whose models are those of the present settings, data and code.

    Raises:
        StorageError: there is none.
    """
    chosen = get_stage(get_stage(stage).trained_as)
    models = work.project.models(ground.benchmark.name, chosen.name)
    there = [
        s for s in seeds_in(models) if s in wanted and made_now(work.project, ground, chosen, s, seed_folder(models, s))
    ]
    if not there:
        found = "only models of other settings, data or code" if seeds_in(models) else "no model"
        fix = f"wavecore materialize model '{ground.benchmark.name}|{chosen.name}'"
        raise StorageError(f"{models}: there is {found}", fix)
    return there


def sound(work: Work, ground: Ground, stage: str, seeds: Sequence[int]) -> dict[str, int]:
    """Load the models of `seeds` and refuse what no stream should be run with; the groups that learn, and their sizes.

    Raises:
        CheckFailed: what is wrong, by the check that stands for it.
    """
    import torch

    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config
    from wavecore.model.groups import declared

    models = work.project.models(ground.benchmark.name, get_stage(stage).trained_as)
    groups: dict[str, int] = {}
    for seed in seeds:
        with work.check("as_trained"):
            model = load_model(seed_folder(models, seed), from_config).model
        with work.check("every_weight_in_a_group"):
            groups = {group.name: group.elements for group in declared(model)}
        with work.check("no_graph_carried"):
            # Any window will do.
            window = torch.linspace(-1, 1, ground.benchmark.window)[:, None].repeat(1, len(ground.arrays.channels))
            if found := graph_carried(model, settings_of(ground, stage), window):
                raise TrainingError(f"{stage}: {found}", "detach the state where a slice ends, and not within a step")
    return groups


def graph_carried(model: nn.Module, online: OnlineSettings, x: Tensor) -> str:
    """What of a memory keeps, or loses, a graph that it should not, in words; nothing where there is no memory.

    Args:
        x: [T, N], any window.
    """
    from wavecore.stream.forecaster import TitanStream
    from wavecore.stream.learners import Titan

    if not isinstance(model, TitanStream):
        return ""
    learner = Titan(model, online)
    notes: list[Tensor] = []
    for origin in (model.window, model.window + model.chunk_rows()):
        notes += learner.forecast(x, origin)[1] or ()
    kept = [name for name, tensor in learner.state().items() if tensor.requires_grad]
    if kept or any(tensor.requires_grad for tensor in notes):
        return "a session carries the graph of its memory along" + (f" ({', '.join(kept)})" if kept else "")
    memory = model.settings.memory
    if memory.retrieval == "map" and not memory.eta:
        return ""  # nothing is ever written
    high_order = memory.high_order
    if model.read(x[None], model.start(1)).state.weight.requires_grad != high_order:
        what = "none" if high_order else "one"
        return f"model.memory.high_order is {high_order}, but {what} of the updates' gradients is there in training"
    return ""


def unfit(ground: Ground, stage: str) -> list[str]:
    """What of a stage's settings speaks against learning online."""
    from wavecore.model.build import model_settings
    from wavecore.stream.settings import StreamSettings

    chosen = get_stage(stage)
    train = ground.train_settings(chosen)
    found: list[str] = []
    model = model_settings(chosen, ground.settings, ground.benchmark.name)
    if not isinstance(model, StreamSettings):
        return found
    if train.patience < PATIENCE:
        found.append(f"train.patience is {train.patience}, below {PATIENCE}")
    if train.schedule == "halving":
        found.append("train.schedule is halving, which moves in jumps")
    if model.head.pooling != "attention":
        found.append(f"head.pooling is {model.head.pooling}")
    return found


def early(models: Path, seeds: Sequence[int]) -> list[int]:
    """Seeds whose best validation is the last one."""
    return [
        seed
        for seed in seeds
        if len(curve := curve_of(models, seed)) > 1 and min(curve, key=lambda row: row["select"]) == curve[-1]
    ]


def rough(models: Path, seeds: Sequence[int]) -> list[str]:
    """Seeds whose training loss did not fall, or rose by a leap on the way, and where."""
    found = []
    for seed in seeds:
        curve = curve_of(models, seed)
        if len(curve) > 1 and curve[-1]["loss"] >= curve[0]["loss"]:
            found.append(f"seed {seed}: {curve[0]['loss']:.4g} at first, {curve[-1]['loss']:.4g} at last")
        found += [
            f"seed {seed}, step {after['step']}: from {before['loss']:.4g} to {after['loss']:.4g}"
            for before, after in pairwise(curve)
            if after["loss"] > (1 + LEAP) * before["loss"]
        ]
    return found


def curve_of(models: Path, seed: int) -> list[dict[str, Any]]:
    """Training and validation over the steps; nothing where nothing was trained in steps, or not here."""
    path = seed_folder(models, seed) / "curve.json"
    return list(read_json(path)) if path.is_file() else []


def growing(paces: Mapping[tuple[int, str], Mapping[str, float]]) -> list[str]:
    """Seeds and learners whose steps grow longer beyond doubt, and by more than what is taken for none."""
    return [f"seed {seed} {name}" for (seed, name), one in paces.items() if one["low"] > 0 and one["drift"] > FLAT]


def unhelped(by_seed: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Seeds whose online learner has no lower MSE than the frozen one."""
    found = []
    for seed, long in by_seed.items():
        if {"online", "frozen"} <= set(learners_in(long)):
            online, frozen = (value(long, learner, "mse") for learner in ("online", "frozen"))
            if online is None or frozen is None or online >= frozen:
                found.append(seed)
    return found
