"""The statistics that the asset derives from two tables are those of the normalized window itself."""

import numpy as np
import polars as pl
import pytest

from assets.prompts import normalized_statistics
from wavecore.config import FeatureSettings
from wavecore.errors import StorageError
from wavecore.prompt import statistics as prompt
from wavecore.series.arrays import from_values
from wavecore.series.features import wavelet_features, window_rows, window_statistics
from wavecore.series.normalize import Scaler

SETTINGS = FeatureSettings(levels=2)


def _tables() -> tuple[pl.DataFrame, pl.DataFrame, list]:
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.normal(size=(200, 2)), axis=0)
    values[60:110, 1] = 4.0  # a stretch without any movement
    times = np.datetime64("2024-01-01", "h") + np.arange(200)
    arrays = from_values(times.astype("datetime64[us]"), ["a", "b"], values)
    scaler = Scaler.fit(arrays, (0, 150))
    frames = []
    for source in (window_statistics, wavelet_features):
        chunks = list(source(arrays, scaler, 32, SETTINGS))
        joined = {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}
        joined = {"window": joined["start"], **joined} | {"channel": np.array(["a", "b"])[joined["channel"]]}
        frames.append(pl.DataFrame({k: v.tolist() if v.ndim > 1 else v for k, v in joined.items()}))
    return frames[0], frames[1], list(window_rows(arrays, scaler, 32, SETTINGS))


def test_derived_equals_computed() -> None:
    windows, wavelets, chunks = _tables()
    found = normalized_statistics(windows, wavelets)
    due = [prompt.statistics(chunk.normalized, SETTINGS.lags) for chunk in chunks]
    for name in ("min", "max", "median", "trend"):
        np.testing.assert_allclose(found[name], np.concatenate([d[name] for d in due]), atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(found["lags"], np.concatenate([d["lags"] for d in due]))


def test_tables_of_different_windows_are_refused() -> None:
    windows, wavelets, _ = _tables()
    with pytest.raises(StorageError, match="differ in the column 'window'"):
        normalized_statistics(windows, wavelets.with_columns(pl.col("window") + 1))
