"""How fast a learner learns, chosen on `decide`: rows before the stream, pushed like those of the stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import nn

from wavecore.errors import SettingsError, TrainingError
from wavecore.judge.scoring import Scene
from wavecore.series.splits import origins
from wavecore.series.windows import WindowData
from wavecore.stream.evaluate import stream
from wavecore.stream.matrix import learner_of
from wavecore.stream.progress import Keeping
from wavecore.stream.session import Shape
from wavecore.stream.settings import OnlineSettings

# Learners that take gradient steps, and so have a rate.
SEARCHED = ("online", "replay")


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        settings: with the rate that is taken.
        tried: rate → mse on `decide`; infinite where learning ended in no finite loss. Empty: nothing was tried.
    """

    settings: OnlineSettings
    tried: dict[float, float]


def search(
    name: str,
    model: nn.Module,
    windows: WindowData,
    scene: Scene,
    shape: Shape,
    online: OnlineSettings,
    scale: np.ndarray,
    seed: int,
    tick: Callable[[str, int], Callable[[int], object]],
    keep: Keeping | None = None,
) -> Searched:
    """The rate of `online.search` with the lowest error on `decide`, each from the model as it was trained.

    Args:
        name: of the learner.
        model, windows, scene, online, seed: as of `through`.
        shape, scale: of the session and of the judge.
        tick, keep: as of `through`.

    Raises:
        SettingsError: no rate ended in finite losses, or no label is learned from within `decide`.
    """
    if name not in SEARCHED or not online.search:
        return Searched(online, {})
    told = tick(
        f"{name}, rates", len(online.search) * len(origins(scene.borders, "decide", shape.window, shape.horizon))
    )
    tried = {}
    for rate in online.search:
        own = replace(online, learning_rate=rate)
        learner = learner_of(name, model, shape, own, seed)
        try:
            place = None if keep is None else keep.of("rates", f"{rate:g}")
            found = stream(
                learner, windows, scene.borders, shape, own, scene.scaler, scale, split="decide", tick=told, keep=place
            )
            tried[rate] = found.result.mse if math.isfinite(found.result.mse) else math.inf
        except TrainingError:
            tried[rate] = math.inf
        except SettingsError as error:
            raise SettingsError(
                f"online.search: on decide, {error.problem}",
                f"{error.fix}; or set `search: []`, then online.learning_rate counts",
            ) from error
    best = min(tried, key=lambda rate: tried[rate])
    if math.isinf(tried[best]):
        raise SettingsError(
            f"online.search: {name} ended in losses that are not finite with each of {online.search}", "add lower rates"
        )
    return Searched(replace(online, learning_rate=best), tried)
