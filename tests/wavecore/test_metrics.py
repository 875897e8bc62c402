"""The judge's errors against brute force, and what must not change them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError, TrainingError
from wavecore.judge.metrics import Judge, JudgeResult, long_rows, origin_losses, rounded, seasonal_scale
from wavecore.judge.scales import band_energy, error_bands, error_levels


@dataclass(frozen=True)
class Scale:
    scale: np.ndarray


def sample(windows: int, horizon: int, channels: int, share: float = 0.8, seed: int = 0):
    rng = np.random.default_rng(seed)
    origins = rng.permutation(np.arange(100, 100 + windows))
    yhat, y = (rng.normal(size=(windows, horizon, channels)).astype(np.float32) for _ in range(2))
    return origins, yhat, y, rng.random((windows, horizon, channels)) < share


def make(horizon: int, channels: int, scale=None, seasonal=None, **features) -> Judge:
    return Judge(
        [f"c{i}" for i in range(channels)],
        horizon,
        Scale(np.arange(1.0, channels + 1) if scale is None else np.asarray(scale)),
        np.ones(channels) if seasonal is None else np.asarray(seasonal, dtype=float),
        FeatureSettings(**features),
    )


def judged(judge: Judge, origins, yhat, y, mask, batch: int = 10_000) -> JudgeResult:
    for start in range(0, len(origins), batch):
        rows = slice(start, start + batch)
        judge.update(origins[rows], yhat[rows], y[rows], mask[rows])
    return judge.result()


def same_bits(a: JudgeResult, b: JudgeResult) -> None:
    for field in fields(JudgeResult):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.tobytes() == right.tobytes(), field.name
        else:
            assert left == right or (math.isnan(left) and math.isnan(right)), field.name


def test_hand_computed_example():
    # Two windows, two steps, two channels; the last point of window 20 is not scored.
    yhat = np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 9.0]]])
    y = np.zeros_like(yhat)
    mask = np.ones(yhat.shape, dtype=bool)
    mask[1, 1, 1] = False
    result = judged(make(2, 2, scale=[10.0, 2.0], seasonal=[5.0, 4.0]), [10, 20], yhat, y, mask)
    assert (result.n_windows, result.n_series, result.n_points) == (2, 4, 7)
    assert result.mse == pytest.approx((1 + 4 + 9) / 7)
    assert result.mae == pytest.approx((1 + 2 + 3) / 7)
    assert result.channel_mse == pytest.approx([5 / 4, 9 / 3])
    assert result.channel_mse_original == pytest.approx([125, 12])
    assert result.channel_mae_original == pytest.approx([7.5, 2])
    assert result.channel_mase == pytest.approx([1.5, 0.5])
    assert result.mase == pytest.approx(1.0)
    assert result.step_mse == pytest.approx([10 / 4, 4 / 3])
    assert result.origin_mse == pytest.approx([5 / 4, 9 / 3])
    assert result.origin_mae == pytest.approx([3 / 4, 3 / 3])
    assert result.channel_points.tolist() == [4, 3]


@given(
    windows=st.integers(1, 9), horizon=st.integers(1, 20), channels=st.integers(1, 4), seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_against_loops(windows, horizon, channels, seed, share):
    origins, yhat, y, mask = sample(windows, horizon, channels, share, seed)
    scale, seasonal = np.arange(1.0, channels + 1), np.arange(2.0, channels + 2)
    result = judged(make(horizon, channels, scale, seasonal, wavelet="db2"), origins, yhat, y, mask)

    def mean(values):
        return pytest.approx(sum(values) / len(values) if values else math.nan, rel=1e-12, nan_ok=True)

    def errors(keep, scaled=None):
        return [
            (float(yhat[b, h, c]) - float(y[b, h, c])) * (1 if scaled is None else scaled[c])
            for b in range(windows)
            for h in range(horizon)
            for c in range(channels)
            if mask[b, h, c] and keep(b, h, c)
        ]

    everything = errors(lambda b, h, c: True)
    assert result.n_points == len(everything)
    assert result.mse == mean([e * e for e in everything])
    assert result.mae == mean([abs(e) for e in everything])
    mases = []
    for i in range(channels):
        own = errors(lambda b, h, c, i=i: c == i, scale)
        assert result.channel_mse_original[i] == mean([e * e for e in own])
        assert result.channel_mae_original[i] == mean([abs(e) for e in own])
        assert result.channel_mase[i] == mean([abs(e) / seasonal[i] for e in own])
        if own:
            mases.append(sum(abs(e) for e in own) / len(own) / seasonal[i])
    assert result.mase == mean(mases)
    for i in range(horizon):
        assert result.step_mse[i] == mean([e * e for e in errors(lambda b, h, c, i=i: h == i)])
        assert result.step_mae[i] == mean([abs(e) for e in errors(lambda b, h, c, i=i: h == i)])
    for place, window in enumerate(np.argsort(origins)):
        own = errors(lambda b, h, c, w=window: b == w)
        assert result.origins[place] == origins[window]
        assert result.origin_mse[place] == mean([e * e for e in own])
        assert result.origin_mae[place] == mean([abs(e) for e in own])
    assert result.n_origins_unscored == np.isnan(result.origin_mse).sum()
    assert result.band_mse.sum() == pytest.approx(result.mse, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("channels", [1, 3, 9])
@pytest.mark.parametrize("horizon", [1, 24, 96])
def test_neither_batch_size_nor_order_changes_a_bit(horizon, channels):
    origins, yhat, y, mask = sample(23, horizon, channels)
    whole = judged(make(horizon, channels), origins, yhat, y, mask)
    order = np.random.default_rng(1).permutation(len(origins))
    for batch in (1, 4, 22):
        same_bits(whole, judged(make(horizon, channels), origins, yhat, y, mask, batch))
        shuffled = [a[order] for a in (origins, yhat, y, mask)]
        same_bits(whole, judged(make(horizon, channels), *shuffled, batch))


def test_neither_memory_layout_nor_tensors_change_a_bit():
    import torch

    origins, yhat, y, mask = sample(7, 24, 3)
    whole = judged(make(24, 3), origins, yhat, y, mask)
    turned = [np.ascontiguousarray(a.transpose(2, 1, 0)).transpose(2, 1, 0) for a in (yhat, y, mask)]
    same_bits(whole, judged(make(24, 3), origins, *turned))
    same_bits(whole, judged(make(24, 3), *(torch.from_numpy(a) for a in (origins, yhat, y, mask))))
    half = torch.from_numpy(yhat).bfloat16()
    same_bits(judged(make(24, 3), origins, half, y, mask), judged(make(24, 3), origins, half.float().numpy(), y, mask))


def test_judges_join_by_their_parts():
    origins, yhat, y, mask = sample(8, 12, 2)
    left, right = make(12, 2), make(12, 2)
    left.update(origins[:3], yhat[:3], y[:3], mask[:3])
    right.update(origins[3:], yhat[3:], y[3:], mask[3:])
    left.parts.extend(right.parts)
    same_bits(left.result(), judged(make(12, 2), origins, yhat, y, mask))


def test_small_errors_beside_large_values_keep_their_digits():
    y = np.full((1, 4, 1), 1e6, dtype=np.float32)
    yhat = np.nextafter(y, np.float32(np.inf))
    result = judged(make(4, 1), [5], yhat, y, np.ones(y.shape, dtype=bool))
    assert result.mae == float(yhat[0, 0, 0]) - 1e6


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym5", "coif1"])
@pytest.mark.parametrize("horizon", [1, 2, 7, 24, 30, 96, 97])
def test_band_energies_sum_to_the_energy(wavelet, horizon):
    error = np.random.default_rng(0).normal(size=(3, horizon, 2))
    levels = error_levels(horizon, FeatureSettings(wavelet=wavelet, levels=4))
    energy = band_energy(error, wavelet, levels)
    assert energy.shape == (3, levels + 1)
    assert energy.sum(axis=1) == pytest.approx(np.square(error).sum(axis=(1, 2)), rel=1e-10)


def test_bands_are_those_of_pywt():
    error = np.random.default_rng(0).normal(size=(2, 96, 3))
    energy = band_energy(error, "db4", 3)
    for b in range(2):
        single = [pywt.wavedec(error[b, :, c], "db4", mode="periodization", level=3) for c in range(3)]
        for band in range(4):
            assert energy[b, band] == pytest.approx(sum(float(np.sum(s[band] ** 2)) for s in single))


def test_a_tone_lies_in_its_band_and_a_constant_in_the_coarsest():
    steps = np.arange(96)
    fast = band_energy(np.cos(np.pi * steps)[None, :, None], "db4", 3)[0]
    flat = band_energy(np.ones((1, 96, 1)), "db4", 3)[0]
    assert error_bands(3) == ("A3", "D3", "D2", "D1")
    assert fast[3] / fast.sum() > 0.999
    assert flat[0] / flat.sum() > 0.999


@pytest.mark.parametrize(("horizon", "levels"), [(1, 0), (13, 0), (14, 1), (24, 1), (96, 3), (720, 4)])
def test_levels_follow_the_horizon_and_the_setting(horizon, levels):
    assert error_levels(horizon, FeatureSettings()) == levels
    result = judged(make(horizon, 1), *sample(2, horizon, 1))
    assert len(result.bands) == len(result.band_mse) == levels + 1


def test_an_unknown_wavelet_is_named():
    with pytest.raises(SettingsError, match="db99"):
        error_levels(96, FeatureSettings(wavelet="db99"))


def test_a_window_without_a_scored_point_is_nan_and_counted():
    origins, yhat, y, mask = sample(4, 6, 2, share=1.0)
    mask[2] = False
    yhat[2] = np.nan
    result = judged(make(6, 2), origins, yhat, y, mask)
    assert result.n_origins_unscored == 1
    assert np.isnan(result.origin_mse[np.searchsorted(result.origins, origins[2])])
    assert result.n_windows == 4
    assert result.n_points == 36
    assert math.isfinite(result.mse)


def test_nothing_scored_is_nan_not_zero():
    origins, yhat, y, mask = sample(3, 4, 2, share=0.0)
    result = judged(make(4, 2), origins, yhat, y, mask)
    assert math.isnan(result.mse)
    assert math.isnan(result.mase)
    assert np.isnan(result.band_mse).all()
    assert result.channels_without_mase == ("c0", "c1")
    rows = long_rows(result)
    json.dumps(rows, allow_nan=False)
    assert next(r for r in rows if r["metric"] == "mse")["value"] is None


def test_a_forecast_that_is_not_finite_is_an_error_where_it_is_scored():
    origins, yhat, y, mask = sample(3, 4, 2, share=1.0)
    yhat[1, 2, 1] = np.nan
    with pytest.raises(TrainingError, match=f"'c1', origin {origins[1]}, step 3"):
        make(4, 2).update(origins, yhat, y, mask)
    mask[1, 2, 1] = False
    make(4, 2).update(origins, yhat, y, mask)


def test_a_truth_that_is_not_finite_is_an_error():
    origins, yhat, y, mask = sample(3, 4, 2, share=1.0)
    y[0, 0, 0] = np.inf
    with pytest.raises(DataError, match="'c0'"):
        make(4, 2).update(origins, yhat, y, mask)


def test_an_origin_twice_and_no_origin_are_errors():
    origins, yhat, y, mask = sample(3, 4, 2)
    judge = make(4, 2)
    with pytest.raises(DataError, match="no forecast"):
        judge.result()
    judge.update(origins[:0], yhat[:0], y[:0], mask[:0])
    judge.update(origins, yhat, y, mask)
    judge.update(origins[1:2], yhat[1:2], y[1:2], mask[1:2])
    with pytest.raises(DataError, match=f"origin {origins[1]} was scored twice"):
        judge.result()


def test_shapes_are_checked():
    origins, yhat, y, mask = sample(3, 4, 2)
    with pytest.raises(ValueError, match="yhat"):
        make(5, 2).update(origins, yhat, y, mask)
    with pytest.raises(ValueError, match="seasonal"):
        make(4, 2, seasonal=[1.0])


@given(season=st.integers(1, 8), rows=st.integers(1, 30), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_seasonal_scale_against_loops(season, rows, seed):
    rng = np.random.default_rng(seed)
    values, observed = rng.normal(size=(40, 2)), rng.random((40, 2)) < 0.7
    got = seasonal_scale(values, observed, (3, 3 + rows), season)
    for c in range(2):
        pairs = [
            abs(values[t, c] - values[t - season, c])
            for t in range(3 + season, 3 + rows)
            if observed[t, c] and observed[t - season, c]
        ]
        assert got[c] == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


def test_seasonal_scale_knows_nothing_beyond_train():
    rng = np.random.default_rng(0)
    values, observed = rng.normal(size=(50, 3)), np.ones((50, 3), dtype=bool)
    before = seasonal_scale(values, observed, (0, 30), 4)
    values[30:] = 1e9
    assert (seasonal_scale(values, observed, (0, 30), 4) == before).all()
    with pytest.raises(SettingsError):
        seasonal_scale(values, observed, (0, 30), 0)


def test_seasonal_scale_ignores_leading_missing_values():
    values = np.array([[np.nan], [np.nan], [1.0], [3.0], [2.0]])
    assert seasonal_scale(values, ~np.isnan(values), (0, 5), 1) == pytest.approx([1.5])


def test_seasonal_naive_in_sample_has_mase_one():
    rng = np.random.default_rng(0)
    values, season = rng.normal(size=(60, 2)).cumsum(axis=0), 5
    seasonal = seasonal_scale(values, np.ones(values.shape, dtype=bool), (0, 60), season)
    center, scale = values.mean(axis=0), values.std(axis=0)
    z = (values - center) / scale
    origins = np.arange(season, 60)
    y, yhat = z[origins][:, None, :], z[origins - season][:, None, :]
    result = judged(make(1, 2, scale, seasonal), origins, yhat, y, np.ones(y.shape, dtype=bool))
    assert result.channel_mase == pytest.approx([1, 1])


@pytest.mark.parametrize("bad", [0.0, math.nan])
def test_a_channel_without_seasonal_scale_is_left_out_and_named(bad):
    origins, yhat, y, mask = sample(4, 6, 3)
    result = judged(make(6, 3, seasonal=[1.0, bad, 2.0]), origins, yhat, y, mask)
    assert result.channels_without_mase == ("c1",)
    assert math.isnan(result.channel_mase[1])
    assert result.mase == pytest.approx((result.channel_mase[0] + result.channel_mase[2]) / 2)
    rows = long_rows(result)
    by_metric = {r["metric"]: r for r in rows if r["group"] == "overall"}
    assert by_metric["n_channels_without_mase"]["value"] == 1
    assert by_metric["mase"]["n"] == result.channel_points[0] + result.channel_points[2]


def test_long_rows_hold_everything_once():
    origins, yhat, y, mask = sample(5, 96, 3)
    result = judged(make(96, 3), origins, yhat, y, mask)
    rows = long_rows(result)
    assert list(rows[0]) == ["metric", "group", "key", "value", "n"]
    keys = [(r["metric"], r["group"], r["key"]) for r in rows]
    assert len(set(keys)) == len(keys) == 8 + 3 * 5 + 96 * 2 + 4
    assert {r["group"] for r in rows} == {"overall", "channel", "channel_original", "step", "scale"}
    value = {k: r["value"] for k, r in zip(keys, rows, strict=True)}
    assert value["mse", "overall", "all"] == rounded(result.mse)
    assert value["mae", "step", "96"] == rounded(result.step_mae[95])
    assert sum(value["mse", "scale", b] for b in result.bands) == pytest.approx(result.mse, rel=1e-6)
    n = {k: r["n"] for k, r in zip(keys, rows, strict=True)}
    assert sum(n["mse", "step", str(h + 1)] for h in range(96)) == n["mse", "overall", "all"] == mask.sum()
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_origin_losses_are_plain_json():
    origins, yhat, y, mask = sample(4, 6, 2)
    mask[0] = False
    losses = origin_losses(judged(make(6, 2), origins, yhat, y, mask))
    assert losses["origin"] == sorted(origins.tolist())
    assert losses["mse"][losses["origin"].index(origins[0])] is None
    json.dumps(losses, allow_nan=False)


def test_rounding_keeps_eight_digits():
    assert rounded(123456.789012) == 123456.79
    assert rounded(1.23456789e-9) == 1.2345679e-9
    assert rounded(math.nan) is None
