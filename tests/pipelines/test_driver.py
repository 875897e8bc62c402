"""The driver: only what is out of date runs, and what a command asks for is what happens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dagster as dg
import pytest
from conftest import make_project
from inside import artifacts, command, copied, dvc, edit, entered, fine, locked, refused, up_to_date

from assets.producing import PROCESS_TAG
from assets.storage import owner


@pytest.fixture
def mine(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own."""
    return copied(finished_project, tmp_path / "mine")


def seed_lists(root: Path) -> list[list[str]]:
    """The seed folders of dlinear's model, forecasts and results."""
    places = (root / "store" / "models", root / "store" / "evaluations", root / "results")
    return [sorted(p.name for p in (place / "tiny" / "dlinear").glob("seed=*")) for place in places]


def test_a_second_run_does_nothing_and_a_new_seed_trains_itself_only(mine: Path) -> None:
    before, params = artifacts(mine), (mine / "params.yaml").read_text()
    said = fine(mine, "run")
    assert said.steps == []
    assert "everything was up to date" in said.err
    assert artifacts(mine) == before

    old = mine / "store/models/tiny/dlinear/seed=0/model.safetensors"
    made = old.stat().st_mtime_ns
    said = fine(mine, "run", "--benchmark", "tiny", "--stage", "dlinear", "--seed", "1", "--json")
    assert said.steps == ["model tiny|dlinear", "evaluation tiny|dlinear"]
    assert [json.loads(line)["seed"] for line in said.out.splitlines()] == [1]
    assert seed_lists(mine) == [["seed=0", "seed=1"]] * 3
    after = artifacts(mine)
    shared = {path for path in before if "/tiny/dlinear/" not in path or "/seed=0/" in path}
    assert {path: after[path] for path in shared} == {path: before[path] for path in shared}
    assert old.stat().st_mtime_ns == made
    assert after["/store/models/tiny/dlinear/seed=1/model.safetensors"] != old.read_bytes()
    edited = (mine / "params.yaml").read_text()
    assert "seeds: [1]" in edited or "seeds:\n" in edited
    comments = [line.split("#", 1)[1] for line in params.splitlines() if "#" in line]
    assert [line.split("#", 1)[1] for line in edited.splitlines() if "#" in line] == comments
    up_to_date(mine)

    (mine / "params.yaml").write_text(params)
    fine(mine, "run")
    assert artifacts(mine) == before
    assert seed_lists(mine) == [["seed=0"]] * 3
    up_to_date(mine)


