"""The ladder: it does what is missing, seed by seed, and knows from `results/` alone what is done."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import run
from inside import Said, artifacts, copied, edit, fine, refused, up_to_date

import wavecore
from assets.standing import BESIDE
from wavecore import ladder
from wavecore.errors import StorageError

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


def test_a_regression_that_was_not_found_yet_is_estimated_too(mine: Path) -> None:
    """Its forecast has no weights before `ridge` was made, and a dry run makes none."""
    assert states(fine(mine, "ladder", "-b", "tiny", "-s", "ridge", "--dry-run", "--json")) == [("ridge", 0, "missing")]


@pytest.mark.parametrize("models", [pytest.param(True, marks=pytest.mark.slow), False])
def test_after_a_change_of_settings_all_seeds_are_done_again_one_by_one(models: bool, mine: Path) -> None:
    """Also in a clone that has the results of before and no models."""
    fine(mine, *ASK)
    edit(mine / "params.yaml", "steps: 120, batch_windows: 32", "steps: 60, batch_windows: 32")
    if not models:
        shutil.rmtree(mine / "store" / "models" / "tiny" / "dlinear")
    said = fine(mine, *ASK)
    assert "2 trained and judged now" in said.err
    assert {state for _, _, state in states(fine(mine, *ASK, "--dry-run", "--json"))} == {"done"}
    up_to_date(mine)


@pytest.mark.slow
def test_it_climbs_elsewhere_with_the_same_results(mine: Path, tmp_path: Path) -> None:
    """Exported, trained by a process that knows of no project, and taken: the files that a run here writes."""
    folder = tmp_path / "out"
    said = fine(mine, *ASK, "--export", str(folder))
    assert "1 to train and judge" in said.err
    assert "no result is there" in refused(mine, *ASK, "--take", str(folder))
    bare = tmp_path / "bare"
    shutil.copytree(Path(wavecore.__file__).parent, bare / "wavecore", ignore=shutil.ignore_patterns("__pycache__"))
    code = [sys.executable, "-m", "wavecore.ladder", str(folder)]
    # Other code than the asker's trains nothing; what of the project is not there plays no part.
    for module in ("learn/loop.py", "ladder.py"):
        file = bare / "wavecore" / module
        whole = file.read_text()
        file.write_text(whole + "# a remark\n")
        refusal = run(bare, *code, check=False)
        assert refusal.returncode == 1
        assert "the code of wavecore here is not the asker's, for dlinear" in refusal.stderr
        assert not (folder / "results").exists()
        file.write_text(whole)
    done = run(bare, *code)
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["stage"], row["seed"], row["device"]) == ("dlinear", 1, "cpu")
    assert row["train_seconds"] > 0
    assert run(bare, *code).stdout == "", "what is done is not done again"

    # What was changed by hand, or is of other settings or code, is seen, and nothing is taken.
    own = folder / "results" / "dlinear" / "seed=1"
    for name, change, said_of in (
        ("manifest.json", {"settings": "0" * 64}, "of other settings"),
        ("manifest.json", {"trained_by": "0" * 64}, "of other code"),
        ("metrics.json", {"split": "train"}, "changed since it was judged"),
        ("losses.json", {"mse": []}, "changed since it was judged"),
        ("ran.json", None, "not there"),
    ):
        whole = (own / name).read_text()
        if change is None:
            (own / name).unlink()
        else:
            (own / name).write_text(json.dumps(json.loads(whole) | change))
        assert said_of in refused(mine, *ASK, "--take", str(folder))
        (own / name).write_text(whole)
    assert not (mine / "results" / "tiny" / "dlinear" / "seed=1").exists()

    # Unfinished files lie beside `results/`: the store may be on another disk, from which nothing can be renamed there.
    shutil.rmtree(mine / "store" / "tmp")
    (mine / "store" / "tmp").write_text("no folder")
    assert "taken: dlinear seed 1" in fine(mine, *ASK, "--take", str(folder)).err
    (mine / "store" / "tmp").unlink()
    assert {state for _, _, state in states(fine(mine, *ASK, "--dry-run", "--json"))} == {"done"}
    rows = [json.loads(line) for line in fine(mine, "leaderboard", "--json").out.splitlines()]
    assert {row["device"] for row in rows} == {"cpu"}
    taken = {path.name: path.read_bytes() for path in (mine / "results" / "tiny" / "dlinear" / "seed=1").iterdir()}
    summary = (mine / "results" / "tiny" / "dlinear" / "metrics.json").read_bytes()
    shutil.rmtree(mine / "results" / "tiny" / "dlinear" / "seed=1")
    fine(mine, *ASK)
    home = {path.name: path.read_bytes() for path in (mine / "results" / "tiny" / "dlinear" / "seed=1").iterdir()}
    said_there, said_here = (json.loads(files.pop("manifest.json")) for files in (taken, home))
    assert said_here.pop(BESIDE)  # nothing lies beside results that come from elsewhere
    assert said_there == said_here
    assert taken == home
    assert summary == (mine / "results" / "tiny" / "dlinear" / "metrics.json").read_bytes()


def test_a_folder_that_is_no_exported_ladder_is_an_error(mine: Path, tmp_path: Path) -> None:
    assert "no exported ladder" in refused(mine, *ASK, "--take", str(tmp_path))
    assert "at once" in refused(mine, *ASK, "--take", str(tmp_path), "--export", str(tmp_path))
    assert "at once" in refused(mine, *ASK, "--take", str(tmp_path), "--dry-run")
    folder = tmp_path / "out"
    fine(mine, *ASK, "--export", str(folder))
    about = json.loads((folder / "ladder.json").read_text())
    (entry,) = about["wanted"]
    outside = {"stage": "../../outside", "config": entry["config"] | {"stage": "../../outside"}}
    for change, said_of in (
        ({"format": 9}, "of format 9"),
        ({"series_sha256": "0" * 64}, "not the series"),
        ({"borders": [1]}, "broken"),
        ({"wanted": [entry | outside]}, "no stage and seed of this code"),
        ({"wanted": [entry | {"seed": "1"}]}, "no stage and seed of this code"),
        ({"wanted": [entry | {"stage": "seasonal_naive"}]}, "its config of"),
        ({"wanted": [entry | {"code": {"trains": "x"}}]}, "not the three hashes"),
    ):
        (folder / "ladder.json").write_text(json.dumps(about | change))
        with pytest.raises(StorageError, match=said_of):
            ladder.read(folder)
    (folder / "ladder.json").write_text(json.dumps(about | {"format": 9}))
    done = run(tmp_path, sys.executable, "-m", "wavecore.ladder", str(folder), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("old", [True, False])
def test_where_a_seed_was_trained_elsewhere_all_are_trained_here(old: bool, mine: Path, tmp_path: Path) -> None:
    """As a clone does that has results and no models, or an older one: models of a stage are versioned together."""
    edit(mine / "params.yaml", "steps: 120, batch_windows: 32", "steps: 60, batch_windows: 32")
    ask, folder = ("ladder", "-b", "tiny", "-s", "dlinear"), tmp_path / "out"
    fine(mine, *ask, "--seeds", "1", "--export", str(folder))
    assert ladder.main([str(folder)]) == 0
    fine(mine, *ask, "--take", str(folder))
    assert fine(mine, *ask, "--seeds", "1").steps == []
    if not old:
        shutil.rmtree(mine / "store" / "models" / "tiny" / "dlinear")
    said = fine(mine, *ask, "--seeds", "2")
    assert "the models of seeds [0] are not on this machine" in said.err
    assert "1 trained and judged now" in said.err
    assert {state for _, _, state in states(fine(mine, *ask, "--seeds", "2", "--dry-run", "--json"))} == {"done"}
    up_to_date(mine)


def test_judging_that_was_stopped_goes_on_with_the_trained_model(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    fine(mine, *ASK, "--export", str(folder))
    with monkeypatch.context() as patch:
        patch.setattr(ladder, "score", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ladder.main([str(folder)])
    monkeypatch.setattr(ladder, "train", lambda *given: pytest.fail("trained again"))
    assert ladder.main([str(folder)]) == 0
    assert json.loads((folder / "results/dlinear/seed=1/ran.json").read_text())["train_seconds"] > 0
    # A language model that is not the asker's.
    away = ladder.read(folder)
    other = replace(away.wanted[0], backbone_hash="0" * 64)
    assert ladder.done(away, away.wanted[0])
    assert not ladder.done(away, other)
    with pytest.raises(StorageError, match="language model here is not the one"):
        list(ladder.climb(replace(away, wanted=(other,))))


def test_a_seed_that_params_do_not_ask_for_is_an_error(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "mine")
    message = refused(root, *ASK)
    for part in ("[0, 1]", "[0] for tiny dlinear", "overrides.benchmarks.tiny.dlinear"):
        assert part in message


def test_a_stage_that_is_not_there_is_named(finished_project: Path) -> None:
    assert "did you mean 'tokens'" in refused(finished_project, "ladder", "-b", "tiny", "-s", "tokenz")
