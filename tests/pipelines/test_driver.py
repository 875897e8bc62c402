"""The driver: only what is out of date runs, and what a command asks for is what happens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import make_project, wavecore
from inside import artifacts, copied, dvc, edit, entered, fine, locked, refused, up_to_date

from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import owner
from wavecore.errors import StorageError

EVERY_STEP = {
    "raw_series@tiny", "series@tiny", "windows@tiny.T128", "wavelet_coefficients@tiny.T128",
    "prompt_statistics@tiny.T128", "splits@tiny", "model@tiny.seasonal_naive", "model@tiny.dlinear",
    "evaluation@tiny.seasonal_naive", "evaluation@tiny.dlinear",
}  # fmt: skip
MODELS = {"model@tiny.seasonal_naive", "model@tiny.dlinear"}
EVALUATIONS = {"evaluation@tiny.seasonal_naive", "evaluation@tiny.dlinear"}
DATASET = "data_contracts/datasets/tiny.yaml"


@pytest.fixture
def mine(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own."""
    return copied(finished_project, tmp_path / "mine")


def seed_lists(root: Path) -> list[list[str]]:
    """The seed folders of dlinear's model, forecasts and results."""
    places = (root / "store" / "models", root / "store" / "evaluations", root / "results")
    return [sorted(p.name for p in (place / "tiny" / "dlinear").glob("seed=*")) for place in places]


def out_of_date(project: Project) -> set[str]:
    """What the driver would run first: steps whose own dependencies changed."""
    from pipelines.dvc import dirty
    from pipelines.dvc_files import default_steps

    return dirty(project, default_steps(project))


def test_a_second_run_does_nothing_and_a_new_seed_trains_itself_only(mine: Path) -> None:
    before, params = artifacts(mine), (mine / "params.yaml").read_text()
    said = fine(mine, "run")
    assert said.steps == []
    assert "everything was up to date" in said.err
    assert artifacts(mine) == before

    # Hours are not started unasked.
    edit(mine / "params.yaml", "limit_minutes: 60", "limit_minutes: 0.00001")
    ask = ("run", "--benchmark", "tiny", "--stage", "dlinear", "--seed", "1", "--json")
    message = refused(mine, *ask)
    for part in ("tiny dlinear seed 1", "pipeline.limit_minutes", "nothing was started", "--yes", "wavecore plan"):
        assert part in message
    assert artifacts(mine) == before

    old = mine / "store/models/tiny/dlinear/seed=0/model.safetensors"
    made = old.stat().st_mtime_ns
    said = fine(mine, *ask, "--yes")
    assert said.steps == ["model tiny|dlinear", "evaluation tiny|dlinear"]
    assert [json.loads(line)["seed"] for line in said.out.splitlines()] == [1]
    assert seed_lists(mine) == [["seed=0", "seed=1"]] * 3
    after = artifacts(mine)
    shared = {path for path in before if "/tiny/dlinear/" not in path or "/seed=0/" in path}
    assert {path: after[path] for path in shared} == {path: before[path] for path in shared}
    assert old.stat().st_mtime_ns == made
    assert after["/store/models/tiny/dlinear/seed=1/model.safetensors"] != old.read_bytes()
    edited = (mine / "params.yaml").read_text()
    with entered(mine) as project:
        assert project.settings().seeds_of("tiny", "dlinear") == (0, 1)
    comments = [line.split("#", 1)[1] for line in params.splitlines() if "#" in line]
    assert [line.split("#", 1)[1] for line in edited.splitlines() if "#" in line] == comments
    up_to_date(mine)


@pytest.mark.slow
def test_a_seed_that_is_no_longer_asked_for_goes_and_nothing_else(mine: Path) -> None:
    before, params = artifacts(mine), (mine / "params.yaml").read_text()
    edit(mine / "params.yaml", "seeds: [0]", "seeds: [0, 7]")
    fine(mine, "run")
    assert seed_lists(mine) == [["seed=0", "seed=7"]] * 3
    (mine / "params.yaml").write_text(params)
    fine(mine, "run")
    assert seed_lists(mine) == [["seed=0"]] * 3
    assert artifacts(mine) == before
    up_to_date(mine)