def test_a_benchmark_on_demand_moves_to_the_default_matrix_without_running_again(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project", benchmarks=("demo",))
    fine(root, "run", "--benchmark", "tiny", "--stage", "seasonal_naive")
    names = {
        "raw_series@tiny", "series@tiny", "windows@tiny.T128", "wavelet_coefficients@tiny.T128",
        "prompt_statistics@tiny.T128", "splits@tiny", "model@tiny.seasonal_naive", "evaluation@tiny.seasonal_naive",
    }  # fmt: skip
    on_demand = "pipelines/on_demand/dvc.lock"
    assert set(locked(root, on_demand)) == names
    assert not any("tiny" in name for name in locked(root))
    assert "demo" in (root / "dvc.yaml").read_text()
    assert "tiny" not in (root / "dvc.yaml").read_text()
    before = artifacts(root)
    shown = json.loads(dvc(root, "metrics", "show", "--json").splitlines()[0])
    assert any("results/tiny/seasonal_naive/metrics.json" in path for path in shown[""]["data"])

    params = root / "params.yaml"
    edit(params, "benchmarks: [demo]", "benchmarks: [tiny]")
    edit(params, "stages: [seasonal_naive, dlinear]", "stages: [seasonal_naive]")
    said = fine(root, "run")
    assert said.steps == []
    assert names <= set(locked(root))
    assert not (root / on_demand).exists()
    assert artifacts(root) == before
    up_to_date(root)


def test_an_edited_yaml_invalidates_what_follows_from_it(mine: Path) -> None:
    before = artifacts(mine)
    edit(mine / "data_contracts/datasets/tiny.yaml", "season: 24", "season: 12")
    said = fine(mine, "run")
    assert {"series tiny", "splits tiny", "model tiny|seasonal_naive", "evaluation tiny|seasonal_naive"} <= set(
        said.steps
    )
    # What came out the same stops there.
    assert not any(step.startswith("prompt") for step in said.steps)
    after = artifacts(mine)
    assert after["/results/tiny/seasonal_naive/metrics.json"] != before["/results/tiny/seasonal_naive/metrics.json"]
    unchanged = artifacts(mine, "raw", "series", "windows", "wavelets", "prompts", "splits")
    assert unchanged == {path: before[path] for path in unchanged}
    assert (
        after["/store/models/tiny/dlinear/seed=0/model.safetensors"]
        == (before["/store/models/tiny/dlinear/seed=0/model.safetensors"])
    )
    up_to_date(mine)


def test_runs_whose_process_is_gone_are_marked_as_failed(finished_project: Path, tmp_path: Path) -> None:
    from pipelines.definitions import defs
    from pipelines.home import fail_orphans

    job = defs.resolve_job_def("retrain")
    with dg.DagsterInstance.ephemeral() as instance:
        started = dg.DagsterRunStatus.STARTED
        dead = f"{os.getpid()}-1"  # the id is in use, but by a process that began later
        gone = instance.create_run_for_job(job, tags={PROCESS_TAG: dead}, status=started)
        alive = instance.create_run_for_job(job, tags={PROCESS_TAG: owner()}, status=started)
        unknown = instance.create_run_for_job(job, status=started)
        assert fail_orphans(instance) == [gone.run_id]
        status = {run.run_id: run.status for run in instance.get_runs()}
        assert status[gone.run_id] == dg.DagsterRunStatus.FAILURE
        assert status[alive.run_id] == status[unknown.run_id] == started
        assert fail_orphans(instance) == []


def test_accept_takes_code_and_nothing_else(mine: Path) -> None:
    before, lock = artifacts(mine), (mine / "dvc.lock").read_bytes()
    assert "no step is out of date" in refused(mine, "accept", "--because", "nothing was changed")
    for room in ("learn/loop.py", "judge/metrics.py"):
        with (mine / "wavecore" / room).open("a") as file:
            file.write("# a remark\n")
    assert "no reason" in refused(mine, "accept", "--because", "  ")

    params = mine / "params.yaml"
    edit(params, "weight_decay: 0.0", "weight_decay: 0.5")
    message = refused(mine, "accept", "--because", "a remark")
    assert "model@tiny.dlinear" in message
    assert "model@tiny.seasonal_naive" not in message
    assert "params.yaml: train is modified" in message
    assert (mine / "dvc.lock").read_bytes() == lock
    assert not (mine / "results" / "accepted.jsonl").exists()
    edit(params, "weight_decay: 0.5", "weight_decay: 0.0")

    said = fine(mine, "accept", "--because", "a remark; the tests of the room still pass")
    assert {line.split()[-1] for line in said.out.splitlines()} == {
        f"{asset}@tiny.{stage}" for asset in ("model", "evaluation") for stage in ("seasonal_naive", "dlinear")
    }
    (entry,) = map(json.loads, (mine / "results" / "accepted.jsonl").read_text().splitlines())
    assert entry["because"] == "a remark; the tests of the room still pass"
    assert "model@tiny.dlinear" in entry["steps"]
    assert len(entry["code"]) == 2
    assert artifacts(mine, *("models", "evaluations")) == {
        p: b for p, b in before.items() if "/models/" in p or "/eval" in p
    }
    up_to_date(mine)

    # What was accepted stands from then on: a change of the other seeds trains nothing that is there.
    said = fine(mine, "run", "--stage", "dlinear", "--seed", "3")
    after = artifacts(mine)
    kept = [p for p in before if "/seed=0/" in p]
    assert {p: after[p] for p in kept} == {p: before[p] for p in kept}
    up_to_date(mine)


def test_hours_are_not_started_unasked(mine: Path) -> None:
    before = artifacts(mine)
    params = mine / "params.yaml"
    edit(params, "limit_minutes: 60", "limit_minutes: 0.00001")
    edit(params, "weight_decay: 0.0", "weight_decay: 0.5")
    message = refused(mine, "run")
    for part in ("tiny dlinear seed 0", "limit_minutes", "--yes", "wavecore plan"):
        assert part in message
    assert artifacts(mine) == before
    fine(mine, "run", "--yes")
    changed = "/store/models/tiny/dlinear/seed=0/model.safetensors"
    assert artifacts(mine)[changed] != before[changed]
    up_to_date(mine)
    with entered(mine) as project:
        assert project.settings().train_of("tiny", "dlinear").weight_decay == 0.5
