"""A stranger's file: what can be seen is seen, said and declared, and the declaration reads the file."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest.generate import load_grid
from assets.ingest.read import read_raw
from assets.ingest.sizes import levels_of, shortest, sizes
from assets.ingest.sniff import Understanding, suggested_name, understand, write_yaml
from assets.ingest.treat import treat
from data_contracts.catalog import load_catalog
from data_contracts.durations import parse_step
from wavecore.errors import DataError, SettingsError
from wavecore.series.splits import borders_from, origins


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "data_contracts"
    for kind in ("datasets", "benchmarks"):
        (folder / kind).mkdir(parents=True)
    return folder


def stranger(path: Path, zone: str = "Europe/Berlin", rows: int = 6720, end: str = "\r\n") -> np.ndarray:
    """A file with the habits of real ones; gives the true values, [rows, 3], by UTC hour from 2024-02-01 on."""
    values = np.round(load_grid(3, rows, 3)[2], 2)
    lines = ["Zeit;Nord (MW);Industrie;Süd;Bemerkung"]
    for i in range(rows):
        if 3000 <= i < 3030:
            continue
        local = (datetime(2024, 2, 1, tzinfo=UTC) + timedelta(hours=i)).astimezone(ZoneInfo(zone))
        cells = [f"{v:.2f}".replace(".", ",") for v in values[i]]
        if i % 500 == 17:
            cells[1] = "-999"
        lines.append(f"{local:%d.%m.%Y %H:%M};{';'.join(cells)};{'Wartung' if i == 9 else ''}")
    path.write_bytes(("\ufeff" + end.join(lines) + end).encode())
    values[3000:3030] = np.nan
    values[17::500, 1] = np.nan
    return values


def declare_and_read(path: Path, catalog: Path, zone: str | None = None) -> tuple[Understanding, pl.DataFrame]:
    """The whole way: understand, write, load what was written, read and treat by it."""
    found = understand(path, timezone=zone)
    written = write_yaml(found, None, catalog)
    loaded = load_catalog(catalog)
    dataset, benchmark = loaded.dataset(written.name), loaded.benchmark(written.name)
    frame, treated = treat(read_raw(path, dataset), dataset)
    assert treated == found.treated
    spec = dataset.splits["standard"]
    borders = borders_from(spec, treated.steps, dataset.step, benchmark.window, benchmark.horizon, 0.5, "x")
    for split in ("train", "select", "decide", "test"):
        assert len(origins(borders, split, benchmark.window, benchmark.horizon)) >= 1
    return found, frame


def test_a_strangers_file(tmp_path: Path, catalog: Path) -> None:
    path = tmp_path / "Strom Süd 2024.csv"
    values = stranger(path)
    found, frame = declare_and_read(path, catalog)
    assert found.name == "strom_sued_2024"
    np.testing.assert_array_equal(frame["value"].fill_null(float("nan")).to_numpy().reshape(-1, 3), values)
    assert frame["timestamp"][0] == datetime(2024, 2, 1)
    assert frame["channel"].unique(maintain_order=True).to_list() == ["Nord (MW)", "Industrie", "Süd"]
    said = "\n".join(found.sentences)
    for part in (
        "separated by ';'", "decimal comma", "Europe/Berlin", "2024-10-27", "--timezone", "'Bemerkung' (text)",
        "-999 stands 13 times in 'Industrie'", "treatment.sentinels", "no row for 30 steps", "treatment.missing: mask",
        "6720 steps of 1h", "season 24",
    ):  # fmt: skip
        assert part in said
    text = (catalog / "datasets" / "strom_sued_2024.yaml").read_text()
    assert len(text.splitlines()) < 30
    assert "sentinels: [-999]" in text


@pytest.mark.parametrize(
    ("zone", "derived"),
    [("Europe/London", True), ("Europe/Helsinki", True), ("America/New_York", False), ("UTC", True)],
)
def test_the_zone_is_derived_or_asked_for(tmp_path: Path, catalog: Path, zone: str, derived: bool) -> None:
    path = tmp_path / "own.csv"
    values = stranger(path, zone)
    if not derived:
        with pytest.raises(
            DataError, match=r"own\.csv, column 'Zeit', lines \d+, \d+: .*\n.*--timezone America/New_York"
        ):
            understand(path)
    found, frame = declare_and_read(path, catalog, None if derived else zone)
    np.testing.assert_array_equal(frame["value"].fill_null(float("nan")).to_numpy().reshape(-1, 3), values)
    assert frame["timestamp"][0] == datetime(2024, 2, 1)
    assert (found.dataset.format.timezone is None) == (zone == "UTC")


def with_offsets(path: Path, zone: str | None) -> Path:
    lines = ["t,a"]
    for i in range(5000):
        utc = datetime(2024, 2, 1, tzinfo=UTC) + timedelta(hours=i)
        shown = utc.astimezone(ZoneInfo(zone)) if zone else utc.astimezone(timezone(timedelta(hours=i % 2)))
        lines.append(f"{shown.isoformat()},{i % 7}")
    return write(path, lines)


def test_changing_offsets_of_a_zone(tmp_path: Path, catalog: Path) -> None:
    found, frame = declare_and_read(with_offsets(tmp_path / "own.csv", "America/New_York"), catalog)
    assert found.dataset.format.timezone == "America/New_York"
    assert (frame["timestamp"][0], found.treated.steps) == (datetime(2024, 2, 1), 5000)


def test_changing_offsets_of_no_zone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"own\.csv, column 't', lines 3, 5, .*: mixed time zones"):
        understand(with_offsets(tmp_path / "own.csv", None))


def test_an_hour_shown_once_is_taken_for_summer_time(tmp_path: Path, catalog: Path) -> None:
    path = tmp_path / "own.csv"
    stranger(path, rows=7000)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    again = [i for i, line in enumerate(lines) if line.startswith("27.10.2024 02:00")]
    del lines[again[1]]
    found, _ = declare_and_read(write(path, lines), catalog, "Europe/Berlin")
    assert found.dataset.format.ambiguous == "earliest"
    assert any("summer time" in s and str(again[0] + 1) in s for s in found.sentences)


def test_a_lone_spring_gap_is_remarked(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    stranger(path, rows=2000)
    assert any("--timezone" in s and "put forward" in s for s in understand(path).sentences)
    found = understand(path, timezone="Europe/Berlin")
    assert found.treated.steps == 2000


def test_an_unknown_zone(tmp_path: Path) -> None:
    stranger(tmp_path / "own.csv", rows=500)
    with pytest.raises(SettingsError, match=r"--timezone: .*Berlin"):
        understand(tmp_path / "own.csv", timezone="Berlin")


def hourly(rows: int = 600) -> tuple[list[str], np.ndarray]:
    stamps, _, values = load_grid(1, rows, 2)
    return [t.replace("T", " ") for t in np.datetime_as_string(stamps, unit="s")], values


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def same(frame: pl.DataFrame, values: np.ndarray) -> None:
    got = frame["value"].fill_null(float("nan")).to_numpy().reshape(-1, values.shape[1])
    np.testing.assert_array_equal(got, values)


def test_long_form(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    lines = ["unique_id,ds,y,note"]
    lines += [
        f"{c},{t},{v!r},x"
        for j, c in enumerate(("s1", "s2"))
        for t, v in zip(times, values[:, j].tolist(), strict=True)
    ]
    found, frame = declare_and_read(write(tmp_path / "long.csv", lines), catalog)
    same(frame, values)
    assert (found.dataset.format.layout, found.dataset.format.ignore) == ("long", ("note",))
    assert "long form: 'unique_id' names the channel, 'y' holds its value" in found.sentences


def test_long_form_with_other_names_time_after_time(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    lines = ["when\tplace\tmegawatt"]
    lines += [f"{t}\t{c}\t{values[i, j]!r}" for i, t in enumerate(times) for j, c in enumerate(("hall 1", "hall 2"))]
    lines = [line.replace("np.float64(", "").replace(")", "") for line in lines]
    found, frame = declare_and_read(write(tmp_path / "long.tsv", lines), catalog)
    same(frame, values)
    assert found.dataset.format.id == "place"


def test_parquet(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    stamps = pl.Series(times).str.to_datetime().dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"n": range(len(times)), "t": stamps, "a": values[:, 0], "b": values[:, 1], "c": "x"})
    frame.write_parquet(tmp_path / "own.parquet")
    found, got = declare_and_read(tmp_path / "own.parquet", catalog)
    same(got, values)
    assert set(found.dataset.format.ignore) == {"n", "c"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%Y/%m/%d %H:%M", "2024/01/05 07:00"), ("%d.%m.%Y %H:%M:%S", "05.01.2024 07:00:00"),
        ("%m/%d/%Y %I:%M %p", "01/05/2024 07:00 AM"), ("%d/%m/%Y %H:%M", "05/01/2024 07:00"),
        ("%Y%m%d%H", "2024010507"), ("%d-%b-%Y %H:%M", "05-Jan-2024 07:00"), ("%d.%m.%y %H:%M", "05.01.24 07:00"),
        (None, "2024-01-05T07:00:00Z"), (None, "2024-01-05 07:00"), (None, "2024-01-05T07:00:00.000+00:00"),
    ],
)  # fmt: skip
def test_time_forms(tmp_path: Path, form: str | None, text: str) -> None:
    stamps = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(400)]
    if form is not None:
        texts = [f"{t:{form}}" for t in stamps]
    elif "T" in text:
        texts = [f"{t:%Y-%m-%dT%H:%M:%S}{text[19:]}" for t in stamps]
    else:
        texts = [f"{t:%Y-%m-%d %H:%M}" for t in stamps]
    assert texts[103] == text
    path = write(tmp_path / "own.csv", ["time,a"] + [f"{t},{i % 7}.5" for i, t in enumerate(texts)])
    found = understand(path)
    assert found.dataset.format.time_format == form
    assert (found.treated.steps, found.treated.first, found.dataset.step) == (400, "2024-01-01 00:00:00", "1h")
    assert found.dataset.treatment.irregular == "reject"


@pytest.mark.parametrize(
    ("step", "season"),
    [("15m", 96), ("30m", 48), ("1h", 24), ("1d", 7), ("7d", 52), ("1mo", 12), ("5m", 288), ("10s", 360)],
)
def test_steps_and_seasons(tmp_path: Path, step: str, season: int) -> None:
    rows = 400 if step in ("1d", "7d", "1mo") else 6000
    stamps = parse_step(step, "x").stamps(np.datetime64("1990-01-01T00:00:00", "us"), rows)
    lines = ["t,a"] + [f"{np.datetime_as_string(t, unit='s')},{i % 11}" for i, t in enumerate(stamps)]
    found = understand(write(tmp_path / "own.csv", lines))
    assert (found.dataset.step, found.dataset.season, found.treated.steps) == (step, season, rows)


def test_date_and_clock_in_two_columns(tmp_path: Path) -> None:
    stamps = [datetime(2024, 1, 1) + timedelta(minutes=30 * i) for i in range(500)]
    lines = ["Datum;Uhrzeit;Wert"] + [f"{t:%d.%m.%Y};{t:%H:%M};{i % 9},5" for i, t in enumerate(stamps)]
    found = understand(write(tmp_path / "own.csv", lines))
    assert found.dataset.format.time == ("Datum", "Uhrzeit")
    assert (found.dataset.step, found.treated.steps) == ("30m", 500)


def test_an_epoch(tmp_path: Path) -> None:
    lines = ["timestamp,a"] + [f"{1704067200 + 3600 * i},{i % 9}" for i in range(300)]
    found = understand(write(tmp_path / "own.csv", lines))
    assert (found.dataset.format.time_format, found.treated.first) == ("epoch_s", "2024-01-01 00:00:00")


def test_what_is_no_channel_is_left_out_and_said(tmp_path: Path) -> None:
    times, values = hourly()
    lines = ["No,date,a,flag,same,blank,text"]
    lines += [f"{i + 1},{t},{v!r},,5,,ok" for i, (t, v) in enumerate(zip(times, values[:, 0].tolist(), strict=True))]
    found = understand(write(tmp_path / "own.csv", lines))
    assert found.dataset.format.channels == ("a",)
    said = "\n".join(found.sentences)
    for part in ("'text' (text)", "'No' (only counts the rows)", "'flag', 'blank' (empty)", "'same' (constant)"):
        assert part in said


def test_irregular_rows_are_resampled_and_said(tmp_path: Path, catalog: Path) -> None:
    generator = np.random.default_rng(0)
    seconds = np.cumsum(generator.integers(290, 311, size=3000))
    stamps = np.datetime64("2024-01-01", "s") + seconds.astype("timedelta64[s]")
    path = write(tmp_path / "own.csv", ["t,a"] + [f"{t},{i % 13}" for i, t in enumerate(stamps)])
    found, _ = declare_and_read(path, catalog)
    assert (found.dataset.step, found.dataset.treatment.irregular) == ("5m", "resample")
    assert "treatment.irregular: resample" in "\n".join(found.sentences)


def test_doubled_and_unsorted_rows_are_said(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    rows = [f"{t},{v!r}" for t, v in zip(times, values[:, 0].tolist(), strict=True)]
    rows[100], rows[101] = rows[101], rows[100]
    path = write(tmp_path / "own.csv", ["t,a", *rows, rows[-1]])
    found, frame = declare_and_read(path, catalog)
    same(frame, values[:, :1])
    said = "\n".join(found.sentences)
    assert "1 value at a time that another row has" in said
    assert "the time goes back 1 time (first at row 103" in said


def test_marks_of_missing_values(tmp_path: Path) -> None:
    times, values = hourly()
    cells = [repr(v) for v in values[:, 0].tolist()]
    cells[5], cells[6], cells[7] = "", "-", "inf"
    path = write(tmp_path / "own.csv", ["t,a"] + [f"{t},{c}" for t, c in zip(times, cells, strict=True)])
    found = understand(path)
    assert found.treated.missing == {"a": 3}
    assert found.dataset.format.missing_marks == ("-",)
    assert found.dataset.treatment.sentinels == (float("inf"),)


def test_other_texts_are_an_error_until_they_are_named(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    cells = [repr(v) for v in values[:, 0].tolist()]
    cells[5] = "broken"
    path = write(tmp_path / "own.csv", ["t,a"] + [f"{t},{c}" for t, c in zip(times, cells, strict=True)])
    with pytest.raises(DataError, match=r"own\.csv, column 'a', line 7: 'broken' is not a number\n.*--missing TEXT"):
        understand(path)
    found = understand(path, missing=("broken",))
    write_yaml(found, None, catalog)
    dataset = load_catalog(catalog).dataset("own")
    assert treat(read_raw(path, dataset), dataset)[1].missing == {"a": 1}


BAD = {
    "empty": (b"", "own.csv: the file is empty"),
    "one column": (b"a\n1\n2\n", "own.csv, line 1: no columns"),
    "header only": (b"date,a\n", "own.csv, line 1: a header and no row"),
    "no time": (b"a,b\n1,2\n3,5\n", "no column holds timestamps"),
    "no header": (b"2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n", "the header holds the time '2024-01-01'"),
    "no numbers": (b"date,a\n2024-01-01,x\n2024-01-02,y\n", "no column beside the time holds numbers"),
    "constant": (
        b"date,a\n" + b"".join(b"2024-01-%02d,5\n" % d for d in range(1, 29)),
        "every channel is constant: 'a'",
    ),
    "too short": (
        b"date,a\n" + b"".join(b"2024-01-%02d,%d\n" % (d, d % 5) for d in range(1, 29)),
        "28 steps of 1d are too few",
    ),
    "ragged": (b"date,a\n" + b"2024-01-01,1\n" * 9 + b"2024-01-02,1,2\n", "line 11: 3 cells where the header has 2"),
    "zip": (b"PK\x03\x04rest", "a zip archive or a spreadsheet"),
    "broken Parquet": (b"PAR1" + b"x" * 50, "truncated"),
    "two names": (b"date,a,a\n2024-01-01,1,2\n", "names 'a' more than once"),
}


@pytest.mark.parametrize("fault", BAD)
def test_faults(tmp_path: Path, fault: str) -> None:
    content, said = BAD[fault]
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(DataError) as error:
        understand(tmp_path / "own.csv")
    assert said in str(error.value)
    assert "own.csv" in str(error.value)
    assert "fix: " in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        understand(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Strom Süd.csv", "strom_sued"),
        ("a.b.csv", "a"),
        ("../x'\"y.csv", "x_y"),
        ("2024-Load.parquet", "2024_load"),
        ("2024.csv", "series_2024"),
        ("On.csv", "series_on"),
        ("日本.csv", ""),
    ],
)
def test_suggested_names(file: str, name: str) -> None:
    assert suggested_name(Path(file)) == name


def test_names_that_are_taken(tmp_path: Path, catalog: Path) -> None:
    times, values = hourly()
    lines = ["t,a"] + [f"{t},{v!r}" for t, v in zip(times, values[:, 0].tolist(), strict=True)]
    found = understand(write(tmp_path / "own.csv", lines))
    with pytest.raises(SettingsError, match="no usable name"):
        write_yaml(found, "../x", catalog)
    first = write_yaml(found, None, catalog)
    assert first.name == "own"
    assert write_yaml(found, None, catalog) == first  # the same file again
    before = {path: path.read_bytes() for path in first.paths}
    (tmp_path / "other").mkdir()
    other = understand(write(tmp_path / "other" / "own.csv", lines))
    with pytest.raises(SettingsError, match=r"the name 'own' is taken: .*own\.yaml.*\n.*--name"):
        write_yaml(other, None, catalog)
    assert {path: path.read_bytes() for path in first.paths} == before
    (catalog / "benchmarks" / "third.yaml").write_text("dataset: own\nwindow: 48\nhorizon: 4\n")
    with pytest.raises(SettingsError, match=r"taken: .*benchmarks/third\.yaml"):
        write_yaml(found, "third", catalog)
    nameless = understand(write(tmp_path / "日本.csv", lines))
    with pytest.raises(SettingsError, match="--name"):
        write_yaml(nameless, None, catalog)
    assert write_yaml(nameless, "japan", catalog).name == "japan"


def test_a_file_in_the_project_is_named_from_its_root(catalog: Path) -> None:
    times, values = hourly()
    lines = ["t,a"] + [f"{t},{v!r}" for t, v in zip(times, values[:, 0].tolist(), strict=True)]
    found = understand(write(catalog.parent / "own.csv", lines))
    write_yaml(found, None, catalog, catalog.parent)
    assert 'path: "own.csv"' in (catalog / "datasets" / "own.yaml").read_text()


@pytest.mark.parametrize("channel", ["a: b", "no", "#x", "ü'\"", "- z", "{q}", "12", "null", "% [", " ~", "a,b"])
def test_any_channel_name_survives_the_yaml(tmp_path: Path, catalog: Path, channel: str) -> None:
    times, values = hourly()
    quoted = '"' + channel.replace('"', '""') + '"'
    lines = [f"t,{quoted}"] + [f"{t},{v!r}" for t, v in zip(times, values[:, 0].tolist(), strict=True)]
    _, frame = declare_and_read(write(tmp_path / "own.csv", lines), catalog)
    assert frame["channel"][0] == channel.strip()


def test_window_and_horizon_may_be_given(tmp_path: Path) -> None:
    times, values = hourly()
    lines = ["t,a"] + [f"{t},{v!r}" for t, v in zip(times, values[:, 0].tolist(), strict=True)]
    path = write(tmp_path / "own.csv", lines)
    found = understand(path, window=48, horizon=6)
    assert (found.window, found.horizon, found.levels) == (48, 6, levels_of(48))
    assert any("features.levels: 2" in s for s in found.sentences)
    with pytest.raises(SettingsError, match=r"own\.csv: 600 steps.*window of 5000.*\n.*--window"):
        understand(path, window=5000)
    with pytest.raises(SettingsError, match="horizon of 300"):
        understand(path, horizon=300)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30_000), st.sampled_from(["1m", "5m", "15m", "1h", "2h", "1d", "7d", "1mo", "1y", "7s"]))
def test_sizes_always_fit(steps: int, text: str) -> None:
    step = parse_step(text, "x")
    try:
        size = sizes(steps, step, "own.csv")
    except DataError:
        assert steps < shortest()
        return
    assert size.window % 8 == 0
    assert size.season <= size.window
    spec = {"validation": size.duration, "test": size.duration}
    borders = borders_from(spec, steps, text, size.window, size.horizon, 0.5, "x")
    assert len(origins(borders, "train", size.window, size.horizon)) >= size.window // 2
    for split in ("select", "decide", "test"):
        assert len(origins(borders, split, size.window, size.horizon)) >= size.horizon
    if steps >= 450 and step.microseconds >= 3_600_000_000:
        assert size.window >= 112


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "steps", "step"),
    [
        ("forecasting/ETT-small/ETTh1.csv", 17420, "1h"),
        ("forecasting/illness/national_illness.csv", 966, "7d"),
        ("anomaly/nab/data/realKnownCause/machine_temperature_system_failure.csv", 22683, "5m"),
        ("imputation/beijing_pm25/pollution.csv", 43824, "1h"),
    ],
)
def test_real_files(catalog: Path, file: str, steps: int, step: str) -> None:
    found, _ = declare_and_read(Path(os.environ["WAVECORE_DATA"]) / file, catalog)
    assert (found.treated.steps, found.dataset.step, found.treated.sentinels) == (steps, step, {})
