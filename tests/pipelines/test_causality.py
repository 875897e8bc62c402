"""What lies after a window changes nothing of it: neither its inputs nor its forecast, from the raw file on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from inside import copied, entered, fine

from assets.project import Project
from assets.training import Ground
from wavecore.learn.checkpoint import load_model
from wavecore.learn.forecast import forecast
from wavecore.model.build import from_config
from wavecore.series.arrays import SeriesArrays
from wavecore.series.splits import origins
from wavecore.series.windows import WindowData

STAGES = ("seasonal_naive", "dlinear")


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A finished project whose raw file is a user's own, to be changed."""
    root = copied(finished_project, tmp_path_factory.mktemp("causality") / "project")
    for name in ("as_it_was.csv", "grid.csv"):
        shutil.copy(root / "store/raw/tiny/tiny.csv", root / name)
    path = root / "data_contracts/datasets/tiny.yaml"
    lines = path.read_text().splitlines()
    own = ["source: {kind: own, path: grid.csv}" if line.startswith("source:") else line for line in lines]
    path.write_text("\n".join(own) + "\n")
    with entered(root) as entered_project:
        yield entered_project


def trained(project: Project, stage: str) -> Any:
    """The trained model of one stage, seed 0."""
    return load_model(project.models("tiny", stage) / "seed=0", from_config).model


def forecasts(model: Any, windows: WindowData, chosen: np.ndarray, batch_windows: int = 64) -> np.ndarray:
    """Forecasts [M, H, N] in the order of `chosen`."""
    return np.concatenate([ahead for _, ahead in forecast(model, windows, chosen, batch_windows)])


@pytest.mark.parametrize("stage", STAGES)
def test_values_after_a_window_change_neither_its_inputs_nor_its_forecast(stage: str, project: Project) -> None:
    ground, model = Ground.load(project, "tiny"), trained(project, stage)
    rng = np.random.default_rng(5)
    for split in ("train", "select", "decide", "test"):
        for origin in rng.choice(origins(ground.borders, split, 128, 16), 3, replace=False):
            values = ground.arrays.values.copy()
            values[origin:] = rng.normal(1e3, 1e3, values[origin:].shape)
            changed = SeriesArrays(ground.arrays.timestamps, ground.arrays.channels, values, ground.arrays.observed)
            # The scaler is the one learned before.
            after = WindowData.from_arrays(changed, ground.scaler, 128, 16)
            one = np.array([origin])
            assert np.array_equal(after.batch(one).x, ground.windows.batch(one).x)
            assert not np.array_equal(after.batch(one).y, ground.windows.batch(one).y)
            assert np.array_equal(forecasts(model, after, one), forecasts(model, ground.windows, one))
            # A value inside the window does count, so the comparison can fail.
            values[origin - 1] += 1.0
            inside = SeriesArrays(ground.arrays.timestamps, ground.arrays.channels, values, ground.arrays.observed)
            closer = WindowData.from_arrays(inside, ground.scaler, 128, 16)
            assert not np.array_equal(closer.batch(one).x, ground.windows.batch(one).x)


@pytest.mark.parametrize("stage", STAGES)
def test_forecasts_depend_neither_on_batch_size_nor_on_order(stage: str, project: Project) -> None:
    ground, model = Ground.load(project, "tiny"), trained(project, stage)
    chosen = origins(ground.borders, "test", 128, 16)
    whole = forecasts(model, ground.windows, chosen)
    order = np.random.default_rng(1).permutation(len(chosen))
    np.testing.assert_allclose(forecasts(model, ground.windows, chosen[order]), whole[order], rtol=0, atol=2e-6)
    for size in (1, 7, 185):
        np.testing.assert_allclose(forecasts(model, ground.windows, chosen, size), whole, rtol=0, atol=2e-6)


