"""Offline training is the one loop of all forecasters, with three losses in its curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from test_session import SMALL, H, N, T, titan, waves

from wavecore import stages
from wavecore.config import PipelineSettings, Settings, StageOverride, TrainSettings
from wavecore.learn.loop import train
from wavecore.model.build import Geometry, build
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData
from wavecore.stream.forecaster import TitanStream

BORDERS = Borders((0, 200), (200, 240), (240, 260), (260, 300))
ASKED = TrainSettings(steps=30, batch_windows=8, learning_rate=0.003, eval_every=10, threads=1)


def data() -> WindowData:
    return WindowData(waves(300), torch.ones(300, N, dtype=torch.bool), T, H)


def test_it_is_trained_on_three_losses_that_are_in_the_curve() -> None:
    model = titan(replace(SMALL, skip="none"))
    done = train(model, data(), BORDERS, ASKED, seed=0)
    assert [row["step"] for row in done.curve] == [10, 20, 30]
    for row in done.curve:
        weights = model.settings.loss
        parts = [getattr(weights, name) * row[name] for name in ("forecast", "associative", "orthogonality")]
        assert np.isclose(row["loss"], sum(parts), rtol=1e-5)
    assert done.curve[-1]["forecast"] < done.curve[0]["forecast"]
    assert done.curve[-1]["select"] < done.curve[0]["select"]


def test_the_same_seed_gives_the_same_model() -> None:
    found = []
    for _ in range(2):
        model = titan()
        train(model, data(), BORDERS, replace(ASKED, steps=10), seed=3)
        found.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_every_variant_is_built_by_its_name() -> None:
    settings = Settings(PipelineSettings(("x",), ("titan",)), stages={"titan": StageOverride(model={"patch": 2})})
    names = [name for name in stages.names() if stages.get(name).family == "titan"]
    assert len(names) > 8
    built = {}
    for name in names:
        model = build(stages.get(name), Geometry(T * 2, H, ("a", "b"), 4), settings, "x", 0)
        assert isinstance(model, TitanStream)
        built[name] = model.settings, settings.online_of("x", name)
    assert len(set(map(str, built.values()))) == len(names)
