"""The streamed tables: every window once and in order, equal to plain loops, blind to the future, bounded in memory."""

from __future__ import annotations

import csv
import math
import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError
from wavecore.prompt import statistics as prompt
from wavecore.series import features
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler
from wavecore.wavelet import statistics as wavelet
from wavecore.wavelet.transform import bands, decompose

WINDOW = 64
SETTINGS = FeatureSettings(levels=3)
TABLES = (
    features.window_statistics,
    features.wavelet_features,
    features.wavelet_coefficients,
)


def series(n=150, channels=3, seed=0, gaps=True):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, channels)).cumsum(0) + 5 * np.sin(np.arange(n) / 24 * 2 * np.pi)[:, None]
    values[:, -1] = np.round(values[:, -1])
    if gaps:
        values[rng.random(values.shape) < 0.1] = np.nan
        values[:4, 0] = np.nan
    times = np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    return from_values(times, [f"c{j}" for j in range(channels)], values)


def whole(table, arrays, scaler, window=WINDOW, settings=SETTINGS, **more):
    chunks = list(table(arrays, scaler, window, settings, **more))
    assert len({tuple(chunk) for chunk in chunks}) == 1
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


@pytest.fixture(scope="module")
def arrays():
    return series()


@pytest.fixture(scope="module")
def scaler(arrays):
    return Scaler.fit(arrays, (0, 100))


@pytest.mark.parametrize("table", TABLES)
def test_every_window_of_every_channel_once_by_window_then_channel(table, arrays, scaler):
    found = whole(table, arrays, scaler)
    keys = list(zip(found["start"].tolist(), found["channel"].tolist(), strict=True))
    # The last window ends with the last row: its target lies in the future.
    assert keys == [(start, channel) for start in range(150 - WINDOW + 1) for channel in range(3)]
    for name, column in found.items():
        assert len(column) == len(keys)
        assert np.isfinite(column).all(), name


def test_all_tables_come_in_the_same_chunks(arrays, scaler):
    small = replace(SETTINGS, memory_mb=1.0)
    sizes = [[len(chunk["start"]) for chunk in table(arrays, scaler, WINDOW, small)] for table in TABLES]
    assert len(sizes[0]) > 1
    assert all(size == sizes[0] for size in sizes)


