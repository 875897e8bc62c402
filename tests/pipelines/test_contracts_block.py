"""Broken data stops where it comes in: named, recorded, and with everything that was there before as it was."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from inside import artifacts, copied, entered, fine, refused, up_to_date

DATASET = "data_contracts/datasets/tiny.yaml"
OWN = "source: {kind: own, path: grid.csv}"
# What comes after `raw_series`: the raw file itself is taken as it is.
AFTER = ("series", "windows", "wavelets", "prompts", "splits", "models", "evaluations", "results")


def use_source(root: Path, source: str) -> None:
    """Let the dataset `tiny` come from somewhere else; its columns, step and splits stay."""
    path = root / DATASET
    lines = [source if line.startswith("source:") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def own_file(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project whose dataset has since become a user's own file, with the same bytes to begin with."""
    root = copied(finished_project, tmp_path_factory.mktemp("own") / "project")
    shutil.copy(root / "store/raw/tiny/tiny.csv", root / "grid.csv")
    use_source(root, OWN)
    return root


def set_cell(line: int, column: int, text: str) -> Callable[[list[str]], list[str]]:
    """Another text in one cell; line 1 is the header."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[line - 1].split(",")
        cells[column] = text
        return [*lines[: line - 1], ",".join(cells), *lines[line:]]

    return change


# Every habit of bad files is tested where files are read; here a few go the whole way through the command line.
BAD = {
    "nan": (set_cell(200, 1, "NaN"), ("grid.csv", "line 200", "'north'", "no value", "treatment.missing: mask")),
    "duplicate": (
        lambda lines: [*lines[:100], lines[99], *lines[100:]],
        ("grid.csv", "line 101", "'date'", "duplicate", "line 100"),
    ),
    "sentinel": (set_cell(400, 1, "-9999"), ("grid.csv", "line 400", "'north'", "-9999", "treatment.sentinels")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_stops_at_the_series(case: str, own_file: Path) -> None:
    change, expected = BAD[case]
    good = (own_file / "grid.csv").read_text()
    before, lock = artifacts(own_file, *AFTER), (own_file / "dvc.lock").read_text()
    lines = change(good.splitlines())
    (own_file / "grid.csv").write_text("\n".join(lines) + "\n" if lines else "")
    try:
        message = refused(own_file, "run")
    finally:
        (own_file / "grid.csv").write_text(good)
    for part in expected:
        assert part in message, message
    assert artifacts(own_file, *AFTER) == before
    now = (own_file / "dvc.lock").read_text()
    assert now[now.index("  series@tiny:") :] == lock[lock.index("  series@tiny:") :]


@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
def test_a_failed_check_is_recorded_with_rows_and_columns(declared: bool, own_file: Path) -> None:
    """A value of 1e200 is held for a sentinel; where the YAML says that it is real, the contract still refuses it."""
    from pipelines.home import instance_of

    good, yaml = (own_file / "grid.csv").read_text(), (own_file / DATASET).read_text()
    (own_file / "grid.csv").write_text("\n".join(set_cell(500, 2, "1e200")(good.splitlines())) + "\n")
    if declared:
        (own_file / DATASET).write_text(f"{yaml}treatment: {{sentinels_allowed: [1.0e+200]}}\n")
    before = artifacts(own_file, *AFTER)
    try:
        message = refused(own_file, "run")
    finally:
        (own_file / "grid.csv").write_text(good)
        (own_file / DATASET).write_text(yaml)
    name, column, row = (
        ("value_finite", "value", "2023-01-22 18:00:00") if declared else ("readable_as_declared", "industry", "500")
    )
    assert ("the contract 'series' is broken" in message) == declared
    with entered(own_file) as project, instance_of(project) as instance:
        (run,) = instance.get_runs(limit=1)
        assert run.status == dg.DagsterRunStatus.FAILURE
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        assert any(e.is_step_failure and e.step_key == "series" for e in events)
        assert not any(e.is_step_materialization for e in events)
        checks = {}
        for event in events:
            if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                checks[event.asset_check_evaluation_data.check_name] = event.asset_check_evaluation_data
        assert [n for n, check in checks.items() if not check.passed] == [name]
        assert checks[name].severity == dg.AssetCheckSeverity.ERROR
        assert checks[name].blocking
        assert column in checks[name].metadata["columns"].value
        assert row in str(checks[name].metadata["rows"].value)
        if declared:  # the other rules were looked at, too
            assert checks["timestamps_unique"].passed
        # What comes after was not even started.
        assert {r.asset_selection for r in instance.get_runs()} <= {
            frozenset({dg.AssetKey(asset)}) for asset in ("raw_series", "series")
        }
    assert artifacts(own_file, *AFTER) == before


def test_fewer_rows_than_one_window(own_file: Path) -> None:
    good = (own_file / "grid.csv").read_text()
    (own_file / "grid.csv").write_text("\n".join(good.splitlines()[:101]) + "\n")
    before = artifacts(own_file, *AFTER[1:])
    try:
        message = refused(own_file, "run")
    finally:
        (own_file / "grid.csv").write_text(good)
    assert "100 rows" in message
    assert artifacts(own_file, *AFTER[1:]) == before


def test_the_wrong_published_file_is_refused(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "project")
    data = tmp_path / "data"
    data.mkdir()
    good = (root / "store/raw/tiny/tiny.csv").read_bytes()
    digest = hashlib.sha256(good).hexdigest()
    use_source(
        root, f"source: {{kind: published, path: grids/grid.csv, url: 'http://127.0.0.1:9/grid.csv', sha256: {digest}}}"
    )
    (data / "grid.csv").write_bytes(good.replace(b",", b";", 1))
    before = artifacts(root)
    message = refused(root, "run", WAVECORE_DATA=str(data))
    for part in ("grid.csv", "SHA-256", digest, hashlib.sha256(good.replace(b",", b";", 1)).hexdigest()):
        assert part in message
    assert artifacts(root) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("weight_decay:", "weight_decai:", ("params.yaml", "train", "'weight_decai'", "did you mean 'weight_decay'")),
        ("  benchmarks: [tiny]", "  benchmarks: [tinny]", ("'tinny'", "did you mean 'tiny'")),
        ("clip_norm: 0.0", "clip_norm: much", ("params.yaml", "train.clip_norm", "'much'")),
        ("patience: 10\n  precision", "patience: 10\n\tprecision", ("params.yaml", "line")),
        ("bootstrap: 1000", "bootstrap: 1000\n  bootstrap: 1", ("params.yaml", "bootstrap", "twice")),
    ],
)
def test_a_mistake_in_the_settings_is_named(old: str, new: str, expected: tuple[str, ...], own_file: Path) -> None:
    params = own_file / "params.yaml"
    whole, before = params.read_text(), artifacts(own_file)
    assert whole.count(old) == 1
    params.write_text(whole.replace(old, new))
    try:
        message = refused(own_file, "run")
    finally:
        params.write_text(whole)
    for part in expected:
        assert part in message, message
    assert artifacts(own_file) == before


@pytest.mark.parametrize(
    "args",
    [
        ("run", "--benchmark", "../tiny"),
        ("run", "--benchmark", "tiny'; drop table evaluation; --"),
        ("run", "--stage", "dlinear/../../x"),
        ("leaderboard", "--benchmark", "../../etc"),
        ("plan", "--benchmark", 'ti"ny'),
        ("materialize", "series", "../tiny"),
        ("materialize", "model", "tiny|../dlinear"),
        ("materialize", "../series", "tiny"),
        ("add", "grid.csv", "--name", "../grid"),
        ("add", "grid.csv", "--name", 'gr"id'),
        ("add", "../none.csv"),
    ],
)
def test_names_that_are_none_are_refused(args: tuple[str, ...], own_file: Path) -> None:
    args = tuple(str(own_file / a) if a == "grid.csv" else a for a in args)
    listed = sorted((own_file / "data_contracts").rglob("*.yaml"))
    before, params = artifacts(own_file), (own_file / "params.yaml").read_text()
    refused(own_file, *args)
    assert artifacts(own_file) == before
    assert sorted((own_file / "data_contracts").rglob("*.yaml")) == listed
    assert (own_file / "params.yaml").read_text() == params


def test_a_truncated_artifact_is_named_and_made_again(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "project")
    before = artifacts(root)
    weights = root / "store/models/tiny/dlinear/seed=0/model.safetensors"
    table = root / "store/splits/tiny/splits.parquet"
    for path in (weights, table):
        path.write_bytes(path.read_bytes()[:-100])
    broken = artifacts(root)
    message = refused(root, "materialize", "model", "tiny|dlinear")
    assert "splits@tiny" in message
    assert artifacts(root) == broken
    fine(root, "materialize", "splits", "tiny")
    fine(root, "materialize", "model", "tiny|dlinear")
    assert artifacts(root) == before
    up_to_date(root)
