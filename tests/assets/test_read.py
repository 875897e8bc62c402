"""Reading raw files: every habit that can be declared, and every fault named by file, column, row and fix."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest.fetch import obtain
from assets.ingest.read import read_raw, to_numbers
from assets.ingest.treat import treat
from data_contracts.catalog import MISSING_MARKS, Dataset, dataset_from, load_catalog
from wavecore.errors import DataError, SettingsError

GOOD = "date,a,b\n2024-01-01 00:00:00,1,10\n2024-01-01 01:00:00,2.5,-20\n2024-01-01 02:00:00,3e1,30\n"


def declared(**form: Any) -> Dataset:
    top = {k: form.pop(k) for k in ("step", "treatment", "constant_channels", "as_of") if k in form}
    mapping = {
        "title": "x", "description": "x", "source": {"kind": "own", "path": "own.csv"}, "step": "1h", "season": 24,
        "licence": {"name": "own"}, "splits": {"standard": {"validation": 1, "test": 1}}, "format": form, **top,
    }  # fmt: skip
    return dataset_from(mapping, "own", "own.yaml")


def read(tmp_path: Path, content: str | bytes, **form: Any) -> pl.DataFrame:
    path = tmp_path / "own.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_raw(path, declared(**form))


def wide(frame: pl.DataFrame) -> dict[str, list[float | None]]:
    return {str(k[0]): part["value"].to_list() for k, part in frame.group_by(["channel"], maintain_order=True)}


def hours(frame: pl.DataFrame) -> list[str]:
    first = frame["channel"][0]
    return [str(t) for t in frame.filter(pl.col("channel") == first)["timestamp"].to_list()]


def test_plain(tmp_path: Path) -> None:
    frame = read(tmp_path, GOOD)
    assert frame.schema["timestamp"] == pl.Datetime("us")
    assert wide(frame) == {"a": [1.0, 2.5, 30.0], "b": [10.0, -20.0, 30.0]}
    assert hours(frame)[1] == "2024-01-01 01:00:00"
    assert frame["row"].to_list() == [2, 3, 4] * 2


HABITS = {
    "bom": ("\ufeff" + GOOD, {}),
    "crlf": (GOOD.replace("\n", "\r\n"), {}),
    "cr": (GOOD.replace("\n", "\r"), {}),
    "no newline at the end": (GOOD[:-1], {}),
    "blank lines at the end": (GOOD + "\n\n", {}),
    "semicolons": (GOOD.replace(",", ";"), {"separator": ";"}),
    "tabs": (GOOD.replace(",", "\t"), {"separator": "\t"}),
    "decimal commas": (GOOD.replace(",", ";").replace("2.5", "2,5"), {"separator": ";", "decimal": ","}),
    "quotes": (GOOD.replace("date,a,b", '"date","a","b"').replace("2.5", '"2.5"'), {}),
    "blanks": (GOOD.replace(",", " , "), {}),
    "lines above": ("Export\nof today\n" + GOOD, {"skip_lines": 2}),
    "T and Z": (GOOD.replace(" 0", "T0").replace(":00,", ":00Z,"), {}),
    "without seconds": (GOOD.replace(":00,", ","), {}),
    "declared form": (GOOD.replace("2024-01-01 ", "01.01.2024 "), {"time_format": "%d.%m.%Y %H:%M:%S"}),
    "utf-16": (GOOD.encode("utf-16"), {"encoding": "utf-16"}),
    "latin-1": (GOOD.replace("date", "jäh").encode("latin-1"), {"encoding": "latin-1", "time": "jäh"}),
    "ignored": (GOOD.replace("\n", ",text\n"), {"ignore": ["text"], "channels": ["a", "b"]}),
}


@pytest.mark.parametrize("habit", HABITS)
def test_habits_of_real_files(tmp_path: Path, habit: str) -> None:
    content, form = HABITS[habit]
    frame = read(tmp_path, content, **form)
    assert wide(frame) == {"a": [1.0, 2.5, 30.0], "b": [10.0, -20.0, 30.0]}
    assert hours(frame) == ["2024-01-01 00:00:00", "2024-01-01 01:00:00", "2024-01-01 02:00:00"]
    assert frame["row"][0] == form.get("skip_lines", 0) + 2


def test_other_time_forms(tmp_path: Path) -> None:
    body = "t,a\n{},1\n{},2\n"
    for first, second, form, step, expected in [
        ("1704067200", "1704070800", "epoch_s", "1h", "2024-01-01 01:00:00"),
        ("1704067200000", "1704070800500", "epoch_ms", "1h", "2024-01-01 01:00:00.500000"),
        ("2024-01", "2024-02", "%Y-%m", "1mo", "2024-02-01 00:00:00"),
        ("1999", "2000", "%Y", "1y", "2000-01-01 00:00:00"),
        ("2024010100", "2024010101", "%Y%m%d%H", "1h", "2024-01-01 01:00:00"),
        ("2024-01-01", "2024-01-02", None, "1d", "2024-01-02 00:00:00"),
        ("2024-01-01T00:00:00+02:00", "2024-01-01T01:00:00+02:00", None, "1h", "2023-12-31 23:00:00"),
        ("2024-01-01T00:00+0200", "2024-01-01T01:00+0200", "%Y-%m-%dT%H:%M%z", "1h", "2023-12-31 23:00:00"),
        ("2024-01-01 00:00:00.25", "2024-01-01 00:00:00,5", None, "1s", "2024-01-01 00:00:00.500000"),
    ]:
        text = body.format(first, f'"{second}"' if "," in second else second)
        assert hours(read(tmp_path, text, time="t", time_format=form, step=step))[1] == expected


def test_time_in_several_columns(tmp_path: Path) -> None:
    text = "year,month,day,hour,a\n2024,1,9,23,1\n2024,1,10,0,2\n"
    frame = read(tmp_path, text, time=["year", "month", "day", "hour"], time_format="%Y %m %d %H")
    assert hours(frame) == ["2024-01-09 23:00:00", "2024-01-10 00:00:00"]


def test_long_form_in_any_order(tmp_path: Path) -> None:
    rows = [("b", 0, 10), ("a", 0, 1), ("b", 1, 20), ("a", 1, 2)]
    text = "unique_id,ds,y\n" + "".join(f"{c},2024-01-01 0{t}:00:00,{v}\n" for c, t, v in rows)
    frame = read(tmp_path, text, layout="long", time="ds")
    assert wide(frame) == {"b": [10.0, 20.0], "a": [1.0, 2.0]}
    assert frame["row"].to_list() == [2, 4, 3, 5]
    assert list(wide(read(tmp_path, text, layout="long", time="ds", channels=["a", "b"]))) == ["a", "b"]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    stamps = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1, 2), "1h", eager=True)
    frame = pl.DataFrame({"date": stamps, "a": [1, 2, 3], "b": [1.5, None, float("nan")]})
    frame.write_parquet(path)
    read_back = read_raw(path, declared(kind="parquet", treatment={"missing": "mask"}))
    assert wide(read_back) == {"a": [1.0, 2.0, 3.0], "b": [1.5, None, None]}
    assert read_back["row"][0] == 1
    with pytest.raises(DataError, match=r"own\.parquet, column 'b', rows 2, 3: no value"):
        read_raw(path, declared(kind="parquet"))
    frame.with_columns(pl.col("date").dt.replace_time_zone("Europe/Berlin")).write_parquet(path)
    read_back = read_raw(path, declared(kind="parquet", treatment={"missing": "mask"}))
    assert hours(read_back)[0] == "2023-12-31 23:00:00"
    frame.with_columns(pl.Series("a", ["1", "2", "x"])).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'a', row 3: 'x' is not a number"):
        read_raw(path, declared(kind="parquet"))
    frame.with_columns(pl.Series("a", [[1], [2], [3]])).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'a', row 1: holds List.*, not numbers"):
        read_raw(path, declared(kind="parquet"))


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -20])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "own.parquet"
    pl.DataFrame({"date": ["2024-01-01"] * 50, "a": list(range(50))}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"own\.parquet: .*(empty|truncated|no Parquet file)"):
        read_raw(path, declared(kind="parquet"))


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pl.DataFrame({"date": ["2024-01-01"] * 50, "a": list(range(50))}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[-60:-10] = b"\xff" * 50
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"own\.parquet: the Parquet file is damaged"):
        read_raw(path, declared(kind="parquet"))


LOCAL = [f"2024-10-27 0{h}:00:00" for h in (0, 1, 2, 2, 3)]
# What stands in the file, what is declared, and what each message must say.
BAD: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "empty file": ("", {}, ["the file is empty"]),
    "blank file": ("\n \n", {}, ["the file is empty"]),
    "header only": ("date,a,b\n", {}, ["line 1", "no row"]),
    "missing column": (
        GOOD,
        {"channels": ["a", "bb"]},
        ["line 1", "missing column 'bb'", "did you mean 'b'", "format.channels"],
    ),
    "missing time": (GOOD, {"time": "Date"}, ["line 1", "missing column 'Date'", "did you mean 'date'", "format.time"]),
    "extra column": (GOOD, {"channels": ["a"]}, ["extra column 'b'", "format.ignore", "datasets/own.yaml"]),
    "ignored column gone": (GOOD, {"ignore": ["c"]}, ["missing column 'c'", "format.ignore"]),
    "no channel": ("date\n2024-01-01\n", {}, ["no column beside the time"]),
    "column twice": (GOOD.replace("a,b", "a,a"), {}, ["line 1", "column 'a'", "more than once"]),
    "text": (GOOD.replace("2.5", "two"), {}, ["column 'a', line 3", "'two' is not a number", "format.missing_marks"]),
    "decimal comma": (
        GOOD.replace(",", ";").replace("2.5", "2,5"),
        {"separator": ";"},
        ["column 'a', line 3", "format.decimal"],
    ),
    "decimal point": (
        GOOD.replace(",", ";"),
        {"separator": ";", "decimal": ","},
        ["column 'a', line 3", "'2.5'", "format.decimal"],
    ),
    "thousands": (GOOD.replace("2.5", "2 500"), {}, ["column 'a', line 3", "'2 500'", "format.thousands"]),
    "bad thousands": (
        GOOD.replace(",", ";").replace("2.5", "2.50,1"),
        {"separator": ";", "decimal": ",", "thousands": "."},
        ["column 'a', line 3", "'2.50,1' is not a number"],
    ),
    "empty cell": (GOOD.replace("2.5", ""), {}, ["column 'a', line 3", "no value", "treatment.missing: mask"]),
    "NaN": (GOOD.replace("2.5", "NaN").replace("-20", "nan"), {}, ["column 'a', line 3", "no value", "also in 'b'"]),
    "NA": (GOOD.replace("2.5", "NA"), {}, ["column 'a', line 3", "no value", "treatment.missing: mask"]),
    "infinity": (GOOD.replace("2.5", "inf"), {}, ["column 'a', line 3", "infinity", "treatment.sentinels: [.inf"]),
    "overflow": (GOOD.replace("2.5", "1e999"), {}, ["column 'a', line 3", "infinity"]),
    "no timestamp": (GOOD.replace("2024-01-01 01:00:00", ""), {}, ["column 'date', line 3", "no timestamp"]),
    "bad timestamp": (
        GOOD.replace("01 01:00", "32 01:00"),
        {},
        ["column 'date', line 3", "'2024-01-32 01:00:00'", "format.time_format"],
    ),
    "other form": (
        GOOD,
        {"time_format": "%d.%m.%Y"},
        ["column 'date', lines 2, 3, 4", "%d.%m.%Y", "format.time_format"],
    ),
    "duplicate": (
        GOOD.replace("01 02:", "01 01:"),
        {},
        [
            "column 'date', line 4",
            "duplicate",
            "2024-01-01 01:00:00",
            "line 3",
            "treatment.irregular: resample",
            "timezone",
        ],
    ),
    "far duplicate": (GOOD.replace("01 02:", "01 00:"), {}, ["column 'date', line 4", "duplicate", "line 2"]),
    "unsorted": (
        GOOD.replace("01 01:", "01 05:"),
        {},
        ["column 'date', line 4", "unsorted", "02:00:00 comes after 2024-01-01 05:00:00", "sort the file"],
    ),
    "ragged": (GOOD.replace("2.5", "2.5,7"), {}, ["line 3", "4 cells where the header has 3"]),
    "short line": (GOOD.replace(",-20", ""), {}, ["line 3", "2 cells where the header has 3"]),
    "blank line": (GOOD.replace("2024-01-01 01:00:00,2.5,-20", ""), {}, ["line 3", "blank"]),
    "unquoted decimal commas": (
        "date,a\n2024-01-01,1,5\n2024-01-02,2,5\n",
        {},
        ["lines 2, 3", "3 cells where the header has 2", "separator"],
    ),
    "wrong separator": (GOOD.replace(",", ";"), {}, ["line 1", "column 'date;a;b'", "format.separator: ';'"]),
    "open quote": (GOOD.replace("2.5", '"2.5'), {}, ["line 3", "quotes"]),
    "not utf-8": (
        GOOD.replace("2.5", "2.5ä").encode("latin-1"),
        {},
        ["line 3", "(column 'a')", "0xe4", "format.encoding"],
    ),
    "not utf-8 in the header": (GOOD.replace("b", "bä").encode("latin-1"), {}, ["line 1", "0xe4", "format.encoding"]),
    "utf-16": (GOOD.encode("utf-16"), {}, ["UTF-16", "format.encoding: utf-16"]),
    "utf-16 without mark": (GOOD.encode("utf-16-le"), {}, ["line 1", "zero bytes"]),
    "mixed offsets": (
        "date,a\n2024-01-01T00:00+01:00,1\n2024-01-01T01:00+02:00,2\n",
        {},
        ["column 'date', line 3", "mixed time zones", "format.timezone"],
    ),
    "offset missing": (
        "date,a\n2024-01-01T00:00Z,1\n2024-01-01T01:00,2\n",
        {},
        ["column 'date', line 3", "no offset", "mixed time zones"],
    ),
    "offsets of another zone": (
        "date,a\n2024-06-01T00:00+02:00,1\n2024-06-01T00:00+01:00,2\n",
        {"timezone": "Europe/Berlin"},
        ["column 'date', line 3", "+01:00 is not that of Europe/Berlin", "mixed time zones"],
    ),
    "skipped hour": (
        "date,a\n2024-03-31 01:00:00,1\n2024-03-31 02:30:00,2\n",
        {"timezone": "Europe/Berlin"},
        ["column 'date', line 3", "skips that hour", "Etc/GMT-1"],
    ),
    "ambiguous hour once": (
        "date,a\n" + "".join(f"{t},1\n" for t in dict.fromkeys(LOCAL)),
        {"timezone": "Europe/Berlin"},
        ["column 'date', line 4", "twice", "shows it once", "format.ambiguous"],
    ),
    "ambiguous hour thrice": (
        "date,a\n" + "".join(f"{t},1\n" for t in [*LOCAL[:3], *LOCAL[2:]]),
        {"timezone": "Europe/Berlin"},
        ["column 'date', lines 4, 5, 6", "more often", "format.ambiguous"],
    ),
    "long: no id": (
        "unique_id,ds,y\n,2024-01-01,1\n",
        {"layout": "long", "time": "ds"},
        ["column 'unique_id', line 2", "no channel"],
    ),
    "long: unknown channel": (
        "unique_id,ds,y\na,2024-01-01,1\nc,2024-01-01,1\n",
        {"layout": "long", "time": "ds", "channels": ["a"]},
        ["column 'unique_id', line 3", "'c'", "format.channels"],
    ),
    "long: channel without rows": (
        "unique_id,ds,y\na,2024-01-01,1\n",
        {"layout": "long", "time": "ds", "channels": ["a", "b"]},
        ["column 'unique_id'", "no row", "'b'", "format.channels"],
    ),
    "long: duplicate": (
        "unique_id,ds,y\na,2024-01-01,1\nb,2024-01-01,1\na,2024-01-01,2\n",
        {"layout": "long", "time": "ds"},
        ["column 'ds', line 4", "duplicate", "line 2", "channel 'a'"],
    ),
    "long: value column": (
        "unique_id,ds,z\na,2024-01-01,1\n",
        {"layout": "long", "time": "ds"},
        ["missing column 'y'", "format.id and value"],
    ),
    "nothing below the skipped": (GOOD, {"skip_lines": 9}, ["format.skip_lines"]),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_named(tmp_path: Path, fault: str) -> None:
    content, form, said = BAD[fault]
    with pytest.raises(DataError) as error:
        read(tmp_path, content, **form)
    text = str(error.value)
    assert text.startswith("own.csv")
    assert "\n  fix: " in text
    for part in said:
        assert part in text


def test_a_time_format_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"format\.time_format: '%Y-%m-%d %M' cannot be used"):
        read(tmp_path, GOOD, time_format="%Y-%m-%d %M")


def test_long_lists_of_rows_are_cut(tmp_path: Path) -> None:
    text = "date,a\n" + "".join(f"2024-01-01 {h:02}:00:00,x\n" for h in range(20))
    with pytest.raises(DataError, match="lines 2, 3, 4, 5, 6 and 15 more") as error:
        read(tmp_path, text)
    assert error.value.rows == tuple(range(2, 22))
    assert error.value.columns == ("a",)


def test_rows_are_lines_even_where_quotes_span_lines(tmp_path: Path) -> None:
    text = 'date,a,note\n2024-01-01,1,"two\nlines"\n2024-01-02,x,""\n'
    with pytest.raises(DataError, match="column 'a', line 4: 'x'"):
        read(tmp_path, text, ignore=["note"], step="1d")


def test_masked_values_are_nulls(tmp_path: Path) -> None:
    text = GOOD.replace("2.5", "NA").replace("-20", "--")
    frame = read(tmp_path, text, missing_marks=["--"], treatment={"missing": "mask"})
    assert wide(frame) == {"a": [1.0, None, 30.0], "b": [10.0, None, 30.0]}


def test_resampled_files_may_repeat_and_step_back(tmp_path: Path) -> None:
    text = GOOD.replace("01 01:", "01 05:") + "2024-01-01 02:00:00,4,5\n"
    assert read(tmp_path, text, treatment={"irregular": "resample"}).height == 8


def test_local_time_becomes_utc(tmp_path: Path) -> None:
    text = "date,a\n" + "".join(f"{t},1\n" for t in LOCAL)
    frame = read(tmp_path, text, timezone="Europe/Berlin")
    assert [t[11:13] for t in hours(frame)] == ["22", "23", "00", "01", "02"]
    spring = "date,a\n" + "".join(f"2024-03-31 0{h}:00:00,1\n" for h in (0, 1, 3, 4))
    assert [t[11:13] for t in hours(read(tmp_path, spring, timezone="Europe/Berlin"))] == ["23", "00", "01", "02"]


def test_the_second_pass_is_found_although_one_of_its_quarters_is_missing(tmp_path: Path) -> None:
    quarters = [f"2024-10-27 02:{m:02}:00" for m in (0, 15, 45, 0, 15, 30, 45)]
    frame = read(tmp_path, "date,a\n" + "".join(f"{t},1\n" for t in quarters), timezone="Europe/Berlin", step="15m")
    assert [t[11:16] for t in hours(frame)] == ["00:00", "00:15", "00:45", "01:00", "01:15", "01:30", "01:45"]


@pytest.mark.parametrize(("which", "utc"), [("earliest", "00"), ("latest", "01")])
def test_an_hour_shown_once_may_be_declared(tmp_path: Path, which: str, utc: str) -> None:
    text = "date,a\n" + "".join(f"{t},1\n" for t in dict.fromkeys(LOCAL))
    assert hours(read(tmp_path, text, timezone="Europe/Berlin", ambiguous=which))[2][11:13] == utc


def test_each_channel_of_a_long_file_has_its_own_second_pass(tmp_path: Path) -> None:
    rows = "".join(f"{c},{t},1\n" for t in LOCAL for c in "ab")
    frame = read(tmp_path, "unique_id,ds,y\n" + rows, layout="long", time="ds", timezone="Europe/Berlin")
    stamps = frame.filter(pl.col("channel") == "b")["timestamp"].dt.hour().to_list()
    assert stamps == [22, 23, 0, 1, 2]


def test_offsets_of_the_declared_zone(tmp_path: Path) -> None:
    text = "date,a\n2024-10-27T02:00+02:00,1\n2024-10-27T02:00+01:00,2\n"
    assert hours(read(tmp_path, text, timezone="Europe/Berlin")) == ["2024-10-27 00:00:00", "2024-10-27 01:00:00"]


def test_whole_days_keep_their_dates(tmp_path: Path) -> None:
    text = "date,a\n2024-03-30,1\n2024-03-31,2\n2024-04-01,3\n"
    assert hours(read(tmp_path, text, timezone="Europe/Berlin", step="1d"))[1] == "2024-03-31 00:00:00"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_keep_their_bits(values: list[float]) -> None:
    for decimal in (".", ","):
        text = pl.Series([repr(v).replace(".", decimal) for v in values])
        found, bad = to_numbers(text, decimal, None, MISSING_MARKS)
        assert not bad.any()
        np.testing.assert_array_equal(found.to_numpy(), values)


@given(
    st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=20),
    st.sampled_from([(",", "."), (".", ","), (",", " ")]),
)
def test_thousands(values: list[int], marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    text = pl.Series([f"{v:,}".replace(",", thousands) + f"{decimal}5" for v in values])
    found, bad = to_numbers(text, decimal, thousands, MISSING_MARKS)
    assert not bad.any()
    assert found.to_list() == [v + (0.5 if v >= 0 else -0.5) for v in values]


@given(st.text(alphabet="0123456789.,+-eE xnaNif_", max_size=8))
def test_a_cell_is_a_number_only_if_it_is_one(cell: str) -> None:
    cell = cell.strip()
    found, bad = to_numbers(pl.Series([cell]), ".", None, MISSING_MARKS)
    try:
        number = float(cell.replace("_", "x"))
    except ValueError:
        number = None
    if bad[0]:
        assert number is None
    elif found[0] is None:
        assert cell in MISSING_MARKS or number != number
    else:
        assert number == found[0]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([".", ","]),
    st.sampled_from([None, "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %I:%M %p"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
)
def test_any_declared_form_round_trips(
    tmp_path_factory: pytest.TempPathFactory, separator: str, decimal: str, time_format: str | None, encoding: str,
    end: str, values: list[float],
) -> None:  # fmt: skip
    if separator == decimal:
        separator = ";"
    stamps = pl.datetime_range(pl.datetime(2024, 2, 28, 20), pl.datetime(2025, 1, 1), "1h", eager=True).head(
        len(values)
    )
    times = stamps.dt.strftime(time_format or "%Y-%m-%d %H:%M:%S").to_list()
    lines = [separator.join(("Zeit", "Größe"))]
    lines += [f"{t}{separator}{repr(v).replace('.', decimal)}" for t, v in zip(times, values, strict=True)]
    form = {
        "time": "Zeit",
        "separator": separator,
        "decimal": decimal,
        "time_format": time_format,
        "encoding": encoding,
    }
    frame = read(tmp_path_factory.mktemp("r"), (end.join(lines) + end).encode(encoding), **form)
    assert frame["value"].to_list() == values
    assert frame["timestamp"].to_list() == stamps.to_list()


def test_a_large_file_is_read_and_treated_fast(tmp_path: Path) -> None:
    rows, channels = 70_000, [f"c{i}" for i in range(7)]
    generator = np.random.default_rng(0)
    stamps = pl.datetime_range(pl.datetime(2016, 7, 1), pl.datetime(2020, 1, 1), "15m", eager=True).head(rows)
    pl.DataFrame({"date": stamps.dt.strftime("%Y-%m-%d %H:%M:%S")}).with_columns(
        [pl.Series(c, generator.normal(size=rows)) for c in channels]
    ).write_csv(tmp_path / "own.csv")
    dataset = declared(step="15m", channels=channels)
    start = time.perf_counter()
    frame, _ = treat(read_raw(tmp_path / "own.csv", dataset), dataset)
    assert frame.height == rows * 7
    assert time.perf_counter() - start < 3


@pytest.mark.data
@pytest.mark.parametrize(("name", "rows"), [("etth1", 17420), ("etth2", 17420), ("ettm1", 69680), ("illness", 966)])
def test_published_files(tmp_path: Path, name: str, rows: int) -> None:
    dataset = load_catalog(Path(__file__).parents[2] / "data_contracts").dataset(name)
    path = obtain(dataset, tmp_path, Path(os.environ["WAVECORE_DATA"]))
    frame, treated = treat(read_raw(path, dataset), dataset)
    assert (treated.steps, treated.missing, treated.sentinels) == (rows, {}, {})
    import pandas as pd

    expected = pd.read_csv(path, float_precision="round_trip").drop(columns="date")
    assert frame["channel"].unique(maintain_order=True).to_list() == list(expected.columns)
    np.testing.assert_array_equal(frame["value"].to_numpy().reshape(rows, -1), expected.to_numpy(dtype=np.float64))
