"""DVC agrees with what runs make: hashes, status, clones, experiments, failures."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import dagster as dg
import pytest
from conftest import CHECKOUT, make_project
from inside import artifacts, copied, dvc, edit, entered, fine, git, locked, refused, stages_run, up_to_date

from assets.versions import data_version, dvc_hash
from pipelines.sync import NAMED, in_short


@pytest.fixture
def mine(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own, committed to git."""
    root = copied(finished_project, tmp_path / "mine")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "results")
    return root


def leaderboard(root: Path) -> list[dict[str, object]]:
    """The leaderboard's rows without the seconds, which belong to the machine that trained."""
    rows = [json.loads(line) for line in fine(root, "leaderboard", "--json").out.splitlines()]
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


def test_hashes_are_those_that_dvc_records(finished_project: Path) -> None:
    seen = 0
    for entry in locked(finished_project).values():
        for item in (*entry.get("deps", []), *entry.get("outs", [])):  # type: ignore[misc]
            assert dvc_hash(finished_project / item["path"]) == item["md5"], item["path"]
            seen += 1
    assert seen > 80


def test_hashes_of_odd_folders(finished_project: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    odd = root / "odd"
    for name, data in {
        "b/deep/er.txt": b"x",
        "b.txt": b"",
        "ü ö.bin": bytes(range(256)),
        ".hidden": b"h",
        "B/upper": b"1",
        "code/__pycache__/a.cpython-311.pyc": b"ignored",
        "code/b.pyc": b"ignored",
        "code/a.py": b"pass\n",
    }.items():
        (odd / name).parent.mkdir(parents=True, exist_ok=True)
        (odd / name).write_bytes(data)
    (odd / "empty").mkdir()
    single = root / "one file.csv"
    single.write_bytes(b"a\r\nb\n")
    dvc(root, "add", "odd", "one file.csv")
    assert f"md5: {dvc_hash(odd)}\n" in (root / "odd.dvc").read_text()
    assert f"md5: {dvc_hash(single)}\n" in (root / "one file.csv.dvc").read_text()
    assert dvc_hash(root / "absent") is None


def test_after_a_run_dvc_has_nothing_to_do(finished_project: Path, mine: Path) -> None:
    up_to_date(finished_project)
    before = artifacts(mine)
    began = time.monotonic()
    said = dvc(mine, "repro")
    # Under 3 s on an idle machine; here others are at work.
    assert time.monotonic() - began < 20
    assert stages_run(said) == set()
    assert artifacts(mine) == before
    assert git(mine, "status", "--porcelain") == ""


def test_the_pipeline_files_in_git_are_the_generated_ones(tmp_path: Path) -> None:
    from pipelines.dvc_files import write_files

    here = make_project(tmp_path / "project")
    (here / "pipelines" / "on_demand").mkdir(exist_ok=True)
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "pipelines/on_demand/dvc.yaml", "pipelines/on_demand/dvc.lock"):
        if (CHECKOUT / name).is_file():
            shutil.copy(CHECKOUT / name, here / name)
    git(here, "add", "-A")
    with entered(here) as project:
        assert not write_files(project), f"run `wavecore sync` and commit:\n{git(here, 'diff')}"


def test_lock_files_are_read_and_written_as_dvc_does() -> None:
    import ruamel.yaml

    from pipelines.dvc_files import ON_DEMAND, ROOT, _dumped, _dumped_lock, _parse, lock_of

    # DVC reads them with ruamel.yaml; without its parser in C every command takes twice as long.
    assert ruamel.yaml.__with_libyaml__
    for file in (ROOT, ON_DEMAND):
        text = (CHECKOUT / lock_of(file)).read_text(encoding="utf-8")
        assert _parse(text) == ruamel.yaml.YAML(typ="safe", pure=True).load(text)
        assert _dumped_lock(_parse(text)["stages"]) == text
    # A small rate is a number, a hash that looks like one is a text, in both directions.
    odd = {"a": {"params": {"rate": 1e-05, "none": None}, "md5": "12345678901234567890123456789e12", "1e5": "x" * 90}}
    assert ruamel.yaml.YAML(typ="safe", pure=True).load(_dumped_lock(odd))["stages"] == odd
    assert ruamel.yaml.YAML(typ="safe", pure=True).load(_dumped(odd)) == odd


def test_few_missing_artifacts_are_named_and_many_counted() -> None:
    many = tuple(f"model@b{i}.base" for i in range(NAMED))
    assert in_short(many).split(", ") == list(many)
    assert in_short((*many, "series@etth1")) == f"{NAMED + 1} artifacts (model {NAMED}, series 1)"


