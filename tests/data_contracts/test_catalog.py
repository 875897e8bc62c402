"""The catalog: what is in it is right, and what a hand can get wrong is said with file and key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from data_contracts.catalog import (
    Benchmark,
    GeneratedSource,
    PublishedSource,
    check_name,
    dataset_from,
    feature_key,
    load_catalog,
    parse_yaml,
)
from data_contracts.durations import Step, parse_step, step_text
from wavecore.errors import SettingsError
from wavecore.series.splits import borders_from

ROOT = Path(__file__).parents[2]

DATASET = """
title: Own
description: Some values.
source: {kind: own, path: own.csv}
step: 1h
season: 24
licence: {name: own}
splits:
  standard: {validation: 2d, test: 2d}
"""
BENCHMARK = "{dataset: own, window: 48, horizon: 8}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, text in (("datasets", DATASET), ("benchmarks", BENCHMARK)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "own.yaml").write_text(text)
    return tmp_path


def test_the_projects_catalog() -> None:
    catalog = load_catalog(ROOT / "data_contracts")
    assert {"demo", "tiny", "etth1", "etth2", "ettm1", "illness"} <= set(catalog.datasets)
    wanted = {f"{d}_{h}" for d in ("etth1", "etth2", "ettm1") for h in (96, 192, 336, 720)}
    assert {"demo", "tiny", "illness", *wanted} <= set(catalog.benchmarks)
    for name in ("etth1", "etth2", "ettm1"):
        dataset = catalog.dataset(name)
        assert dataset.licence.public_remote == "forbidden"
        assert isinstance(dataset.source, PublishedSource)
        assert "/main/" not in dataset.source.url
        assert "/master/" not in dataset.source.url
    for name in ("demo", "tiny"):
        assert isinstance(catalog.dataset(name).source, GeneratedSource)
        assert "enerated" in catalog.dataset(name).title


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("etth1_96", 17420),
        ("etth2_720", 17420),
        ("ettm1_96", 69680),
        ("illness", 966),
        ("nyc_taxi", 10320),
        ("demo", 6720),
        ("tiny", 900),
    ],
)
def test_borders_fit_the_data(name: str, rows: int) -> None:
    catalog = load_catalog(ROOT / "data_contracts")
    benchmark = catalog.benchmark(name)
    dataset = catalog.dataset(benchmark.dataset)
    spec = dataset.splits[benchmark.splits]
    borders = borders_from(spec, rows, dataset.step, benchmark.window, benchmark.horizon, 0.5, name)
    assert borders.test[1] <= rows
    if name == "etth1_96":
        assert (borders.train, borders.validation, borders.test) == ((0, 8640), (8640, 11520), (11520, 14400))
    if name == "illness":
        assert (borders.train[1], borders.test) == (int(0.7 * 966), (966 - int(0.2 * 966), 966))


def test_feature_key() -> None:
    assert feature_key(Benchmark("a", "etth1", 512, 96)) == "etth1.T512"
    assert feature_key(Benchmark("a", "etth1", 512, 96, splits="late")) == "etth1.T512.late"


@pytest.mark.parametrize("name", ["../x", "a/b", "A", 'a"b', "a'b", "", "a.b", "-a", "a b", "x" * 65, "ä", "a\n"])
def test_unusable_names(name: str) -> None:
    with pytest.raises(SettingsError, match=r"dataset: .* is no usable name"):
        check_name(name, "dataset")


@pytest.mark.parametrize("name", ["1e5", "2024", "12_000", "0x1f", "0o17", "0b1", "no", "on", "true", "null", "y"])
def test_names_that_yaml_reads_otherwise(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"'{name}' is no usable name: YAML reads it") as error:
        check_name(name, "dataset")
    assert f"'s{name}'" in error.value.fix
    assert check_name(f"s{name}", "dataset") == f"s{name}"


@given(st.text("0123456789_eboxfnyatrulsi", min_size=1, max_size=6))
def test_a_usable_name_is_itself_to_both_readers_of_yaml(name: str) -> None:
    try:
        check_name(name, "dataset")
    except SettingsError:
        return
    assert yaml.safe_load(name) == name
    for pure in (True, False):
        assert YAML(typ="safe", pure=pure).load(name) == name


BAD = [
    ("datasets", "step: 1h", "stepp: 1h", ["datasets/own.yaml", "'stepp'", "did you mean 'step'"]),
    ("datasets", "step: 1h", "step: fast", ["datasets/own.yaml", "step", "'fast'"]),
    ("datasets", "step: 1h", "step: 1mo1h", ["datasets/own.yaml", "step", "mixes months"]),
    ("datasets", "step: 1h\n", "", ["datasets/own.yaml", "'step' is missing"]),
    ("datasets", "season: 24", "season: day", ["datasets/own.yaml.season", "'day'"]),
    ("datasets", "season: 24", "season: 24\nseason: 12", ["datasets/own.yaml, line 7", "'season'", "twice"]),
    ("datasets", "kind: own", "kind: mine", ["datasets/own.yaml.source.kind", "'mine'"]),
    ("datasets", "kind: own, path: own.csv", "kind: own, file: own.csv", ["datasets/own.yaml.source", "'file'"]),
    ("datasets", "title: Own", "title: [Own", ["datasets/own.yaml, line"]),
    ("datasets", "title: Own", "name: own\ntitle: Own", ["datasets/own.yaml", "'name'"]),
    (
        "datasets",
        "season: 24",
        "season: 24\nformat: {sepparator: ';'}",
        ["own.yaml.format", "did you mean 'separator'"],
    ),
    ("datasets", "season: 24", "season: 24\nformat: {encoding: utf-9}", ["own.yaml.format", "encoding", "utf-9"]),
    ("datasets", "season: 24", "season: 24\nformat: {timezone: Berlin}", ["own.yaml.format", "timezone", "Berlin"]),
    ("datasets", "season: 24", "season: 24\nformat: {decimal: ','}", ["own.yaml.format", "separator and decimal"]),
    (
        "datasets",
        "season: 24",
        "season: 24\nformat: {channels: [a, a]}",
        ["own.yaml.format", "channels", "'a'", "twice"],
    ),
    ("datasets", "season: 24", "season: 24\ntreatment: {missing: drop}", ["own.yaml.treatment.missing", "'drop'"]),
    ("datasets", "season: 24", "season: 24\ntreatment: {sentinels: [-1]}", ["own.yaml.treatment", "missing: mask"]),
    ("datasets", "season: 24", "season: 24\nsegments: {feast: [2024-01-02]}", ["segments.feast", "first and last"]),
    ("datasets", "season: 24", "season: 24\nsegments: {feast: [2024-01-02, soon]}", ["segments.feast", "'soon'"]),
    ("datasets", "season: 24", "season: 24\nsegments: {feast: [2024-01-02, 2024-01-01]}", ["segments.feast", "before"]),
    ("datasets", "season: 24", 'season: 24\nsegments: {" ": [2024-01-01, 2024-01-02]}', ["segments: ' '", "name"]),
    ("datasets", "season: 24", "season: 24\nas_of: now", ["as_of", "'now'"]),
    ("datasets", "season: 24", "season: 24\nas_of: 2024-02-31", ["as_of", "no such moment"]),
    ("datasets", "season: 24", "season: 24\nas_of: 2024-02-03T04:05+01:00", ["as_of", "+01:00"]),
    ("datasets", "season: 24", "season: 24\nas_of: soon", ["datasets/own.yaml", "as_of", "'soon'"]),
    ("datasets", "validation: 2d", "valid: 2d", ["datasets/own.yaml", "splits.standard", "'valid'"]),
    ("datasets", "validation: 2d", "validation: 1.5", ["datasets/own.yaml", "splits.standard.validation", "1.5"]),
    ("datasets", "test: 2d", "test: soon", ["datasets/own.yaml", "splits.standard.test", "'soon'"]),
    ("benchmarks", "dataset: own", "dataset: owm", ["benchmarks/own.yaml.dataset", "'owm'", "did you mean 'own'"]),
    ("benchmarks", "dataset: own", "dataset: ../own", ["benchmarks/own.yaml.dataset", "no usable name"]),
    ("benchmarks", "horizon: 8", "horizont: 8", ["benchmarks/own.yaml", "did you mean 'horizon'"]),
    ("benchmarks", "horizon: 8", "horizon: 0", ["benchmarks/own.yaml", "horizon"]),
    ("benchmarks", "window: 48", "window: 8", ["benchmarks/own.yaml", "window", "patch"]),
    ("benchmarks", "window: 48", "window: 48, splits: late", ["benchmarks/own.yaml.splits", "'late'", "standard"]),
]


@pytest.mark.parametrize(
    ("kind", "old", "new", "said"), BAD, ids=[new.replace("\n", " ") or "gone" for _, _, new, _ in BAD]
)
def test_bad_yaml_is_named(folder: Path, kind: str, old: str, new: str, said: list[str]) -> None:
    path = folder / kind / "own.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SettingsError) as error:
        load_catalog(folder)
    for part in said:
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["A.yaml", "a b.yaml", "a'b.yaml", "a.b.yaml"])
def test_bad_file_names(folder: Path, name: str) -> None:
    (folder / "datasets" / name).write_text(DATASET)
    with pytest.raises(SettingsError, match="no usable name"):
        load_catalog(folder)


def test_files_that_would_be_overlooked(folder: Path) -> None:
    (folder / "datasets" / "other.yml").write_text(DATASET)
    with pytest.raises(SettingsError, match=r"other\.yml.*\n.*rename"):
        load_catalog(folder)


def test_not_utf8(folder: Path) -> None:
    (folder / "datasets" / "own.yaml").write_bytes(DATASET.replace("Own", "Öwn").encode("latin-1"))
    with pytest.raises(SettingsError, match=r"own\.yaml: not UTF-8"):
        load_catalog(folder)


def test_unknown_names_say_the_nearest(folder: Path) -> None:
    catalog = load_catalog(folder)
    with pytest.raises(SettingsError, match="did you mean 'own'"):
        catalog.dataset("own1")
    with pytest.raises(SettingsError, match="there are: own"):
        catalog.benchmark("zzzz")


def test_published_source_is_checked() -> None:
    source = {"kind": "published", "path": "a/b.csv", "url": "https://x/b.csv", "sha256": "0" * 64}
    rest = {k: v for k, v in parse_yaml(DATASET, "x").items() if k != "source"}
    dataset_from({**rest, "source": source}, "own", "own.yaml")
    for change in ({"path": "../b.csv"}, {"path": "/b.csv"}, {"sha256": "12"}, {"member": "b.csv"}):
        with pytest.raises(SettingsError, match=rf"own\.yaml\.source: {next(iter(change))}"):
            dataset_from({**rest, "source": source | change}, "own", "own.yaml")


def test_dates_stay_text() -> None:
    assert parse_yaml("as_of: 2024-01-02 03:00:00", "x") == {"as_of": "2024-01-02 03:00:00"}


@given(st.sampled_from(["s", "m", "h", "d"]), st.integers(1, 500), st.integers(2, 50))
def test_fixed_grids_round_trip(unit: str, count: int, rows: int) -> None:
    step = parse_step(f"{count}{unit}", "here")
    assert parse_step(step_text(step), "here") == step
    stamps = step.stamps(np.datetime64("2024-02-28T23:00:00", "us"), rows)
    index, exact, _ = step.positions(stamps)
    assert exact.all()
    assert index.tolist() == list(range(rows))
    ends, origin = step.ceiling(stamps + np.timedelta64(1, "us"))
    labels = step.stamps(origin, int(ends[-1]) + 1)[ends]
    # No label before its values, none later than a step after them.
    assert (labels > stamps).all()
    assert (labels - stamps <= np.timedelta64(step.microseconds + 1, "us")).all()


@pytest.mark.parametrize(
    ("first", "step", "month_end", "expected"),
    [
        ("2024-01-31", "1mo", False, ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]),
        ("2024-02-29", "1mo", True, ["2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]),
        ("2024-01-15", "1q", False, ["2024-01-15", "2024-04-15", "2024-07-15", "2024-10-15"]),
        ("2023-02-28", "1y", True, ["2023-02-28", "2024-02-29", "2025-02-28", "2026-02-28"]),
    ],
)
def test_calendar_grids(first: str, step: str, month_end: bool, expected: list[str]) -> None:
    parsed = parse_step(step, "here")
    stamps = parsed.stamps(np.datetime64(first, "us"), 4, month_end)
    assert stamps.astype("datetime64[D]").astype(str).tolist() == expected
    index, exact, _ = parsed.positions(stamps)
    assert exact.all()
    assert index.tolist() == [0, 1, 2, 3]


def test_months_end_at_the_first_of_the_next() -> None:
    stamps = np.array(
        ["2024-01-01T00:00", "2024-01-01T00:01", "2024-02-01T00:00", "2024-02-02"], dtype="datetime64[us]"
    )
    index, origin = Step(0, 1).ceiling(stamps)
    labels = Step(0, 1).stamps(origin, 4)[index].astype("datetime64[D]").astype(str).tolist()
    assert labels == ["2024-01-01", "2024-02-01", "2024-02-01", "2024-03-01"]
