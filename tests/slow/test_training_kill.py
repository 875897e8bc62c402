"""A training run that is killed goes on where its last checkpoint was, and ends with the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from killing import CLI, LONG, STEPS, Running, artifacts, assert_as_undisturbed, checkpointed, set_params

pytestmark = pytest.mark.slow


def test_a_killed_training_goes_on_and_ends_the_same(finished_project: Path, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("undisturbed", "killed")]
    for root in roots:
        shutil.copytree(finished_project, root, symlinks=True)
        set_params(root, LONG)
    undisturbed, killed = roots
    Running(undisturbed, *CLI, "run").finish()
    assert artifacts(undisturbed) != artifacts(finished_project)
    before = artifacts(killed)

    for reached in (STEPS // 4, STEPS // 2):
        attempt = Running(killed, *CLI, "run")
        assert attempt.wait_until(lambda least=reached: checkpointed(killed) >= least), attempt.text
        assert attempt.kill()
        assert {path: content for path, content in artifacts(killed).items() if "dlinear" in path} == {
            path: content for path, content in before.items() if "dlinear" in path
        }
    Running(killed, *CLI, "run").finish()

    timing = json.loads((killed / "store/runs/timings/tiny/dlinear/seed=0.json").read_text())
    assert timing["resumed_from"] >= STEPS // 2
    assert_as_undisturbed(killed, undisturbed)
