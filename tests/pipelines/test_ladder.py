"""The ladder: it does what is missing, seed by seed, and knows from `results/` alone what is done."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import run
from inside import Said, artifacts, copied, edit, fine, refused, up_to_date

import wavecore

ASK = ("ladder", "--benchmark", "tiny", "--stage", "dlinear,seasonal_naive", "--seeds", "2")


@pytest.fixture
def mine(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own, whose params ask for two seeds of dlinear."""
    root = copied(finished_project, tmp_path / "mine")
    text = (root / "params.yaml").read_text()
    at = text.index("    tiny:\n")
    (root / "params.yaml").write_text(
        text[:at] + text[at:].replace("      dlinear:\n", "      dlinear:\n        seeds: [1]\n", 1)
    )
    return root


def states(said: Said) -> list[tuple[str, int, str]]:
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert all((row["minutes"] is None) == (row["state"] == "done") for row in rows)
    return [(row["stage"], row["seed"], row["state"]) for row in rows]


def test_it_climbs_goes_on_and_ends(mine: Path) -> None:
    before = artifacts(mine)
    said = fine(mine, *ASK, "--dry-run", "--json")
    assert states(said) == [("seasonal_naive", 0, "done"), ("dlinear", 0, "done"), ("dlinear", 1, "missing")]
    assert "2 of 3 done; 0.0 hours left" in said.err
    assert artifacts(mine) == before, "a dry run changes nothing"

    said = fine(mine, *ASK, "--json")
    assert [step for step in said.steps if step.startswith("model")] == ["model tiny|dlinear"]
    assert "1 trained and judged now" in said.err
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert sorted((row["stage"], row["seed"]) for row in rows) == [
        ("dlinear", 0),
        ("dlinear", 1),
        ("seasonal_naive", 0),
    ]
    after = artifacts(mine)
    assert all(after[path] == data for path, data in before.items() if "seed=0" in path)
    up_to_date(mine)

    # What git has is enough to know that nothing is left.
    shutil.rmtree(mine / "store" / "models")
    assert {state for _, _, state in states(fine(mine, *ASK, "--dry-run", "--json"))} == {"done"}
    said = fine(mine, *ASK)
    assert said.steps == []
    assert "0 trained and judged now" in said.err

    edit(mine / "params.yaml", "steps: 120, batch_windows: 32", "steps: 121, batch_windows: 32")
    assert [state for _, _, state in states(fine(mine, *ASK, "--dry-run", "--json"))] == [
        "done", "of other settings", "of other settings"
    ]  # fmt: skip


def test_it_climbs_elsewhere_with_the_same_results(mine: Path, tmp_path: Path) -> None:
    """Exported, trained by a process that knows of no project, and taken: the files that a run here writes."""
    folder = tmp_path / "out"
    said = fine(mine, *ASK, "--export", str(folder))
    assert "1 to train and judge" in said.err
    assert "no result is there" in refused(mine, *ASK, "--take", str(folder))
    bare = tmp_path / "bare"
    shutil.copytree(Path(wavecore.__file__).parent, bare / "wavecore", ignore=shutil.ignore_patterns("__pycache__"))
    code = [sys.executable, "-m", "wavecore.ladder", str(folder)]
    done = run(bare, *code)
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["stage"], row["seed"], row["device"]) == ("dlinear", 1, "cpu")
    assert row["train_seconds"] > 0
    assert run(bare, *code).stdout == "", "what is done is not done again"

    # A hand in the results, and code that is not the project's, are seen.
    manifest = folder / "results" / "dlinear" / "seed=1" / "manifest.json"
    whole = manifest.read_text()
    for key, said_of in (("settings", "of other settings"), ("trained_by", "of other code")):
        manifest.write_text(json.dumps(json.loads(whole) | {key: "0" * 64}))
        assert said_of in refused(mine, *ASK, "--take", str(folder))
    manifest.write_text(whole)
    assert not (mine / "results" / "tiny" / "dlinear" / "seed=1").exists()

    assert "taken: dlinear seed 1" in fine(mine, *ASK, "--take", str(folder)).err
    assert {state for _, _, state in states(fine(mine, *ASK, "--dry-run", "--json"))} == {"done"}
    rows = [json.loads(line) for line in fine(mine, "leaderboard", "--json").out.splitlines()]
    assert {row["device"] for row in rows} == {"cpu"}
    taken = {path.name: path.read_bytes() for path in (mine / "results" / "tiny" / "dlinear" / "seed=1").iterdir()}
    summary = (mine / "results" / "tiny" / "dlinear" / "metrics.json").read_bytes()
    shutil.rmtree(mine / "results" / "tiny" / "dlinear" / "seed=1")
    fine(mine, *ASK)
    home = {path.name: path.read_bytes() for path in (mine / "results" / "tiny" / "dlinear" / "seed=1").iterdir()}
    assert taken == home
    assert summary == (mine / "results" / "tiny" / "dlinear" / "metrics.json").read_bytes()


def test_a_folder_that_is_no_exported_ladder_is_an_error(mine: Path, tmp_path: Path) -> None:
    assert "no exported ladder" in refused(mine, *ASK, "--take", str(tmp_path))
    assert "first the one" in refused(mine, *ASK, "--take", str(tmp_path), "--export", str(tmp_path))
    folder = tmp_path / "out"
    fine(mine, *ASK, "--export", str(folder))
    about = json.loads((folder / "ladder.json").read_text())
    (folder / "ladder.json").write_text(json.dumps(about | {"format": 9}))
    done = run(tmp_path, sys.executable, "-m", "wavecore.ladder", str(folder), check=False)
    assert done.returncode == 1
    assert "of format 9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_seed_that_params_do_not_ask_for_is_an_error(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "mine")
    message = refused(root, *ASK)
    for part in ("[0, 1]", "[0] for tiny dlinear", "overrides.benchmarks.tiny.dlinear"):
        assert part in message


def test_a_stage_that_is_not_there_is_named(finished_project: Path) -> None:
    assert "did you mean 'tokens'" in refused(finished_project, "ladder", "-b", "tiny", "-s", "tokenz")