@pytest.mark.slow
def test_seeds_of_which_only_the_results_are_here_are_trained_and_judged_again(mine: Path) -> None:
    """As in a fresh clone: git has results/, nobody has models and forecasts."""
    edit(mine / "params.yaml", "seeds: [0]", "seeds: [0, 1]")
    run = ("run", "--benchmark", "tiny", "--stage", "dlinear")
    fine(mine, *run)
    before = artifacts(mine)
    for gone in ("store/models/tiny/dlinear", "store/evaluations/tiny/dlinear", ".dvc/cache"):
        shutil.rmtree(mine / gone)
    said = fine(mine, *run)
    assert said.steps[-2:] == ["model tiny|dlinear", "evaluation tiny|dlinear"]
    assert artifacts(mine) == before


def test_a_kill_while_entries_move_between_the_locks_loses_none(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import dvc_files

    names = EVERY_STEP | {"report"}
    write, files = dvc_files.write_text, [mine / f for f in ("dvc.yaml", "dvc.lock", "params.yaml")]
    start = {path: path.read_bytes() for path in files}
    for before_kill in range(20):
        for path, content in start.items():
            path.write_bytes(content)
        shutil.rmtree(mine / "pipelines" / "on_demand", ignore_errors=True)
        edit(mine / "params.yaml", "benchmarks: [tiny]", "benchmarks: [demo]")
        left = [before_kill]

        def killed(path: Path, text: str, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, text)

        with entered(mine) as project:
            monkeypatch.setattr(dvc_files, "write_text", killed)
            try:
                dvc_files.write_files(project)
            except KeyboardInterrupt:
                monkeypatch.undo()
            else:
                break
            assert set(dvc_files.entries(project)) == names, f"killed before write {before_kill}"
            dvc_files.write_files(project)
            assert set(dvc_files.entries(project)) >= EVERY_STEP, f"killed before write {before_kill}"
            assert "model@tiny.dlinear" in {s.name for s in dvc_files.known_steps(project)}
    assert before_kill == 4  # two files and their locks


def test_a_benchmark_moves_between_the_default_matrix_and_on_demand_without_running_again(mine: Path) -> None:
    before, on_demand = artifacts(mine), "pipelines/on_demand/dvc.lock"
    entries = {name: entry for name, entry in locked(mine).items() if name != "report"}
    assert set(entries) == EVERY_STEP
    edit(mine / "params.yaml", "benchmarks: [tiny]", "benchmarks: [demo]")
    said = fine(mine, "run", "--benchmark", "tiny")
    assert said.steps == []
    assert locked(mine, on_demand) == entries
    assert not any("tiny" in name for name in locked(mine))
    assert "tiny" not in (mine / "dvc.yaml").read_text()
    assert "model@demo" not in (mine / "pipelines/on_demand/dvc.yaml").read_text()
    shown = json.loads(dvc(mine, "metrics", "show", "--json").splitlines()[0])
    assert any("results/tiny/dlinear/metrics.json" in path for path in shown[""]["data"])

    edit(mine / "params.yaml", "benchmarks: [demo]", "benchmarks: [tiny]")
    said = fine(mine, "run")
    assert said.steps == []
    assert {name: entry for name, entry in locked(mine).items() if name != "report"} == entries
    # `demo` was on the matrix for a while, but was never run: no file knows it.
    assert not (mine / on_demand).exists()
    assert artifacts(mine) == before
    up_to_date(mine)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (DATASET, "season: 24", "season: 12", EVERY_STEP - {"prompt_statistics@tiny.T128"}),
        ("data_contracts/benchmarks/tiny.yaml", "horizon: 16", "horizon: 8", {"splits@tiny"} | MODELS | EVALUATIONS),
        ("params.yaml", "weight_decay: 0.0", "weight_decay: 0.5", {"model@tiny.dlinear"}),
        ("params.yaml", "steps: 120", "steps: 119", {"model@tiny.dlinear"}),
        ("params.yaml", "seeds: [0]", "seeds: [0, 1]", {"model@tiny.dlinear"}),
        ("params.yaml", "threads: 1", "threads: 2", {"model@tiny.dlinear"} | EVALUATIONS),
        ("params.yaml", "burst_threshold: 5.0", "burst_threshold: 4.0", {"wavelet_coefficients@tiny.T128"}),
        ("params.yaml", "lags: 5", "lags: 4", {"windows@tiny.T128", "prompt_statistics@tiny.T128"}),
        ("params.yaml", "sample_windows: 3", "sample_windows: 2", EVALUATIONS),
        ("params.yaml", "memory_mb: 128", "memory_mb: 64", set()),
        ("data_contracts/suites/windows.json", '"name": "windows"', '"name":  "windows"', {"windows@tiny.T128"}),
        ("wavecore/learn/loop.py", "import torch\n", "import torch  # here\n", MODELS),
        (
            "assets/tables.py",
            "import polars as pl\n",
            "import polars as pl  # here\n",
            EVERY_STEP - {"raw_series@tiny"},
        ),
        ("assets/scoring.py", "import numpy as np\n", "import numpy as np  # here\n", EVALUATIONS),
        ("assets/evaluation.py", "import dagster as dg\n", "import dagster as dg  # here\n", set()),
        ("wavecore/judge/metrics.py", "import numpy as np\n", "import numpy as np  # here\n", EVALUATIONS),
    ],
)
def test_an_edit_makes_just_what_reads_it_out_of_date(
    file: str, old: str, new: str, expected: set[str], finished_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.getbasetemp() / "edited"
    root = shared if shared.exists() else copied(finished_project, shared)
    whole = (root / file).read_text()
    edit(root / file, old, new)
    try:
        with entered(root) as project:
            assert out_of_date(project) == expected
    finally:
        (root / file).write_text(whole)


@pytest.mark.slow
def test_an_edited_yaml_runs_what_follows_and_the_same_result_stops_there(mine: Path) -> None:
    before = artifacts(mine)
    edit(mine / DATASET, "season: 24", "season: 12")
    said = fine(mine, "run")
    assert {"series tiny", "splits tiny", "model tiny|seasonal_naive", "evaluation tiny|seasonal_naive"} <= set(
        said.steps
    )
    assert not any(step.startswith("prompt") for step in said.steps)
    after = artifacts(mine)
    assert after["/results/tiny/seasonal_naive/metrics.json"] != before["/results/tiny/seasonal_naive/metrics.json"]
    unchanged = artifacts(mine, "raw", "series", "windows", "wavelets", "prompts", "splits")
    assert unchanged == {path: before[path] for path in unchanged}
    weights = "/store/models/tiny/dlinear/seed=0/model.safetensors"
    assert after[weights] == before[weights]
    up_to_date(mine)


@pytest.mark.slow
def test_a_first_run_on_demand_lands_in_the_file_on_demand(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project", benchmarks=("demo",))
    fine(root, "run", "--benchmark", "tiny", "--stage", "seasonal_naive")
    assert set(locked(root, "pipelines/on_demand/dvc.lock")) == {n for n in EVERY_STEP if "dlinear" not in n}
    assert locked(root) == {}
    edit(root / "params.yaml", "benchmarks: [demo]", "benchmarks: [tiny]")
    edit(root / "params.yaml", "stages: [seasonal_naive, dlinear]", "stages: [seasonal_naive]")
    assert fine(root, "run").steps == []
    up_to_date(root)


def test_runs_whose_process_is_gone_are_marked_as_failed() -> None:
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


def test_what_changes_while_it_is_accepted_is_not_accepted(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import accept, dvc

    with (mine / "assets/scoring.py").open("a") as file:
        file.write("# a remark\n")
    before, lock, write = artifacts(mine), (mine / "dvc.lock").read_bytes(), dvc.write_entries
    forecasts = mine / "store/evaluations/tiny/dlinear/seed=0/forecasts.parquet"

    def late(project: Project, changed: Mapping[str, dict[str, Any]]) -> None:
        forecasts.write_bytes(b"of a run beside this one")
        write(project, changed)

    monkeypatch.setattr(dvc, "write_entries", late)
    with entered(mine) as project, pytest.raises(StorageError, match=r"evaluation@tiny\.dlinear changed while"):
        accept.accept(project, "a remark")
    assert (mine / "dvc.lock").read_bytes() == lock
    assert not (mine / "results" / "accepted.jsonl").exists()
    # What was changed is seen, and made again.
    monkeypatch.undo()
    fine(mine, "run")
    assert artifacts(mine).keys() == before.keys()
    assert forecasts.read_bytes() == before["/" + str(forecasts.relative_to(mine))]


def test_an_acceptance_that_is_interrupted_leaves_what_was_there(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the locks would be those of the new code, and the same command would find no step out of date."""
    from pipelines import accept, dvc

    with (mine / "assets/scoring.py").open("a") as file:
        file.write("# a remark\n")
    lock, write = (mine / "dvc.lock").read_bytes(), dvc.write_entries

    def interrupted(project: Project, changed: Mapping[str, dict[str, Any]]) -> None:
        write(project, changed)
        assert (mine / "dvc.lock").read_bytes() != lock
        monkeypatch.setattr(dvc, "dvc", stopped)

    def stopped(*command: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(dvc, "write_entries", interrupted)
    with entered(mine) as project, pytest.raises(KeyboardInterrupt):
        accept.accept(project, "a remark")
    assert (mine / "dvc.lock").read_bytes() == lock
    assert not (mine / "results" / "accepted.jsonl").exists()
    monkeypatch.undo()
    assert "dlinear" in fine(mine, "accept", "--because", "a remark").out


def test_code_of_the_assets_that_a_weight_follows_from_is_not_taken_as_equal(mine: Path) -> None:
    """A model whose code changed is trained again, not committed as it lies there."""
    with (mine / "assets/fitting.py").open("a") as file:
        file.write("# a remark\n")
    model, judged = (mine / p / "tiny/dlinear/seed=0/manifest.json" for p in ("store/models", "results"))
    before = json.loads(model.read_text())
    wavecore(mine, "run", "--benchmark", "tiny", "--stage", "dlinear")
    after = json.loads(model.read_text())
    assert {key for key in after if after[key] != before[key]} == {"code_hash", "manifest_hash"}
    assert json.loads(judged.read_text())["trained_by"] == after["code_hash"]


def test_accept_takes_code_and_nothing_else(mine: Path) -> None:
    before, lock = artifacts(mine), (mine / "dvc.lock").read_bytes()
    assert "no step is out of date" in refused(mine, "accept", "--because", "nothing was changed")
    for module in ("assets/fitting.py", "wavecore/judge/metrics.py", "data_contracts/dataset.py"):
        with (mine / module).open("a") as file:
            file.write("# a remark\n")
    assert "no reason" in refused(mine, "accept", "--because", "  ")

    params = mine / "params.yaml"
    edit(params, "weight_decay: 0.0", "weight_decay: 0.5")
    message = refused(mine, "accept", "--because", "a remark")
    assert "model@tiny.dlinear" in message
    assert "model@tiny.seasonal_naive" not in message
    assert "params.yaml: train is modified" in message
    assert (mine / "dvc.lock").read_bytes() == lock
    assert artifacts(mine) == before  # no record of an acceptance either
    edit(params, "weight_decay: 0.5", "weight_decay: 0.0")

    said = fine(mine, "accept", "--because", "a remark; the tests of the room still pass")
    assert {line.split()[-1] for line in said.out.splitlines()} == MODELS | EVALUATIONS | {"series@tiny"}
    (entry,) = map(json.loads, (mine / "results" / "accepted.jsonl").read_text().splitlines())
    assert entry["because"] == "a remark; the tests of the room still pass"
    assert set(entry["steps"]) == MODELS | EVALUATIONS | {"series@tiny"}
    assert len(entry["code"]) == 2
    up_to_date(mine)
    # The lock files say what DVC itself would write.
    locks = (mine / "dvc.lock").read_bytes()
    dvc(mine, "commit", "-f", *sorted(entry["steps"]))
    assert (mine / "dvc.lock").read_bytes() == locks

    # What was accepted stands from then on: nothing is trained or scored again.
    fine(mine, "materialize", "model", "tiny|dlinear")
    fine(mine, "materialize", "evaluation", "tiny|dlinear")
    after = artifacts(mine)
    after.pop("/results/accepted.jsonl")
    assert after == before
    up_to_date(mine)
