"""The ladder: it does what is missing, seed by seed, and knows from `results/` alone what is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inside import Said, artifacts, copied, edit, fine, refused, up_to_date

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


def test_a_seed_that_params_do_not_ask_for_is_an_error(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "mine")
    message = refused(root, *ASK)
    for part in ("[0, 1]", "[0] for tiny dlinear", "overrides.benchmarks.tiny.dlinear"):
        assert part in message


def test_a_stage_that_is_not_there_is_named(finished_project: Path) -> None:
    assert "did you mean 'tokens'" in refused(finished_project, "ladder", "-b", "tiny", "-s", "tokenz")