def test_values_are_those_of_a_plain_loop(arrays, scaler):
    index = whole(features.window_statistics, arrays, scaler)
    wavelets = whole(features.wavelet_features, arrays, scaler)
    coefficients = whole(features.wavelet_coefficients, arrays, scaler)
    for row in range(0, len(index["start"]), 7):
        start, channel = int(index["start"][row]), int(index["channel"][row])
        raw = arrays.values[start : start + WINDOW, channel]
        x = [0.0 if math.isnan(v) else (v - scaler.center[channel]) / scaler.scale[channel] for v in raw]
        mean = math.fsum(x) / WINDOW
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / WINDOW)
        assert index["mean"][row] == pytest.approx(mean, abs=1e-12)
        assert index["std"][row] == pytest.approx(std, abs=1e-12)
        assert index["min"][row] == min(x)
        assert index["max"][row] == max(x)
        assert index["median"][row] == sorted(x)[(WINDOW - 1) // 2]
        assert index["trend"][row] == x[-1] - x[0]
        share = sum(bool(seen) for seen in arrays.observed[start : start + WINDOW, channel]) / WINDOW
        assert index["observed_share"][row] == share
        normal = ((np.array(x) - mean) / math.sqrt(std**2 + 1e-5))[None]
        np.testing.assert_array_equal(index["lags"][row], prompt.statistics(normal, 5)["lags"][0])
        for name, value in wavelet.statistics(normal, SETTINGS).items():
            np.testing.assert_allclose(wavelets[name][row], value[0], atol=1e-9)
        for name, value in decompose(normal, SETTINGS).items():
            np.testing.assert_allclose(coefficients[name][row], value[0], atol=1e-6)
            assert coefficients[name].dtype == np.float32


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_the_size_of_a_chunk_changes_no_bit(table, rows, arrays, scaler, monkeypatch):
    reference = whole(table, arrays, scaler)
    # memory_mb of at least 1 would hold this small series in one go: cost each row so that `rows` fit.
    monkeypatch.setattr(features, "ARRAYS_PER_ROW", 2**20 // (8 * WINDOW * rows))
    small = replace(SETTINGS, memory_mb=1.0)
    sizes = [len(chunk["start"]) for chunk in table(arrays, scaler, WINDOW, small)]
    assert max(sizes) <= rows
    for name, column in whole(table, arrays, scaler, settings=small).items():
        np.testing.assert_array_equal(column, reference[name], err_msg=name)


@pytest.mark.parametrize("table", TABLES)
def test_how_many_chunks_are_computed_at_once_changes_no_bit(table, arrays, scaler, monkeypatch):
    found = []
    for workers in (1, 3):
        monkeypatch.setattr(features, "processors", lambda workers=workers: workers)
        monkeypatch.setattr(features, "CHUNK_VALUES", 6 * WINDOW)
        before = threading.active_count()
        chunks = table(arrays, scaler, WINDOW, SETTINGS)
        assert len(next(chunks)["start"]) == 6
        assert threading.active_count() > before
        chunks.close()
        assert threading.active_count() == before, "whoever has seen enough leaves nothing running"
        found.append(whole(table, arrays, scaler))
    for name, column in found[0].items():
        np.testing.assert_array_equal(column, found[1][name], err_msg=name)


def test_windows_apart_are_read_one_by_one_and_overlapping_ones_together(arrays, scaler):
    """Both ways give the same bits; only the second scales a step once for all windows that hold it."""
    every = {
        (int(start), int(channel)): (x, share)
        for chunk in features.window_rows(arrays, scaler, WINDOW, SETTINGS)
        for start, channel, x, share in zip(chunk.start, chunk.channel, chunk.x, chunk.observed_share, strict=True)
    }
    (apart,) = features.window_rows(arrays, scaler, WINDOW, SETTINGS, np.array([0, 86]))
    assert apart.x.size < (150 * 3)  # more steps from first to last than these windows hold
    for start, channel, x, share in zip(apart.start, apart.channel, apart.x, apart.observed_share, strict=True):
        np.testing.assert_array_equal(x, every[start, channel][0])
        assert share == every[start, channel][1]


@pytest.mark.parametrize("table", TABLES)
def test_nothing_after_a_window_changes_it(table, arrays, scaler):
    """With the scaler fixed, values after a window's end do not enter any of its columns."""
    before = whole(table, arrays, scaler)
    for cut in (WINDOW, 100, 149):
        values = np.where(arrays.observed, arrays.values, np.nan)
        values[cut:] = np.where(np.isnan(values[cut:]), 1e3, np.nan)
        after = whole(table, from_values(arrays.timestamps, arrays.channels, values), scaler)
        past = before["start"] + WINDOW <= cut
        assert past.any()
        for name, column in before.items():
            np.testing.assert_array_equal(after[name][past], column[past], err_msg=name)


@pytest.mark.parametrize("table", TABLES)
def test_chosen_windows_equal_those_of_the_whole_table(table, arrays, scaler):
    """Coefficients computed when needed are bit for bit those that a table would have stored."""
    starts = np.array([86, 3, 40])
    rows = [int(start) * 3 + channel for start in starts for channel in range(3)]
    stored = whole(table, arrays, scaler)
    for name, column in whole(table, arrays, scaler, starts=starts).items():
        np.testing.assert_array_equal(column, stored[name][rows], err_msg=name)


def test_a_constant_window_is_exactly_still():
    values = np.full((100, 2), 0.1)
    values[:, 1] = np.arange(100)
    arrays = from_values(series(100).timestamps, ["flat", "ramp"], values)
    scaler = Scaler(np.array([0.3, 0.0]), np.array([0.7, 1.0]))
    index = whole(features.window_statistics, arrays, scaler)
    flat = index["channel"] == 0
    assert (index["std"][flat] == 0).all()
    assert (index["lags"][flat] == 0).all()
    assert (index["mean"][flat] == index["min"][flat]).all()
    found = whole(features.wavelet_features, arrays, scaler)
    assert (found["energy_share"][flat, 0] == 1).all()
    assert (found["dominant_period"][flat] == 0).all()


def test_one_window_exactly_and_one_row_less():
    arrays = series(WINDOW, gaps=False)
    scaler = Scaler.fit(arrays, (0, WINDOW))
    assert whole(features.window_statistics, arrays, scaler)["start"].tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="64 rows, fewer than one window of 65"):
        features.window_rows(arrays, scaler, WINDOW + 1, SETTINGS)
    with pytest.raises(DataError, match="fewer than one window"):
        features.stored_mb(arrays, 512, SETTINGS)


def test_windows_without_movement_or_outside_the_data(arrays, scaler):
    with pytest.raises(DataError, match="window of 1 steps"):
        features.window_rows(arrays, scaler, 1, SETTINGS)
    for outside in ([-1], [150 - WINDOW + 1]):
        with pytest.raises(DataError, match="must lie in 0 to 86"):
            features.window_rows(arrays, scaler, WINDOW, SETTINGS, starts=np.array(outside))


@pytest.mark.parametrize("table", [features.wavelet_features, features.wavelet_coefficients])
@pytest.mark.parametrize("change", [{"levels": 9}, {"wavelet": "db99"}, {"mode": "mirror"}])
def test_impossible_wavelet_settings_stop_before_the_first_row(table, change, arrays, scaler):
    with pytest.raises(SettingsError, match="features"):
        next(table(arrays, scaler, WINDOW, replace(SETTINGS, **change)))


@pytest.mark.parametrize("mode", ["periodization", "symmetric"])
def test_size_of_stored_coefficients(mode, arrays, scaler):
    settings = replace(SETTINGS, mode=mode)
    found = whole(features.wavelet_coefficients, arrays, scaler, settings=settings)
    stored = sum(found[band].nbytes for band in bands(3))
    assert features.stored_mb(arrays, WINDOW, settings) == pytest.approx(stored / 2**20)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("rows", "channels", "window"), [(700, 3, 256), (258, 900, 256), (16400, 1, 16384)])
