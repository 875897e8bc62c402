"""Learners by their names: what of a trained stage is run through a stream."""

from __future__ import annotations

import copy

from torch import nn

from wavecore.errors import SettingsError
from wavecore.learn.checkpoint import trainable
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.fourier import Elf
from wavecore.stream.learners import Frozen, Gradient, Replay, Titan
from wavecore.stream.session import Learner, Shape
from wavecore.stream.settings import LEARNERS, OnlineSettings


def learners_for(model: nn.Module, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `wanted` that make sense for a model: without weights that learn there is nothing to move, and a label
    of the past cannot be replayed to a memory that has gone on since."""
    carried = isinstance(model, TitanStream) and model.settings.memory.life == "stream"
    return tuple(
        name
        for name in wanted
        if (name in ("frozen", "elf") or trainable(model)) and not (carried and name == "replay")
    )


def learner_of(name: str, model: nn.Module, shape: Shape, settings: OnlineSettings, seed: int) -> Learner:
    """A learner of its own: `model` stays as it is.

    Args:
        name: one of LEARNERS.
        model: a trained forecaster.
        shape: of the session.
        settings: see OnlineSettings.
        seed: of what is drawn, such as labels of the past.

    Raises:
        SettingsError: no such learner, or nothing in the model could learn.
    """
    if name not in LEARNERS:
        raise SettingsError(f"there is no learner {name!r}", f"learners: {', '.join(LEARNERS)}")
    if name not in ("frozen", "elf") and not trainable(model):
        raise SettingsError(f"{name}: {type(model).__name__} has no weights that learn", "choose frozen or elf")
    own = copy.deepcopy(model)
    if isinstance(own, TitanStream) and name in ("frozen", "online"):
        return Titan(own, settings, adapt=name == "online")
    if name == "online":
        return Gradient(own, shape.horizon, settings)
    if name == "replay":
        if not isinstance(own, TitanStream):
            return Replay(own, shape.horizon, settings, seed)
        if own.settings.memory.life == "stream":
            raise SettingsError(
                "replay: a label of the past would need the memory of its time, which goes on with `life: stream`",
                "choose another learner, or memory.life: window",
            )
        return Replay(own, shape.horizon, settings, seed, own.online_groups(settings))
    if name == "elf":
        return Elf(own, shape.window, shape.horizon, len(shape.channels))
    return Frozen(own, shape.horizon)
