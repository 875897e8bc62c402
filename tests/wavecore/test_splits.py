"""Splits: borders from each form of the YAML, and windows that neither overlap, nor leak, nor get lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavecore.errors import DataError, SettingsError, WavecoreError
from wavecore.series.durations import parse, steps_in
from wavecore.series.splits import SPLITS, Borders, borders_from, origins, split_of_origin

WHERE = "data_contracts/datasets/load.yaml: splits.standard"


def make(spec, n=1000, step="1h", window=16, horizon=4, select_share=0.5):
    return borders_from(spec, n, step, window, horizon, select_share, WHERE)


@st.composite
def cases(draw):
    window, horizon = draw(st.integers(1, 30)), draw(st.integers(1, 20))
    train = draw(st.integers(window + horizon, window + horizon + 60))
    validation = draw(st.integers(2 * horizon + 2, 2 * horizon + 60))
    test = draw(st.integers(horizon, horizon + 40))
    unused = draw(st.integers(0, 20))
    spec = {"train": train, "validation": validation, "test": test}
    return borders_from(spec, train + validation + test + unused, "1h", window, horizon, 0.5, WHERE), window, horizon


# --- borders -------------------------------------------------------------------------------------------------------


def test_published_borders_of_etth1_give_the_published_number_of_test_windows():
    borders = make({"train": 8640, "validation": 2880, "test": 2880}, n=17420, window=512, horizon=96)
    assert borders == Borders((0, 8640), (8640, 10080), (10080, 11520), (11520, 14400))
    assert borders.validation == (8640, 11520)
    assert origins(borders, "test", 512, 96).size == 2785  # 19,495 test series of 7 channels


def test_shares_from_the_end_follow_the_published_convention():
    # illness: int(966 · 0.7) train rows, int(966 · 0.2) test rows, the rest validation
    borders = make({"validation": 0.1, "test": 0.2}, n=966, step="7d", window=104, horizon=24)
    assert (borders.train, borders.validation, borders.test) == ((0, 676), (676, 773), (773, 966))
    assert borders == make({"train": 0.7, "validation": 0.1, "test": 0.2}, n=966, step="7d", window=104, horizon=24)


def test_shares_are_exact_decimals():
    # In binary 100 · 0.29 is 28.999…
    assert make({"validation": 0.3, "test": 0.29}, n=100, window=4, horizon=2).test == (71, 100)


@pytest.mark.parametrize(
    ("spec", "step", "expected"),
    [
        ({"validation": "4w", "test": "2w"}, "1h", (672, 336)),
        ({"validation": "4w", "test": 30}, "1d", (28, 30)),
        ({"validation": "1y", "test": "2q"}, "1mo", (12, 6)),
        ({"validation": "1d12h", "test": "1d"}, "30m", (72, 48)),
    ],
)
def test_durations_from_the_end_leave_the_rest_to_train(spec, step, expected):
    borders = make(spec, n=5000, step=step, horizon=2)
    validation, test = expected
    assert borders.test == (5000 - test, 5000)
    assert borders.validation == (5000 - test - validation, 5000 - test)
    assert borders.train == (0, 5000 - test - validation)


def test_select_share_cuts_validation():
    borders = make({"train": 500, "validation": 100, "test": 100}, select_share=0.29)
    assert borders.select == (500, 529)
    assert borders.decide == (529, 600)


@pytest.mark.parametrize(
    ("spec", "n", "message"),
    [
        ({"train": 900, "validation": 80, "test": 21}, 1000, "1001 rows, the series has 1000"),
        ({"validation": 600, "test": 400}, 1000, "leave nothing of 1000 rows"),
        ({"train": 19, "validation": 80, "test": 80}, 1000, "train has 19 rows.*needs 20"),
        ({"train": 500, "validation": 7, "test": 80}, 1000, "select has 3 rows.*validation, which has 7"),
        ({"train": 500, "validation": 80, "test": 3}, 1000, "test has 3 rows"),
        ({"train": 500, "validation": 80}, 1000, "'test' is missing"),
        ({"train": 500, "valid": 80, "test": 80}, 1000, "unknown key 'valid'"),
        ({"train": 500, "validation": 0, "test": 80}, 1000, r"standard\.validation: 0 rows"),
        ({"train": 500, "validation": True, "test": 80}, 1000, "True is no length"),
        ({"train": 500, "validation": None, "test": 80}, 1000, "None is no length"),
        ({"validation": 0.2, "test": 80}, 1000, "80 stands among shares"),
        ({"validation": 0.2, "test": 1.2}, 1000, "1.2 stands among shares"),
        ({"validation": 0.5, "test": 0.5}, 1000, "no share for train"),
        ({"train": 0.6, "validation": 0.1, "test": 0.2}, 1000, "do not sum to 1"),
        ({"validation": "4 weeks", "test": 80}, 1000, "not a duration"),
        ({"validation": "90m", "test": 80}, 1000, "not a whole number of steps"),
        ({"validation": "1mo", "test": 80}, 1000, "not a whole number of steps"),
        ("4w", 1000, "expected keys and values"),
    ],
)
def test_bad_borders_are_errors_that_name_the_key(spec, n, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make(spec, n=n)
    assert WHERE in caught.value.problem
    assert caught.value.fix


def test_fewer_rows_than_one_window_and_horizon():
    with pytest.raises(DataError, match=r"19 rows.*need 20"):
        make({"validation": 4, "test": 4}, n=19)


@pytest.mark.parametrize("change", [{"window": 0}, {"horizon": 0}, {"select_share": 0.0}, {"select_share": 1.0}])
def test_impossible_geometry(change):
    with pytest.raises(SettingsError):
        make({"validation": 100, "test": 100}, **change)


@pytest.mark.parametrize(
    "ranges",
    [
        ((0, 10), (9, 20), (20, 30), (30, 40)),
        ((0, 10), (10, 20), (20, 20), (20, 40)),
        ((-1, 10), (10, 20), (20, 30), (30, 40)),
    ],
)
def test_borders_that_overlap_or_are_empty_are_refused(ranges):
    with pytest.raises(SettingsError):
        Borders(*ranges)


# --- durations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "h", "1", "1 h", "-1h", "1.5h", "1hour", "0h", "1h x", 3, None, "1M"])
def test_what_is_not_a_duration(text):
    with pytest.raises(WavecoreError, match="here"):
        parse(text, "here")


def test_months_and_minutes_are_not_mixed_up():
    assert steps_in("2h", "15m", "w") == 8
    assert steps_in("1y", "1mo", "w") == 12


# --- windows -------------------------------------------------------------------------------------------------------


@given(cases())
def test_targets_of_two_splits_never_share_a_row(case):
    borders, window, horizon = case
    rows = {
        split: {int(o) + h for o in origins(borders, split, window, horizon) for h in range(horizon)}
        for split in SPLITS
    }
    for i, a in enumerate(SPLITS):
        for b in SPLITS[i + 1 :]:
            assert not rows[a] & rows[b]


@given(cases())
def test_no_window_is_dropped_and_none_leaves_its_split(case):
    borders, window, horizon = case
    for split in (*SPLITS, "validation"):
        start, stop = borders.range_of(split)
        by_hand = [o for o in range(stop + 1) if o >= window and start <= o and o + horizon <= stop]
        found = origins(borders, split, window, horizon)
        assert found.tolist() == by_hand
        assert found.dtype == np.int64
        assert found.size == stop - max(start, window) - horizon + 1


@given(cases())
def test_inputs_lie_before_their_targets_and_inside_the_data(case):
    borders, window, horizon = case
    for split in SPLITS:
        found = origins(borders, split, window, horizon)
        assert (found - window >= 0).all()
        assert (found + horizon <= borders.test[1]).all()


@given(cases())
def test_names_of_splits_agree_with_the_ranges(case):
    borders, window, horizon = case
    rows = np.arange(borders.test[1] + 5)
    names = split_of_origin(borders, rows)
    for row, name in zip(rows, names, strict=True):
        inside = [split for split in SPLITS if borders.range_of(split)[0] <= row < borders.range_of(split)[1]]
        assert [name] == (inside or ["beyond"])
    for split in SPLITS:
        assert set(split_of_origin(borders, origins(borders, split, window, horizon))) == {split}


def test_a_split_without_one_window_and_an_unknown_split():
    borders = make({"train": 500, "validation": 80, "test": 80})
    with pytest.raises(SettingsError, match="holds no window"):
        origins(borders, "test", 16, 81)
    with pytest.raises(SettingsError, match="no split 'valid'"):
        origins(borders, "valid", 16, 4)
    with pytest.raises(SettingsError, match="before the first row"):
        split_of_origin(borders, np.array([-1]))