@pytest.mark.parametrize("workers", [1, 8])
def test_memory_stays_within_the_bound(table, rows, channels, window, workers, monkeypatch):
    """Also where one step of all channels alone would not fit, or one window on each of many processors; of the series
    itself there is no second copy."""
    monkeypatch.setattr(features, "processors", lambda: workers)
    arrays = series(rows, channels, gaps=False)
    scaler = Scaler.fit(arrays, (0, 100))
    settings = FeatureSettings(memory_mb=4)
    for _ in table(series(window + 50, 2, gaps=False), Scaler(np.zeros(2), np.ones(2)), window, settings):
        pass  # caches of filters and transform plans
    tracemalloc.start()
    for _ in table(arrays, scaler, window, settings):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < settings.memory_mb * 2**20


@pytest.mark.data
def test_etth1_shows_its_day():
    path = Path(os.environ["WAVECORE_DATA"]) / "ETT-small/ETTh1.csv"
    if not path.exists():
        path = Path(os.environ["WAVECORE_DATA"]) / "forecasting/ETT-small/ETTh1.csv"
    with path.open() as file:
        names, *rows = csv.reader(file)
    times = np.array([row[0].replace(" ", "T") for row in rows], dtype="datetime64[us]")
    arrays = from_values(times, names[1:], np.array([row[1:] for row in rows], dtype=float))
    scaler = Scaler.fit(arrays, (0, 8640))
    starts = np.arange(0, 17420 - 512 + 1, 24)
    index = whole(features.window_statistics, arrays, scaler, 512, FeatureSettings(), starts=starts)
    assert (np.abs(index["lags"][:, 0] - 24) <= 1).mean() > 0.6
    found = whole(features.wavelet_features, arrays, scaler, 512, FeatureSettings(), starts=starts)
    assert (found["dominant_period"] > 16).mean() > 0.9
    assert found["reconstruction_error"].max() < 1e-12
