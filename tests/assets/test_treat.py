"""Treatment: nothing undeclared is done, nothing declared looks ahead, all that is done is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest.read import read_raw
from assets.ingest.sentinels import suspicious
from assets.ingest.treat import Treated, treat
from data_contracts.catalog import Dataset, dataset_from
from wavecore.errors import DataError

BASE = np.datetime64("2024-01-01T00:00:00", "us")
NAN = float("nan")


def declared(step: str = "1h", **more: Any) -> Dataset:
    mapping = {
        "title": "x", "description": "x", "source": {"kind": "own", "path": "own.csv"}, "step": step, "season": 24,
        "licence": {"name": "own"}, "splits": {"standard": {"validation": 1, "test": 1}}, **more,
    }  # fmt: skip
    return dataset_from(mapping, "own", "own.yaml")


def table(minutes: list[float], **channels: list[float]) -> pl.DataFrame:
    stamps = BASE + (np.array(minutes) * 60e6).astype("timedelta64[us]")
    parts = [
        pl.DataFrame(
            {
                "timestamp": stamps,
                "channel": [c] * len(stamps),
                "value": np.array(v, dtype=float),
                "row": np.arange(2, len(stamps) + 2),
            }
        )
        for c, v in channels.items()
    ]
    return pl.concat(parts).with_columns(
        pl.col("value").fill_nan(None), pl.col("channel").cast(pl.Enum(list(channels)))
    )


def matrix(frame: pl.DataFrame, channels: int) -> np.ndarray:
    return frame["value"].cast(pl.Float64).fill_null(NAN).to_numpy().reshape(-1, channels)


def test_a_regular_series_stays_as_it_is() -> None:
    frame, treated = treat(table([0, 60, 120], b=[1, 2, 3], a=[4, 5, 7]), declared())
    assert frame.columns == ["timestamp", "channel", "value"]
    assert frame.schema == {"timestamp": pl.Datetime("us"), "channel": pl.String, "value": pl.Float64}
    assert frame["channel"].to_list() == ["b", "a"] * 3
    np.testing.assert_array_equal(matrix(frame, 2), [[1, 4], [2, 5], [3, 7]])
    assert treated == Treated(6, 3, 2, "2024-01-01 00:00:00", "2024-01-01 02:00:00")
    assert treated.sentences() == ("3 steps of 2 channels from 2024-01-01 00:00:00 to 2024-01-01 02:00:00",)


def test_gaps_become_nulls_where_declared() -> None:
    frame, treated = treat(table([0, 60, 240], a=[1, NAN, 4], b=[5, 6, 7]), declared(treatment={"missing": "mask"}))
    np.testing.assert_array_equal(matrix(frame, 2), [[1, 5], [NAN, 6], [NAN, NAN], [NAN, NAN], [4, 7]])
    assert treated.steps_inserted == 2
    assert treated.missing == {"a": 3, "b": 2}
    assert frame["value"].null_count() == 5
    assert frame["value"].is_nan().sum() == 0


BAD: dict[str, tuple[pl.DataFrame, dict[str, Any], list[str]]] = {
    "missing timestamps": (
        table([0, 60, 240, 300], a=[1, 2, 3, 4]),
        {},
        ["column 'date', after line 3", "missing timestamps, 2 steps of 1h", "treatment.missing: mask"],
    ),
    "several gaps": (table([0, 120, 240, 420], a=[1, 2, 3, 4]), {}, ["after line 2", "in 3 gaps in all"]),
    "irregular": (
        table([0, 60, 130, 180], a=[1, 2, 3, 4]),
        {},
        ["column 'date', line 4", "irregular", "02:10:00", "treatment.irregular: resample"],
    ),
    "wrong step": (
        table([0, 15, 30, 45, 60], a=[1, 2, 3, 4, 5]),
        {},
        ["irregular", "most rows are 15m apart", "step in data_contracts"],
    ),
    "step too fine": (
        table([0, 60, 120, 180], a=[1, 2, 3, 4]),
        {"step": "15m"},
        ["missing timestamps", "most rows are 1h apart"],
    ),
    "value missing": (
        table([0, 60], a=[1, 2], b=[1, NAN]),
        {},
        ["column 'b', line 3", "no value", "treatment.missing: mask"],
    ),
    "duplicate": (table([0, 60, 60], a=[1, 2, 3]), {}, ["column 'date', line 4", "duplicate"]),
    "constant": (
        table([0, 60, 120], a=[1, 2, 3], b=[7, 7, 7]),
        {},
        ["column 'b'", "constant, always 7", "format.ignore", "constant_channels: keep"],
    ),
    "empty channel": (
        table([0, 60], a=[1, 2], b=[NAN, NAN]),
        {"treatment": {"missing": "mask"}},
        ["column 'b'", "no value at all", "format.ignore"],
    ),
    "sentinel": (
        table([0, 60, 120, 180], a=[5, 9, -9999, 7]),
        {},
        [
            "column 'a', line 4",
            "-9999 stands there once",
            "treatment.sentinels: [-9999]",
            "missing: mask",
            "sentinels_allowed",
        ],
    ),
    "after as_of": (table([0, 60], a=[1, 2]), {"as_of": "2023-01-01"}, ["later than as_of", "as_of in data_contracts"]),
    "a wrong year": (
        table([0, 60, 120, 60 * 24 * 365 * 100], a=[1, 2, 3, 4]),
        {"treatment": {"missing": "mask"}},
        ["lines 4, 5", "a gap of", "correct the timestamp"],
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_undeclared_faults_are_named(fault: str) -> None:
    frame, more, said = BAD[fault]
    with pytest.raises(DataError) as error:
        treat(frame, declared(**more))
    assert str(error.value).startswith("own.csv")
    for part in said:
        assert part in str(error.value)


def test_a_channel_of_a_long_file_that_lacks_a_step() -> None:
    frame = table([0, 60, 120], a=[1, 2, 3], b=[4, 5, 6]).filter(~((pl.col("channel") == "b") & (pl.col("row") == 3)))
    with pytest.raises(DataError, match=r"column 'b', time 2024-01-01 01:00:00: no row for 1 steps.*\n.*missing: mask"):
        treat(frame, declared())
    masked, treated = treat(frame, declared(treatment={"missing": "mask"}))
    np.testing.assert_array_equal(matrix(masked, 2), [[1, 4], [2, NAN], [3, 6]])
    assert (treated.steps_inserted, treated.missing) == (0, {"b": 1})


def test_declared_sentinels_become_nulls() -> None:
    frame, treated = treat(
        table([0, 60, 120, 180], a=[5, -9999, -9999, 7], b=[1, float("inf"), 2, 3]),
        declared(treatment={"missing": "mask", "sentinels": [-9999, float("inf")]}),
    )
    np.testing.assert_array_equal(matrix(frame, 2), [[5, 1], [NAN, NAN], [NAN, 2], [7, 3]])
    assert treated.sentinels == {"a": 2, "b": 1}
    assert treated.steps_inserted == 0


def test_allowed_sentinels_stay() -> None:
    frame, _ = treat(table([0, 60, 120, 180], a=[5, 9, -9999, 7]), declared(treatment={"sentinels_allowed": [-9999]}))
    assert frame["value"].min() == -9999


def test_constant_channels_may_be_kept() -> None:
    _, treated = treat(table([0, 60], a=[1, 2], b=[7, 7]), declared(constant_channels="keep"))
    assert treated.constant == ("b",)


def test_as_of_cuts_before_anything_is_judged() -> None:
    frame, treated = treat(table([0, 60, 120, 121], a=[1, 2, 3, NAN]), declared(as_of="2024-01-01 01:00:00"))
    assert frame["value"].to_list() == [1.0, 2.0]
    assert treated.after_as_of == 2


def test_resampling_takes_the_mean_up_to_the_label() -> None:
    frame, treated = treat(
        table([1, 30, 60, 61, 119, 120, 300], a=[1, 2, 6, 10, 20, 30, 5]),
        declared(treatment={"irregular": "resample", "missing": "mask"}),
    )
    assert frame["timestamp"].dt.hour().to_list() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(matrix(frame, 1)[:, 0], [3, 20, NAN, NAN, 5])
    assert (treated.averaged, treated.steps_inserted, treated.unfinished) == (6, 2, 0)


def test_a_bin_that_is_not_over_is_left_out() -> None:
    frame, treated = treat(
        table([0, 30, 60, 90, 119], a=[1, 2, 4, 8, 9]), declared(treatment={"irregular": "resample"})
    )
    assert frame["value"].to_list() == [1.0, 3.0]
    assert treated.unfinished == 2
    assert "unfinished" in " ".join(treated.sentences())


def test_resampling_a_regular_series_changes_no_bit() -> None:
    given_table = table([0, 60, 120], a=[0.1, 0.2, 0.7])
    plain, _ = treat(given_table, declared())
    resampled, _ = treat(given_table, declared(treatment={"irregular": "resample"}))
    assert resampled.equals(plain)


def test_gaps_of_a_resampled_series_need_a_declaration() -> None:
    with pytest.raises(DataError, match=r"column 'a', times 2024-01-01 01:00:00, 2024-01-01 02:00:00"):
        treat(table([0, 180], a=[1, 2]), declared(treatment={"irregular": "resample"}))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 600), min_size=3, max_size=60),
    st.integers(1, 599),
    st.sampled_from(["5m", "1h", "2h", "90m"]),
    st.randoms(use_true_random=False),
)
def test_no_label_knows_the_future(minutes: list[int], cut: int, step: str, shuffle: Any) -> None:
    """What comes after a moment, and in which order rows stand, changes nothing labelled up to that moment."""
    shuffle.shuffle(minutes)
    values = [float((7 * i + 3) % 11) for i in range(len(minutes))]
    dataset = declared(step, treatment={"irregular": "resample", "missing": "mask"}, constant_channels="keep")
    moment = BASE + np.timedelta64(cut, "m")
    changed = [v if m <= cut else v + 100 for m, v in zip(minutes, values, strict=True)]
    results = []
    for some in (values, changed):
        try:
            frame, _ = treat(table([float(m) for m in minutes], a=some), dataset)
        except DataError as error:
            assert "within one step" in str(error)  # noqa: PT017
            return
        results.append(frame.filter(pl.col("timestamp") <= moment))
    assert results[0].equals(results[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=40, unique=True), st.sampled_from(["1h", "1d", "1mo", "7d"]))
def test_masked_gaps_keep_every_value_at_its_time(positions: list[int], step: str) -> None:
    dataset = declared(step, treatment={"missing": "mask"})
    grid = dataset.parsed_step.stamps(BASE, 51)
    at = np.array(sorted(positions))
    frame = pl.DataFrame({"timestamp": grid[at], "channel": ["a"] * len(at), "value": at.astype(float), "row": at})
    out, treated = treat(frame, dataset)
    there = out.drop_nulls()
    assert there["timestamp"].to_list() == pl.Series(grid[at]).to_list()
    assert there["value"].to_list() == at.tolist()
    assert out.height == at[-1] - at[0] + 1 == treated.steps
    assert treated.steps_inserted == out.height - len(at)


def test_month_ends(tmp_path: Path) -> None:
    text = "date,a\n2024-01-31,1\n2024-02-29,2\n2024-04-30,4\n"
    (tmp_path / "own.csv").write_text(text)
    dataset = declared("1mo", treatment={"missing": "mask"})
    frame, _ = treat(read_raw(tmp_path / "own.csv", dataset), dataset)
    assert [str(t.date()) for t in frame["timestamp"]] == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]
    assert frame["value"].to_list() == [1.0, 2.0, None, 4.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 9, 7, -999], [-999.0]),
        ([-5.0, 9, 7, 2, 4, -999, -999], [-999.0]),
        ([5.0, 9, 7, -999, -9999, 8], [-9999.0, -999.0]),
        ([20.0, 30, 25, 9999], [9999.0]),
        ([20.0, 30, 25, 1e20], [1e20]),
        ([*range(20), 500.0, 500, 500], [500.0]),
        ([float(i % 7) for i in range(50)] + [65535], [65535.0]),
        # Not suspicious: a peak, a zero, a code amid like values, an impulse, too few to say.
        ([*range(20), 500.0], []),
        ([100.0, 101, 102, 0], []),
        ([900.0, 950, 999, 1050, 980], []),
        ([980.0, 990, 999], []),
        ([0.0] * 50 + [1.0] * 5, []),
        ([1.0, 999], []),
        ([-1200.0, -900, -999, -800], []),
        ([5.0] * 9, []),
        ([], []),
    ],
)
def test_what_looks_like_a_sentinel(values: list[float], expected: list[float]) -> None:
    assert sorted(v for v, _ in suspicious(np.array(values, dtype=float))) == sorted(expected)


@given(st.lists(st.floats(-50, 50), min_size=5, max_size=50), st.integers(1, 5))
def test_an_injected_sentinel_is_found_with_its_count(values: list[float], count: int) -> None:
    found = dict(suspicious(np.array(values + [-9999.0] * count)))
    if len(set(values)) >= 3 or min(values) >= 0:
        assert found == {-9999.0: count}
    assert suspicious(np.array(values + [-9999.0] * count), allowed=(-9999.0,)) == []
