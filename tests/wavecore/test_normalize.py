"""Arrays and scaling: gaps are filled forward only, the scaler knows the train rows alone, windows come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wavecore.errors import DataError, SettingsError
from wavecore.series.arrays import forward_fill, from_values
from wavecore.series.normalize import Scaler, instance_denormalize, instance_normalize, instance_statistics

holes = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 20), st.integers(1, 3)), elements=st.one_of(st.just(np.nan), st.floats(-9, 9))
)


def hours(n):
    return np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")


def series(values):
    values = np.asarray(values, dtype=float)
    return from_values(hours(len(values)), [f"c{j}" for j in range(values.shape[1])], values)


# --- arrays --------------------------------------------------------------------------------------------------------


@given(holes)
def test_a_gap_holds_the_last_value_before_it(values):
    arrays = series(values)
    for j in range(values.shape[1]):
        last = np.nan
        for i in range(values.shape[0]):
            last = last if np.isnan(values[i, j]) else values[i, j]
            np.testing.assert_equal(arrays.values[i, j], last)
    np.testing.assert_array_equal(arrays.observed, ~np.isnan(values))


@given(holes, st.data())
def test_the_fill_never_looks_ahead(values, data):
    cut = data.draw(st.integers(0, len(values)))
    changed = values.copy()
    changed[cut:] = 7.0
    np.testing.assert_array_equal(forward_fill(values)[:cut], forward_fill(changed)[:cut])


def test_the_callers_array_stays_as_it_was():
    values = np.array([[1.0], [np.nan]])
    series(values)
    assert np.isnan(values[1, 0])


@pytest.mark.parametrize(
    ("times", "channels", "values", "message"),
    [
        (hours(3), ["a", "b"], np.zeros((3, 1)), "shape"),
        (hours(2), ["a"], np.zeros((3, 1)), "shape"),
        (hours(0), ["a"], np.zeros((0, 1)), "empty"),
        (hours(2), ["a", "a"], np.zeros((2, 2)), "twice: a"),
        (hours(2)[::-1], ["a"], np.zeros((2, 1)), "do not rise at 2024-01-01T00"),
        (hours(1).repeat(2), ["a"], np.zeros((2, 1)), "do not rise"),
        (np.array(["NaT", "2024-01-01"], "datetime64[us]"), ["a"], np.zeros((2, 1)), "missing in rows 0"),
        (hours(2), ["a", "b"], np.array([[0, 0], [0, -np.inf]]), "infinite values in b at 2024-01-01T01"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(times, channels, values, message):
    with pytest.raises(DataError, match=message):
        from_values(times, channels, values)


# --- the train scaler ----------------------------------------------------------------------------------------------


def test_scaler_is_mean_and_biased_deviation_of_the_observed_train_values():
    arrays = series([[1, 5], [np.nan, 6], [3, 9], [100, -100]])
    scaler = Scaler.fit(arrays, (0, 3))
    np.testing.assert_allclose(scaler.center, [2.0, 20 / 3])
    np.testing.assert_allclose(scaler.scale, [1.0, np.std([5, 6, 9])])
    assert scaler.constant == ()


def test_scaler_does_not_see_beyond_the_train_rows():
    values = np.random.default_rng(0).normal(size=(50, 3))
    changed = values.copy()
    changed[30:] = 1e6
    a, b = Scaler.fit(series(values), (0, 30)), Scaler.fit(series(changed), (0, 30))
    np.testing.assert_array_equal(a.center, b.center)
    np.testing.assert_array_equal(a.scale, b.scale)


@given(hnp.arrays(np.float64, (12, 2), elements=st.floats(-1e6, 1e6)))
def test_scaler_inverse(values):
    scaler = Scaler.fit(series(values), (0, 12))
    back = scaler.inverse(scaler.transform(values))
    np.testing.assert_allclose(back, values, rtol=1e-9, atol=1e-9 * (1 + np.abs(values).max()))


def test_leading_gaps_become_the_train_mean():
    arrays = series([[np.nan], [2], [4]])
    scaler = Scaler.fit(arrays, (0, 3))
    scaled = scaler.transform(arrays.values)
    assert scaled[0, 0] == 0
    assert np.isfinite(scaled).all()


def test_a_constant_channel_has_scale_one_and_is_named():
    # The mean of ten times 0.1 is not exactly 0.1.
    arrays = series(np.column_stack([np.full(10, 0.1), np.arange(10)]))
    scaler = Scaler.fit(arrays, (0, 10))
    assert scaler.constant == ("c0",)
    assert scaler.scale[0] == 1
    assert (scaler.transform(arrays.values)[:, 0] == 0).all()


def test_a_channel_without_train_values_is_named():
    with pytest.raises(DataError, match="no value of c1") as caught:
        Scaler.fit(series([[1, np.nan], [2, np.nan], [3, 4]]), (0, 2))
    assert caught.value.columns == ("c1",)


def test_deviations_that_vanish_or_overflow():
    tiny = series([[0], [1e-200], [0]])
    assert Scaler.fit(tiny, (0, 3)).constant == ("c0",)
    with np.errstate(over="ignore"), pytest.raises(DataError, match=r"values of c0.*too large.*1e\+200"):
        Scaler.fit(series([[0], [1e200]]), (0, 2))


@pytest.mark.parametrize("train", [(0, 4), (-1, 2), (2, 2)])
def test_train_rows_outside_the_data(train):
    with pytest.raises(SettingsError, match="outside the data"):
        Scaler.fit(series([[1], [2], [3]]), train)


# --- the window's own scale ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(hnp.arrays(np.float64, (3, 16), elements=st.floats(-1e3, 1e3)))
def test_instance_normalization_is_the_formula_and_comes_back(x):
    mean, std = instance_statistics(x)
    np.testing.assert_allclose(mean, [row.sum() / 16 for row in x], atol=1e-9)
    np.testing.assert_allclose(std, [np.sqrt(((r - r.sum() / 16) ** 2).sum() / 16) for r in x], atol=1e-9)
    normal = instance_normalize(x, mean, std)
    np.testing.assert_allclose(normal, (x - mean[:, None]) / np.sqrt(std[:, None] ** 2 + 1e-5))
    np.testing.assert_allclose(instance_denormalize(normal, mean, std), x, atol=1e-8)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_torch_and_numpy_agree_on_any_axis(axis):
    x = np.random.default_rng(1).normal(2, 3, size=(4, 6, 5))
    tensor = torch.from_numpy(x)
    mean, std = instance_statistics(x, axis)
    t_mean, t_std = instance_statistics(tensor, axis)
    np.testing.assert_allclose(t_mean.numpy(), mean)
    np.testing.assert_allclose(t_std.numpy(), std)
    normal = instance_normalize(tensor, t_mean, t_std, axis)
    np.testing.assert_allclose(normal.numpy(), instance_normalize(x, mean, std, axis))
    np.testing.assert_allclose(instance_denormalize(normal, t_mean, t_std, axis).numpy(), x)


def test_a_constant_window_has_finite_values_and_gradients():
    x = torch.full((1, 8), 3.0, requires_grad=True)
    mean, std = instance_statistics(x)
    instance_normalize(x, mean, std).sum().backward()
    assert not mean.requires_grad
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
