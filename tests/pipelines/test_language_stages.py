"""The reprogrammed forecasters through the pipeline: trained, judged, looked into, kept and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import CHECKOUT, files_below, make_project
from inside import copied, edit, entered, fine, refused, up_to_date
from torch import nn

from assets.scoring import metric
from assets.standing import BESIDE
from assets.told import told_windows
from assets.training import Ground
from pipelines.sql import query
from wavecore import stages
from wavecore.errors import StorageError
from wavecore.judge.metrics import WINDOW_MEAN
from wavecore.learn.checkpoint import load_model
from wavecore.model.build import from_config

STAGES = ("seasonal_naive", "dlinear", "base", "no_llm", "budget", "prompt", "sparse", "best", "ridge")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("language") / "project", stages=STAGES)
    said = fine(root, "run")
    assert {s for s in said.steps if s.startswith("model")} == {f"model tiny|{s}" for s in STAGES}
    return root


def test_a_second_run_does_nothing(project: Path) -> None:
    up_to_date(project)


def test_elsewhere_a_language_model_ends_with_the_same_results(project: Path, tmp_path: Path) -> None:
    """Without the table of prompts, and with nothing of the project but what was exported."""
    from wavecore import ladder

    mine, folder = copied(project, tmp_path / "mine"), tmp_path / "out"
    chosen = ("base", "budget", "sparse", "best", "ridge")
    for stage in chosen:
        shutil.rmtree(mine / "results" / "tiny" / stage)
    said = fine(mine, "ladder", "-b", "tiny", "-s", ",".join(chosen), "--seeds", "1", "--export", str(folder))
    assert "5 to train and judge" in said.err
    assert ladder.main([str(folder)]) == 0
    for stage in chosen:
        there, here = (root / stage / "seed=0" for root in (folder / "results", project / "results/tiny"))
        for name in ("metrics.json", "losses.json"):
            assert (there / name).read_bytes() == (here / name).read_bytes(), (stage, name)
        # Nothing lies beside results that come from elsewhere.
        said_there, said_here = (json.loads((f / "manifest.json").read_text()) for f in (there, here))
        assert said_here.pop(BESIDE)
        assert said_there == said_here, stage


def test_the_table_for_a_document_has_means_marks_and_seeds(project: Path) -> None:
    rows = [json.loads(line) for line in fine(project, "leaderboard", "-b", "tiny", "--json").out.splitlines()]
    lines = fine(project, "leaderboard", "-b", "tiny", "--markdown").out.splitlines()
    assert lines[0] == "| stage | against | `tiny` | training, `tiny` |"
    shown = {line.split("`")[1]: line.split("|")[3].strip() for line in lines[2:]}
    assert set(shown) == {row["stage"] for row in rows if "." not in row["stage"]}
    assert "| `base` | `reference` |" in "\n".join(lines)
    assert "at once" in refused(project, "leaderboard", "--markdown", "--json")
    least = min(row["mse"] for row in rows)
    for row in rows:
        cell = shown[row["stage"]]
        assert f"{row['mse']:.4f}" in cell
        assert cell.startswith("**") == (row["mse"] == least)
        assert ("▼" in cell, "▲" in cell) == (row["verdict"] == "better", row["verdict"] == "worse")
        assert cell.endswith("(1)") == (row["stage"] not in ("seasonal_naive", "ridge"))


def test_the_leaderboard_holds_each_against_the_right_stage(project: Path) -> None:
    rows = [json.loads(line) for line in fine(project, "leaderboard", "--json").out.splitlines()]
    against = {row["stage"]: row["against"] for row in rows}
    assert against["base"] == "dlinear"  # the nearest below that was run
    assert against["prompt"] == against["no_llm"] == "base"
    assert against["best"] == "ridge"  # the better of its two parts
    assert all(row["train_seconds"] > 0 for row in rows if row["stage"] not in ("seasonal_naive", "ridge"))


@pytest.mark.parametrize("stage", ["base", "no_llm", "prompt"])
def test_the_frozen_weights_are_in_no_checkpoint_but_their_hash_is(stage: str, project: Path) -> None:
    folder = project / "store/models/tiny" / stage / "seed=0"
    found = load_model(folder, from_config)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["frozen_hash"]) == 64
    trained = sum(p.numel() for p in found.model.parameters() if p.requires_grad)
    assert (folder / "model.safetensors").stat().st_size < 4 * trained + 10_000
    assert found.config["description"].startswith("Load of a small electricity grid")


def test_other_frozen_weights_are_refused(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    folder = mine / "store/models/tiny/base/seed=0"

    def other(config: dict) -> object:
        return from_config(config | {"seed": 7, "model": config["model"] | {"llm": "random"}, "stage": "random_llm"})

    with pytest.raises(StorageError, match="trained on other frozen weights"):
        load_model(folder, other)  # type: ignore[arg-type]


def test_one_window_is_kept_seen_from_inside(project: Path) -> None:
    for stage in ("base", "no_llm", "budget", "prompt"):
        seen = json.loads((project / f"store/evaluations/tiny/{stage}/seed=0/inside.json").read_text())
        assert len(seen["rows"]) == 16  # patches: (128 - 16) / 8 + 2
        assert all(len(row) == len(seen["prototypes"]) == 12 for row in seen["rows"])
        assert 0 < seen["top_mass"] <= 1 + 1e-6
        assert seen["top_mass"] == pytest.approx(sum(map(sum, seen["rows"])) / 16, abs=1e-4)
        assert len(seen["nearest words"]) == 12
        assert not seen["words by mapping weight"], "prototypes are weights of their own there"
        assert (seen["prompt"] == "") == (stage == "no_llm")
        assert ["prototypes", 32 * 384, 0] in seen["parts"]
    assert "energy" in seen["prompt"]
    assert max(seen["prompt tokens"]) <= 128


def test_a_budget_is_chosen_kept_and_shown(project: Path) -> None:
    """Its sizes are in the manifest with all that was tried; `inside.json` says which patches were read, and why."""
    manifest = json.loads((project / "store/models/tiny/budget/seed=0/manifest.json").read_text())
    (chosen,) = [row for row in manifest["calibration"] if row["chosen"]]
    assert chosen["error"] <= 1.01 * manifest["calibration"][0]["error"]
    seen = json.loads((project / "store/evaluations/tiny/budget/seed=0/inside.json").read_text())["budget"]
    assert len(seen["kept"]) == len(seen["evidence"]) == chosen["tokens"]
    assert len(seen["owner"]) == len(seen["contribution"]) == 16
    assert set(seen["owner"]) == set(seen["kept"])
    assert sum(seen["contribution"]) == pytest.approx(1, abs=1e-3)
    told = [prompt for _, prompt in seen["layers"]]
    assert told == sorted(told, reverse=True)
    other = json.loads((project / "store/models/tiny/base/seed=0/manifest.json").read_text())
    assert other["calibration"] == []


def test_the_regression_of_best_is_chosen_and_kept(project: Path) -> None:
    """What was tried is in the manifest, the map in the saved model, its weights in the table of parts."""
    folder = project / "store/models/tiny/best/seed=0"
    rows = json.loads((folder / "manifest.json").read_text())["calibration"]
    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["error"] == min(row["error"] for row in rows)
    linear = load_model(folder, from_config).model.linear
    assert linear.known
    alone = project / "store/models/tiny/ridge/seed=0"
    assert json.loads((alone / "manifest.json").read_text())["calibration"] == rows
    assert torch.equal(load_model(alone, from_config).model.linear.weight, linear.weight)
    seen = json.loads((project / "store/evaluations/tiny/best/seed=0/inside.json").read_text())
    assert ["linear regression", linear.weight.numel() + linear.bias.numel(), 0] in seen["parts"]


def test_the_top_of_the_ladder_is_kept_and_shown(project: Path) -> None:
    """Tokens, loss, streams and sparse at once: what each adds is in the config, the curve and `inside.json`."""
    folder = project / "store/models/tiny/sparse/seed=0"
    config = json.loads((folder / "config.json").read_text())
    assert all(config["model"][part]["enabled"] for part in ("tokens", "streams", "sparse"))
    assert config["train"]["wavelet_loss"]["enabled"]
    (energy,) = config["energy"].values()
    assert len(energy) == 5
    assert sum(energy) == pytest.approx(1, abs=1e-5)
    assert all({"low", "high"} <= set(row) for row in json.loads((folder / "curve.json").read_text()))
    seen = json.loads((project / "store/evaluations/tiny/sparse/seed=0/inside.json").read_text())
    kept, both = seen["budget"], seen["streams"]
    assert kept["by"] == "energy"
    assert kept["evidence"][-1] is None
    assert kept["kept"][-1] == 15
    assert set(kept["owner"]) == set(kept["kept"])
    assert len(seen["rows"]) == len(both["look"]["attention"]) == len(both["share"]) == 16
    assert all(0 <= share <= 1 for share in both["share"])
    assert {p % 2 for p in seen["prototypes"]} == {0}, "the slow stream has every other prototype"
    assert {p % 2 for p in both["look"]["prototypes"]} == {1}
    assert len(seen["budget"]["series"]) == len(both["slow"]) == 128
    shown = fine(project, "tokens", "-b", "tiny", "--window", "40", "-s", "sparse").out
    assert "patch 15: the last one" in shown
    assert "% of all scores" in shown
    base = json.loads((project / "store/models/tiny/base/seed=0/config.json").read_text())
    assert not {"tokens", "streams", "sparse"} & set(base["model"])
    assert "wavelet_loss" not in base["train"]
    assert "energy" not in base


def test_premises_are_measured_and_drawn(project: Path) -> None:
    found = json.loads(fine(project, "premises", "-b", "tiny", "--windows", "8", "--json").out)
    assert found["patches"] == len(found["contribution"]) == 16
    assert found["contribution"] == sorted(found["contribution"])
    assert found["contribution"][-1] == pytest.approx(1, abs=1e-4)
    assert found["evidence"] == sorted(found["evidence"], reverse=True)
    assert [row["depth"] for row in found["cut"]] == [0, 1, 2]
    first, middle, last = found["cut"]
    assert last["change"] == first["added"] == 0
    # Two layers: what the last one adds is what is lost without it.
    assert last["added"] == pytest.approx(middle["change"])
    assert middle["added"] > 0
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "% of a window's whitened spectrum" in fine(project, "premises", "-b", "tiny", "--windows", "8").out
    assert "choose base, prompt or budget" in refused(project, "premises", "-b", "tiny", "-s", "no_llm")
    assert "wavecore run --benchmark tiny --stage random_llm" in refused(
        project, "premises", "-b", "tiny", "-s", "random_llm"
    )


def test_any_window_can_be_asked_what_was_read_of_it(project: Path) -> None:
    found = json.loads(fine(project, "tokens", "-b", "tiny", "--window", "40", "--json").out)
    kept = found["budget"]
    assert len(kept["owner"]) == len(kept["away"]) == 16
    assert all(kept["away"][place] == 0 for place in kept["kept"])
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "the last one" in fine(project, "tokens", "-b", "tiny", "--window", "40").out
    assert "does not choose among patches" in refused(project, "tokens", "-b", "tiny", "--window", "40", "-s", "base")
    assert "does not choose among patches" in refused(
        project, "tokens", "-b", "tiny", "--window", "40", "-s", "dlinear"
    )
    assert "has windows 0 to" in refused(project, "tokens", "-b", "tiny", "--window", "999999")
    assert "no such channel" in refused(project, "tokens", "-b", "tiny", "--window", "4", "--channel", "x")


def test_the_report_shows_the_inside(project: Path) -> None:
    page = (project / "store/report/report.html").read_text()
    assert "Inside the reprogrammed models" in page
    assert page.count("Which prototypes the patches attend to") == 6
    assert page.count("Which patches are read") == 2
    for once in (
        "Which prototypes the fast stream attends to",
        "and the gate between them",
        "Weights in the loss of sparse",
    ):
        assert page.count(once) == 1
    assert "nearest words" in page
    assert 'http-equiv="Content-Security-Policy"' in page


def test_the_prompt_of_a_window_can_be_read(project: Path) -> None:
    told = fine(project, "prompt", "--benchmark", "tiny", "--window", "5").out
    assert told.count("Dataset: Load of a small electricity grid") == 2
    assert "tokens" in told
    (row,) = fine(
        project, "prompt", "-b", "tiny", "--window", "5", "-s", "base", "--channel", "north", "--json"
    ).out.splitlines()
    found = json.loads(row)
    assert found["channel"] == "north"
    assert 40 < found["tokens"] <= 128
    assert found["left_out"] == []
    for wrong, named in (
        (("--window", "773"), "windows 0 to 772"),
        (("--window", "1", "--channel", "west"), "channels: north, industry"),
        (("--window", "1", "-s", "no_llm"), "no_llm"),
        (("--window", "1", "-s", "dlinear"), "dlinear"),
    ):
        assert named in refused(project, "prompt", "-b", "tiny", *wrong)


def test_the_prompt_shown_is_the_prompt_the_model_reads(project: Path) -> None:
    """By the command from the series, and by the model from its batch."""
    with entered(project) as entered_project:
        ground = Ground.load(entered_project, "tiny")
        model = load_model(project / "store/models/tiny/prompt/seed=0", from_config).model
        batch = ground.windows.batch([200])
        read = [p.text for p in model.prompts(batch.x)]
    rows = fine(project, "prompt", "-b", "tiny", "--window", str(200 - 128), "--json").out.splitlines()
    assert [json.loads(row)["text"] for row in rows] == read


def test_what_models_are_told_is_a_table(project: Path) -> None:
    with entered(project) as entered_project:
        (row,) = query(entered_project, "select * from prompts where start = 5 and channel = 'north'").to_dicts()
        assert query(entered_project, "select count(*) from prompts").item() == 773 * 2
    said = fine(project, "prompt", "-b", "tiny", "--window", "5", "-s", "base", "--channel", "north", "--json").out
    told = json.loads(said)
    about = json.loads((project / "store/prompt_ids/tiny/prompts.json").read_text())
    assert told["text"] == f"{about['fixed']} {row['facts']}"
    assert told["tokens"] == row["tokens"] == len(about["fixed_ids"]) + len(row["ids"])


def test_a_model_is_the_same_whether_ids_come_from_the_table_or_not(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    edit(mine / "params.yaml", "prompt_budget_mb: 256", "prompt_budget_mb: 0")
    shutil.rmtree(mine / "store/models/tiny/budget")
    said = fine(mine, "run", "-b", "tiny", "-s", "budget")
    assert {"prompts tiny", "model tiny|budget"} <= set(said.steps)
    assert not (mine / "store/prompt_ids/tiny/prompts.parquet").exists()
    found, before = (files_below(root / "store/models/tiny/budget") for root in (mine, project))
    assert {Path(p).name: data for p, data in found.items()} == {Path(p).name: data for p, data in before.items()}


def test_a_table_that_is_not_there_or_of_other_data_is_named(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    about = mine / "store/prompt_ids/tiny/prompts.json"
    whole = about.read_text()
    about.write_text(whole.replace(json.loads(whole)["data"], 64 * "0"))
    models = {s: load_model(project / f"store/models/tiny/{s}/seed=0", from_config) for s in STAGES}
    with entered(mine) as entered_project:
        ground = Ground.load(entered_project, "tiny")

        def told(stage: str, module: nn.Module | None = None) -> tuple[bool, str | None]:
            found = told_windows(entered_project, ground, stages.get(stage), module or models[stage].model)
            return found[0].facts is not None, found[1]

        with pytest.raises(StorageError, match=r"(?s)of another series or of other splits.*materialize prompts tiny"):
            told("base")
        # A stage that is told something else, or nothing, does not look there.
        assert told("prompt") == (False, "made when a window is read: prompt tells otherwise than base")
        assert told("no_llm") == told("dlinear") == (False, None)
        about.write_text(whole)
        assert told("base") == told("budget") == (True, f"of the asset prompts, {773 * 2} rows")
        # A model that was trained before params.yaml came to tell something else goes on being told what it was.
        older = from_config(models["base"].config | {"description": "Another text."})
        assert told("base", older) == (
            False,
            "made when a window is read: this model is told otherwise than the asset prompts has it",
        )
        # A table of older code or of another tokenizer.
        table = about.with_name("prompts.parquet")
        rows = pl.read_parquet(table)
        rows.with_columns(ids=rows["ids"].list.reverse()).write_parquet(table)
        with pytest.raises(StorageError, match=r"(?s)this code and this tokenizer do not make.*prompts tiny"):
            told("base")
        about.unlink()
        with pytest.raises(StorageError, match=r"(?s)prompts\.json: not there.*materialize prompts tiny"):
            told("base")
    message = refused(mine, "materialize", "model", "tiny|base")
    assert "wavecore materialize prompts 'tiny'" in message


def stale_models(root: Path, *also: str) -> set[str]:
    """The models of the default matrix, and of stages beside it, that a run would train."""
    from pipelines.dvc import dirty
    from pipelines.dvc_files import default_steps
    from pipelines.steps import stage_steps

    with entered(root) as project:
        beside = [step for stage in also for step in stage_steps(project, project.catalog().benchmark("tiny"), stage)]
        return {name for name in dirty(project, [*default_steps(project), *beside]) if name.startswith("model")}


def test_a_variant_needs_no_line_in_params(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    said = fine(mine, "run", "-b", "tiny", "-s", "base.circular_lags")
    assert "model tiny|base.circular_lags" in said.steps
    config = json.loads((mine / "store/models/tiny/base.circular_lags/seed=0/config.json").read_text())
    assert config["model"]["prompt"]["lags"] == "circular"
    assert config["model"]["llm_layers"] == 2  # shared by the family, for this benchmark
    again = fine(mine, "run", "-b", "tiny", "-s", "base.circular_lags")
    assert again.steps == []
    # What the family shares reaches the variant too.
    edit(
        mine / "params.yaml",
        "model: {llm_layers: 2, prototypes: 32, d_ff: 16}",
        "model: {llm_layers: 2, prototypes: 24, d_ff: 16}",
    )
    assert "model@tiny.base.circular_lags" in stale_models(mine, "base.circular_lags")


def test_a_change_of_the_prompt_leaves_the_baselines_alone(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    edit(mine / "params.yaml", "burst_threshold: 5.0", "burst_threshold: 6.0")
    stale = stale_models(mine)
    assert stale == {f"model@tiny.{stage}" for stage in ("base", "no_llm", "budget", "prompt", "sparse", "best")}


def test_params_that_contradict_a_stage_or_name_a_variant_are_refused(project: Path, tmp_path: Path) -> None:
    mine = copied(project, tmp_path / "mine")
    text = (mine / "params.yaml").read_text()
    for line, wrong, named in (
        ("  base: {}", "  base: {model: {frozen_mode: train}}", "the stage 'base' is defined by 'eval'"),
        ("  base: {}", "  base: {}\n  base.unmasked: {}", "'base.unmasked' is a variant"),
        ("  time_llm:", "  time_lm:", "there is no family 'time_lm'"),
        ("      backbone: minilm", "      backbone: ./nowhere", "/mine/nowhere"),
    ):
        (mine / "params.yaml").write_text(text.replace(line, wrong, 1))
        assert named in refused(mine, "run", "-b", "tiny", "-s", "base")
        assert not list((mine / "store/tmp").glob("*"))
    assert (mine / "store/models/tiny/base/seed=0/model.safetensors").read_bytes() == (
        project / "store/models/tiny/base/seed=0/model.safetensors"
    ).read_bytes()


def test_the_error_of_the_windows_mean_stands_beside(project: Path) -> None:
    """Against a plain loop over the series."""
    import numpy as np

    from assets.training import Ground
    from wavecore.series.splits import origins

    long = json.loads((project / "results/tiny/base/seed=0/metrics.json").read_text())
    with entered(project) as entered_project:
        ground = Ground.load(entered_project, "tiny")
        x = ground.windows.values.numpy().astype(np.float64)
        errors = [(x[o - 128 : o].mean(axis=0) - x[o : o + 16]) ** 2 for o in origins(ground.borders, "test", 128, 16)]
    assert metric(long, "mse", WINDOW_MEAN) == pytest.approx(np.mean(errors), rel=1e-5)


def test_demo_fails_where_a_stage_is_no_better_than_the_mean(project: Path) -> None:
    from pipelines.cli import _need_above_mean
    from wavecore.errors import WavecoreError

    with entered(project) as entered_project:
        from assets.results import runs

        found = runs(entered_project, "tiny")
    _need_above_mean([r for r in found if r.stage == "dlinear"])
    run = next(r for r in found if r.stage == "base")
    for row in run.long["rows"]:
        if row[:3] == ["mse", "overall", "all"]:
            row[3] = 99.0
    with pytest.raises(WavecoreError, match="tiny base seed 0: test MSE 99"):
        _need_above_mean([run])


def test_the_report_asks_no_network() -> None:
    assert (CHECKOUT / "docs/model.svg").read_text().count("http") == 1  # the namespace alone
