"""The surface: each share and length is a model of its own, trained and judged as one apart would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benched import TINY, restless
from language import GEOMETRY

from wavecore.bench import surface
from wavecore.config import JudgeSettings, PipelineSettings, Settings, StageOverride, TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn.forecast import predict
from wavecore.learn.loop import train as fit
from wavecore.learn.losses import mse
from wavecore.model.build import build
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData
from wavecore.stages import get as stage_named


def surface_settings(folder: str) -> Settings:
    """Training of four steps on a window of 64, two windows each."""
    train = {"steps": 4, "batch_windows": 2, "eval_every": 2, "eval_windows": 4, "threads": 1, "precision": "float32"}
    return Settings(
        pipeline=PipelineSettings(benchmarks=("x",), stages=("base",)),
        judge=JudgeSettings(batch_windows=4),
        families={"time_llm": StageOverride(train=train, model={**TINY, "backbone": folder})},
    )


def test_rows_of_a_surface(folders: dict[str, Path]) -> None:
    arrays, settings = restless(600), surface_settings(str(folders["bert"]))
    borders = Borders(train=(0, 350), select=(350, 430), decide=(430, 470), test=(470, 600))
    scaler = Scaler.fit(arrays, borders.train)
    shape = replace(GEOMETRY, channels=arrays.channels)
    given = (arrays, scaler, borders, shape, settings, "x")
    told: list[str] = []
    found = list(surface.surface(*given, (64, 128), (0.25, 0.5), test_windows=10, memory=False, tell=told.append))
    assert [(row.path, row.more["window"], row.more.get("share"), row.more["tokens"]) for row in found] == [
        *(("base", 64, None, 8), ("only_sparse", 64, 0.25, 2), ("only_sparse", 64, 0.5, 4)),
        *(("base", 128, None, 16), ("only_sparse", 128, 0.25, 4), ("only_sparse", 128, 0.5, 8)),
    ]
    assert [row.more["batch_windows"] for row in found] == [2, 2, 2, 1, 1, 1]
    assert len(told) == 8
    for first in (found[0], found[3]):
        assert (first.ratio_median, first.more["other_mse"]) == (1.0, first.more["mse"])
    # The error of a model that was trained and judged apart, on the same windows.
    data = WindowData.from_arrays(arrays, scaler, 64, 12)
    test = origins(borders, "test", 128, 12)
    chosen = test[np.linspace(0, len(test) - 1, 10).astype(int)]
    own = replace(settings, stages={"only_sparse": StageOverride(model={"sparse": {"share": 0.25}})})
    model = build(stage_named("only_sparse"), shape, own, "x", 0)
    fit(model, data, borders, own.train_of("x", "only_sparse"), 0)
    whole = data.batch(chosen)
    assert found[1].more["mse"] == pytest.approx(
        float(mse(torch.from_numpy(predict(model, whole)), whole.y, whole.mask))
    )
    assert found[1].more["mse"] != pytest.approx(found[2].more["mse"], rel=1e-6)
    usual = surface._settings(replace(settings, families={}), "x", "base", 0.5, None, None).train_of("x", "base")
    assert usual.eval_windows == TrainSettings().eval_windows == 0


def test_a_surface_that_cannot_be_is_refused_before_anything_is_trained(folders: dict[str, Path]) -> None:
    arrays, settings, told = restless(40000), surface_settings(str(folders["bert"])), []
    borders = Borders(train=(0, 20000), select=(20000, 20500), decide=(20500, 21000), test=(21000, 40000))
    given = (arrays, Scaler.fit(arrays, borders.train), borders, replace(GEOMETRY, channels=arrays.channels), settings)
    for windows, stage, said in (
        ((64,), "only_tokens", "only_tokens"),
        ((64,), "sparse", "choose only_sparse"),
        ((64, 30000), "only_sparse", "holds no window"),
        ((64, 16384), "only_sparse", "positions"),
    ):
        with pytest.raises(SettingsError) as refused:
            list(surface.surface(*given, "x", windows, (0.5,), stage, tell=told.append))
        assert said in f"{refused.value}; {refused.value.fix}"
    assert told == []