def rewrite(project: Project, row: int) -> None:
    """Other values in the raw file from `row` on, of about the same size, so that no rule objects."""
    header, *lines = (project.root / "as_it_was.csv").read_text().splitlines()
    rng = np.random.default_rng(row)
    kept = lines[:row]
    for line in lines[row:]:
        time, *cells = line.split(",")
        kept.append(",".join([time, *(f"{float(c) * rng.uniform(0.5, 1.5) + 1:.3f}" for c in cells)]))
    (project.root / "grid.csv").write_text("\n".join([header, *kept]) + "\n")


@pytest.mark.slow
def test_from_the_raw_file_later_values_change_no_earlier_forecast(project: Project) -> None:
    root = project.root
    ground = Ground.load(project, "tiny")
    models = {stage: trained(project, stage) for stage in STAGES}
    chosen = np.concatenate([origins(ground.borders, split, 128, 16) for split in ("select", "decide", "test")])
    before = {stage: forecasts(model, ground.windows, chosen) for stage, model in models.items()}
    samples = {s: pl.read_parquet(project.evaluations("tiny", s) / "seed=0" / "forecasts.parquet") for s in STAGES}
    losses = {s: json.loads((project.results("tiny", s) / "seed=0" / "losses.json").read_text()) for s in STAGES}
    tables = {
        name: pl.read_parquet(root / "store" / name)
        for name in ("windows/tiny.T128/windows.parquet", "wavelets/tiny.T128/statistics.parquet")
    }
    # One cut among the validation windows, one among those of the test.
    for row in (int(origins(ground.borders, "decide", 128, 16)[20]), int(sorted(set(samples["dlinear"]["origin"]))[1])):
        rewrite(project, row)
        for step in (("raw_series", "tiny"), ("series", "tiny"), ("windows", "tiny.T128"), ("splits", "tiny")):
            fine(root, "materialize", *step)
        now = Ground.load(project, "tiny")
        assert now.data_hash != ground.data_hash
        np.testing.assert_array_equal(now.scaler.center, ground.scaler.center)
        np.testing.assert_array_equal(now.scaler.scale, ground.scaler.scale)
        index = pl.read_parquet(root / "store/windows/tiny.T128/windows.parquet")
        first = pl.col("origin") <= row
        assert index.filter(first).equals(tables["windows/tiny.T128/windows.parquet"].filter(first))
        for stage, model in models.items():
            after = forecasts(model, now.windows, chosen)
            known = chosen <= row
            np.testing.assert_array_equal(after[known], before[stage][known])
            assert not np.array_equal(after[~known], before[stage][~known])

    # The last cut lies in the test: the same weights, scored again through the pipeline.
    fine(root, "materialize", "wavelet_coefficients", "tiny.T128")
    statistics = pl.read_parquet(root / "store/wavelets/tiny.T128/statistics.parquet")
    first = pl.col("start") <= row - 128
    assert statistics.filter(first).equals(tables["wavelets/tiny.T128/statistics.parquet"].filter(first))
    fine(root, "materialize", "model", "tiny|dlinear")
    fine(root, "materialize", "evaluation", "tiny|dlinear")
    weights = [trained(project, "dlinear").state_dict(), models["dlinear"].state_dict()]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[1])
    sample = pl.read_parquet(project.evaluations("tiny", "dlinear") / "seed=0" / "forecasts.parquet")
    early = pl.col("origin") <= row
    columns = ["origin", "channel", "forecast"]
    assert sample.filter(early).height == 4
    assert sample.filter(early).select(columns).equals(samples["dlinear"].filter(early).select(columns))
    assert not sample.filter(~early).select(columns).equals(samples["dlinear"].filter(~early).select(columns))
    kept = json.loads((project.results("tiny", "dlinear") / "seed=0" / "losses.json").read_text())
    whole = [i for i, origin in enumerate(kept["origin"]) if origin + 16 <= row]
    assert len(whole) > 50
    for name in ("mse", "mae"):
        assert [kept[name][i] for i in whole] == [losses["dlinear"][name][i] for i in whole]
