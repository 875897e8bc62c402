"""Windows: gathered batches against brute force, what is out of range, and that nothing sees the future."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavecore.errors import DataError
from wavecore.series.arrays import SeriesArrays, from_values
from wavecore.series.normalize import Scaler
from wavecore.series.windows import WindowData


def some_arrays(n: int = 60, channels: int = 3, missing: float = 0.1, seed: int = 0) -> SeriesArrays:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 3, (n, channels))
    values[rng.random(values.shape) < missing] = np.nan
    times = np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    return from_values(times, [f"c{i}" for i in range(channels)], values)


def some_data(window: int = 8, horizon: int = 4, **kwargs: float) -> WindowData:
    arrays = some_arrays(**kwargs)  # type: ignore[arg-type]
    return WindowData.from_arrays(arrays, Scaler.fit(arrays, (0, 40)), window, horizon)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.data())
def test_a_batch_is_what_slicing_gives(window: int, horizon: int, channels: int, draw: st.DataObject) -> None:
    arrays = some_arrays(40, channels, missing=0.2)
    scaler = Scaler.fit(arrays, (0, 30))
    data = WindowData.from_arrays(arrays, scaler, window, horizon)
    chosen = draw.draw(st.lists(st.integers(window, 40 - horizon), min_size=1, max_size=6))
    batch = data.batch(np.array(chosen))
    standard = scaler.transform(arrays.values).astype(np.float32)
    for i, o in enumerate(chosen):
        np.testing.assert_array_equal(batch.x[i].numpy(), standard[o - window : o])
        np.testing.assert_array_equal(batch.y[i].numpy(), standard[o : o + horizon])
        np.testing.assert_array_equal(batch.mask[i].numpy(), arrays.observed[o : o + horizon])
    assert batch.origin.tolist() == chosen
    assert batch.x.dtype == torch.float32


def test_numpy_and_torch_origins_give_the_same_batch() -> None:
    data = some_data()
    one, other = data.batch(np.array([9, 20], np.int32)), data.batch(torch.tensor([9, 20]))
    for name in ("x", "y", "mask", "origin"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_missing_targets_are_masked_and_leading_gaps_are_the_train_mean() -> None:
    arrays = some_arrays(missing=0)
    values = arrays.values.copy()
    values[:3, 0] = np.nan
    values[20, 1] = np.nan
    arrays = from_values(arrays.timestamps, arrays.channels, values)
    data = WindowData.from_arrays(arrays, Scaler.fit(arrays, (0, 40)), 8, 4)
    batch = data.batch(np.array([8, 18]))
    assert torch.equal(batch.x[0, :3, 0], torch.zeros(3))
    assert (~batch.mask).nonzero().tolist() == [[1, 2, 1]]


def test_origins_may_be_a_view_that_torch_does_not_take() -> None:
    rows = np.arange(8, 57)
    rows.flags.writeable = False
    assert some_data().batch(rows[::-3]).origin.tolist() == list(range(56, 7, -3))


@pytest.mark.parametrize("origin", [-1, 0, 7, 57, 60, 10**9])
def test_an_origin_out_of_range_is_named(origin: int) -> None:
    with pytest.raises(DataError, match=f"origin {origin} is out of range.*origins 8 to 56") as caught:
        some_data().batch(np.array([20, origin]))
    assert caught.value.rows == (origin,)


def test_the_first_and_the_last_origin_are_in_range() -> None:
    assert len(some_data().batch(np.array([8, 56])).x) == 2


def test_origins_must_be_whole_numbers() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        some_data().batch(np.array([9.0]))


def test_the_window_at_the_end_of_the_data() -> None:
    data = some_data()
    batch = data.future_batch()
    assert torch.equal(batch.x[0], data.values[-8:])
    assert batch.y.shape == batch.mask.shape == (1, 4, 3)
    assert not batch.mask.any()
    assert not batch.y.any()
    assert batch.origin.tolist() == [60]


def test_an_earlier_future_window_knows_no_targets_either() -> None:
    data = some_data(missing=0)
    batch = data.future_batch(30)
    assert torch.equal(batch.x, data.batch(np.array([30])).x)
    assert not batch.y.any()
    assert not batch.mask.any()


@pytest.mark.parametrize("origin", [7, 61])
def test_a_future_window_must_lie_inside_the_data(origin: int) -> None:
    with pytest.raises(DataError, match=f"origin {origin}"):
        some_data().future_batch(origin)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e300])
def test_a_value_that_is_no_number_is_named_by_channel_and_time(bad: float) -> None:
    arrays = some_arrays(missing=0)
    scaler = Scaler.fit(arrays, (0, 40))
    values = arrays.values.copy()
    values[50, 1] = bad
    broken = SeriesArrays(arrays.timestamps, arrays.channels, values, arrays.observed)
    with pytest.raises(DataError, match=r"'c1'.*2024-01-03T02:00") as caught:
        WindowData.from_arrays(broken, scaler, 8, 4)
    assert caught.value.columns == ("c1",)


def test_tensors_that_are_not_finite_are_refused() -> None:
    values = torch.zeros(20, 2)
    values[3, 1] = torch.nan
    with pytest.raises(DataError, match="row 3, channel 1"):
        WindowData(values, torch.ones(20, 2, dtype=torch.bool), 4, 2)


def test_fewer_rows_than_one_window() -> None:
    with pytest.raises(DataError, match="60 rows, one window needs 61"):
        some_data(window=61)


def test_values_after_the_window_change_no_input() -> None:
    arrays = some_arrays()
    scaler = Scaler.fit(arrays, (0, 40))
    for origin in (8, 30, 56):
        values = arrays.values.copy()
        values[origin:] = 1e6
        changed = SeriesArrays(arrays.timestamps, arrays.channels, values, arrays.observed)
        one = WindowData.from_arrays(arrays, scaler, 8, 4).batch(np.array([origin]))
        other = WindowData.from_arrays(changed, scaler, 8, 4).batch(np.array([origin]))
        assert torch.equal(one.x, other.x)
        assert not torch.equal(one.y, other.y)


def test_a_batch_is_a_copy() -> None:
    data = some_data()
    before = data.values.clone()
    data.future_batch().x.fill_(7)
    data.batch(np.array([9])).x.fill_(7)
    assert torch.equal(data.values, before)