def test_a_clone_pulls_what_was_pushed_and_knows_it(mine: Path, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    dvc(mine, "remote", "modify", "--local", "local", "url", remote)
    assert "pushed" in dvc(mine, "push")
    git(tmp_path, "clone", "-q", str(mine), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    said = fine(clone, "sync")
    assert "not here: " in said.out
    assert "raw_series" in said.out
    assert "dvc pull" in said.out
    dvc(clone, "remote", "modify", "--local", "local", "url", remote)
    dvc(clone, "pull")
    assert artifacts(clone) == artifacts(mine)
    up_to_date(clone)

    said = fine(clone, "sync")
    assert said.out.startswith("10 artifacts reported to Dagster, 0 known already")
    assert "not here" not in said.out
    versions = {
        "series|tiny": data_version([str(dvc_hash(mine / "store/series/tiny"))]),
        "model|tiny|dlinear": data_version([str(dvc_hash(mine / "store/models/tiny/dlinear"))]),
        "evaluation|tiny|dlinear": data_version(
            [str(dvc_hash(mine / part / "tiny/dlinear")) for part in ("results", "store/evaluations")]
        ),
    }
    with entered(clone) as project:
        from pipelines.home import instance_of

        with instance_of(project) as instance:
            for key, version in versions.items():
                asset, _, partition = key.partition("|")
                asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
                (record,) = instance.fetch_materializations(asked, limit=5).records
                assert record.asset_materialization is not None
                assert (record.asset_materialization.tags or {})["dagster/data_version"] == version
    assert fine(clone, "sync").out.startswith("0 artifacts reported to Dagster, 10 known already")
    assert leaderboard(clone) == leaderboard(mine)
    assert git(clone, "status", "--porcelain") == ""


def test_metrics_are_the_leaderboards(mine: Path) -> None:
    shown = json.loads(dvc(mine, "metrics", "show", "--json"))[""]["data"]
    rows = leaderboard(mine)
    assert len(rows) == 2
    for row in rows:
        found = shown[f"results/tiny/{row['stage']}/metrics.json"]["data"][f"seed={row['seed']}"]
        for name in ("mse", "mae", "mase", "n_series", "n_windows"):
            assert found[name] == row[name]


@pytest.mark.slow
def test_an_experiment_reruns_training_and_what_follows(mine: Path) -> None:
    before, params = artifacts(mine), (mine / "params.yaml").read_text()
    said = dvc(mine, "exp", "run", "-S", "train.weight_decay=0.5")
    assert stages_run(said) == {"model@tiny.dlinear", "evaluation@tiny.dlinear", "report"}
    after = artifacts(mine)
    changed = {path for path in before if after[path] != before[path]}
    assert changed
    assert all("/tiny/dlinear/" in path for path in changed)
    assert "/results/tiny/dlinear/metrics.json" in changed
    up_to_date(mine)

    edited = (mine / "params.yaml").read_text()
    assert "weight_decay: 0.5" in edited
    assert edited.count("#") == params.count("#")
    difference = json.loads(dvc(mine, "metrics", "diff", "--json"))
    assert set(difference) == {"results/tiny/dlinear/metrics.json"}
    assert "seed=0.mse" in difference["results/tiny/dlinear/metrics.json"]
    plots = json.loads(dvc(mine, "plots", "diff", "--json"))["data"]
    assert any("results/tiny/dlinear/steps.csv" in name for name in plots)
    shown = json.loads(dvc(mine, "plots", "show", "--json"))["data"]
    assert len([name for name in shown if name.endswith("steps.csv")]) == 2


def test_a_failing_repro_leaves_the_old_bytes(mine: Path) -> None:
    before, lock = artifacts(mine), (mine / "dvc.lock").read_bytes()
    suite = mine / "data_contracts/suites/series.json"
    # No load of this grid is below 1 megawatt.
    edit(suite, '"min_value": -1e+150, "max_value": 1e+150', '"min_value": -1e+150, "max_value": 1')
    said = dvc(mine, "repro", check=False)
    assert "series of tiny: the contract 'series' is broken" in said
    assert "columns value" in said
    assert "Traceback" not in said
    assert "failed to reproduce 'series@tiny'" in said
    assert stages_run(said) == {"series@tiny"}
    assert artifacts(mine) == before
    assert (mine / "dvc.lock").read_bytes() == lock
    git(mine, "checkout", "-q", "data_contracts")
    up_to_date(mine)


def test_nothing_is_made_of_an_artifact_that_dvc_does_not_know(mine: Path) -> None:
    lock = (mine / "dvc.lock").read_bytes()
    with (mine / "store/splits/tiny/splits.json").open("a") as file:
        file.write("\n")
    before = artifacts(mine)
    message = refused(mine, "materialize", "model", "tiny|dlinear")
    assert "store/splits/tiny is not what dvc.lock records for splits@tiny" in message
    assert "wavecore materialize splits 'tiny'" in message
    assert artifacts(mine) == before
    assert (mine / "dvc.lock").read_bytes() == lock
    # A whole run makes the tampered step again, then finds that all else stands.
    assert fine(mine, "run").steps == ["splits tiny"]
    up_to_date(mine)
