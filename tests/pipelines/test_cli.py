"""The command line: what each command says, to people and to programs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from inside import command, copied, fine, refused

COMMANDS = ("run", "demo", "plan", "leaderboard", "compare", "ladder", "add", "sql", "sync", "accept", "doctor", "ui")


def test_help_names_every_command(finished_project: Path) -> None:
    said = fine(finished_project, "--help")
    for name in COMMANDS:
        assert f" {name} " in said.out
    assert " materialize " not in said.out  # DVC's way in, not a user's
    for name in COMMANDS:
        own = fine(finished_project, name, "--help").out
        assert f"wavecore {name}" in own
    assert "--benchmark" in fine(finished_project, "run", "--help").out


def test_leaderboard_for_programs_and_for_people(finished_project: Path) -> None:
    rows = [json.loads(line) for line in fine(finished_project, "leaderboard", "--json").out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert {"benchmark", "stage", "seed", "mse", "mae", "n_series"} <= set(row)
        assert row["benchmark"] == "tiny"
        assert row["n_series"] == 370
        assert isinstance(row["mse"], float)
    assert rows == sorted(rows, key=lambda row: row["mse"])
    dlinear = next(row for row in rows if row["stage"] == "dlinear")
    assert dlinear["against"] == "seasonal_naive"
    shown = fine(finished_project, "leaderboard", "--benchmark", "tiny").out
    assert shown.splitlines()[0].split()[:3] == ["benchmark", "stage", "seed"]
    assert f"{dlinear['mse']:.4g}" in shown
    assert fine(finished_project, "leaderboard", "--benchmark", "demo").out.startswith("no results yet")
    assert fine(finished_project, "leaderboard", "--benchmark", "demo", "--json").out == ""


def test_compare_for_programs_for_people_and_for_documents(finished_project: Path) -> None:
    (row,) = [json.loads(line) for line in fine(finished_project, "compare", "--json").out.splitlines()]
    board = [json.loads(line) for line in fine(finished_project, "leaderboard", "--json").out.splitlines()]
    error = {r["stage"]: r["mse"] for r in board}
    assert (row["stage"], row["against"], row["seeds"]) == ("dlinear", "seasonal_naive", "1:1")
    assert row["effect"] == pytest.approx(error["dlinear"] - error["seasonal_naive"], rel=1e-6)
    assert row["percent"] == pytest.approx(100 * row["effect"] / error["seasonal_naive"], rel=1e-6)
    assert row["low"] < row["effect"] < row["high"]
    assert row["train_seconds"] > 0
    assert row["against_seconds"] is None, "nothing is trained there"
    table = fine(finished_project, "compare", "--markdown").out.splitlines()
    assert len(table) == 3
    assert f"| `dlinear` | `seasonal_naive` | 1:1 | {1e3 * row['effect']:+.1f} [" in table[2]
    assert fine(finished_project, "compare", "-s", "seasonal_naive").out.startswith("nothing to compare yet")
    assert "did you mean 'dlinear'" in refused(finished_project, "compare", "-s", "dlinaer")
    assert "did you mean 'tiny'" in refused(finished_project, "compare", "-b", "tini")


def test_plan_says_what_is_to_do_and_what_fits(finished_project: Path, tmp_path: Path) -> None:
    (row,) = [
        json.loads(line)
        for line in fine(finished_project, "plan", "--stage", "dlinear", "--minutes", "2", "--json").out.splitlines()
    ]
    assert {"benchmark", "stage", "steps", "step_seconds", "minutes", "steps_that_fit"} <= set(row)
    assert row["steps"] == 120
    assert row["steps_that_fit"] > 120
    few = fine(finished_project, "plan", "--stage", "dlinear", "--minutes", "0.01", "--json").out
    assert json.loads(few)["steps_that_fit"] < row["steps_that_fit"]
    said = fine(finished_project, "plan").out
    assert said.count("up to date") == 10
    assert "to do" not in said
    # Where nothing was made yet, there is nothing to measure on; what to do about it is said.
    bare = copied(finished_project, tmp_path / "bare")
    shutil.rmtree(bare / "store")
    plan = command(bare, "plan")
    assert (plan.code, plan.out.count("to do")) == (0, 10)
    assert "wavecore run --benchmark tiny --stage seasonal_naive" in plan.err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("run", "--benchmark", "etth1_69"), "did you mean 'etth1_96'?"),
        (("run", "--stage", "dliner"), "did you mean 'dlinear'?"),
        (("plan", "--stage", "seasonal_naif"), "did you mean 'seasonal_naive'?"),
        (("leaderboard", "--benchmark", "tinyy"), "did you mean 'tiny'?"),
        (("materialize", "model", "tiny|dlinaer"), "did you mean 'dlinear'?"),
        (("materialize", "windows", "tiny.T99"), "tiny.T128"),
        (("materialize", "models", "tiny|dlinear"), "model"),
    ],
)
def test_an_unknown_name_gets_the_nearest(args: tuple[str, ...], expected: str, finished_project: Path) -> None:
    assert expected in refused(finished_project, *args)


def test_an_option_that_is_none_is_a_usage_error(finished_project: Path) -> None:
    said = command(finished_project, "run", "--benchmrk", "tiny")
    assert said.code == 2
    assert "--benchmrk" in said.err


def test_doctor_says_what_is_missing_and_reminds_of_licences(finished_project: Path, tmp_path: Path) -> None:
    said = command(finished_project, "doctor")
    assert "Traceback" not in said.err
    assert "Python" in said.out
    assert "params.yaml: tiny × seasonal_naive, dlinear" in said.out
    assert "CC BY-ND" not in said.out
    assert "ETTh1.csv is not on this machine yet" in said.out
    assert "WAVECORE_DATA" in said.out

    root = copied(finished_project, tmp_path / "project")
    raw = root / "store/raw/etth1"
    raw.mkdir()
    (raw / "ETTh1.csv").write_text("date,OT\n")
    said = command(root, "doctor")
    assert "ETTh1.csv is not on this machine yet" not in said.out
    assert "dataset etth1: its licence (CC BY-ND 4.0) forbids a push" in said.out
    assert "private remote" in said.out

    (root / "params.yaml").write_text("pipelines: {}\n")
    said = command(root, "doctor")
    assert said.code == 1
    assert "did you mean 'pipeline'?" in said.out
    assert "Traceback" not in said.err


def test_a_project_is_found_from_anywhere(finished_project: Path, tmp_path: Path) -> None:
    message = refused(tmp_path, "leaderboard")
    assert "there is no params.yaml" in message
    assert "WAVECORE_ROOT" in message
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert len(fine(finished_project, "leaderboard", "--json").out.splitlines()) == 2
    finally:
        os.chdir(before)


def test_adding_a_file_twice_or_under_a_taken_name_changes_nothing(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "project")
    file = tmp_path / "My load.csv"
    shutil.copy(root / "store/raw/tiny/tiny.csv", file)
    said = fine(root, "add", str(file)).out
    for part in (
        "wrote data_contracts/datasets/my_load.yaml",
        "wrote data_contracts/benchmarks/my_load.yaml",
        "params.yaml: my_load is on the default matrix",
        "next: wavecore run --benchmark my_load",
    ):
        assert part in said
    params = (root / "params.yaml").read_text()
    assert "benchmarks: [tiny, my_load]" in params
    assert "# adding one trains only that one" in params
    assert "my_load" in (root / "dvc.yaml").read_text()
    for args in ((str(file),), (str(file), "--name", "tiny")):
        assert "is there already" in refused(root, "add", *args)
        assert (root / "params.yaml").read_text() == params
