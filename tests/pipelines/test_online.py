"""`wavecore stream` and the asset online_evaluation: judged as all else is, versioned, never run twice for nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
import torch
from inside import artifacts, copied, edit, entered, fine, refused, up_to_date

from assets.accepted import recorded
from assets.online import METRICS, STEPS, value
from assets.online_checks import early, growing, rough, unfit, unhelped
from assets.report_online import learned, memory
from assets.streamed import left_out, standing, streams_left_out
from assets.training import Ground
from pipelines.home import instance_of
from pipelines.online_compared import Pair
from pipelines.online_plan import planned
from pipelines.sql import query
from wavecore.judge.significance import diebold_mariano

STAGES = "titan,dlinear,seasonal_naive"


@pytest.fixture(scope="module")
def streamed(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copied(finished_project, tmp_path_factory.mktemp("online") / "project")
    edit(root / "params.yaml", "search: [0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003]", "search: [0.0001, 0.001]")
    fine(root, "stream", "-b", "tiny", "-s", STAGES)
    return root


@pytest.fixture
def mine(streamed: Path, tmp_path: Path) -> Path:
    return copied(streamed, tmp_path / "project")


def rows_of(root: Path) -> dict[tuple[str, str], dict[str, float]]:
    said = fine(root, "stream", "-b", "tiny", "-s", STAGES, "--json")
    rows = [json.loads(line) for line in said.out.splitlines() if line.startswith("{")]
    return {(row["stage"], row["learner"]): row for row in rows}


def test_what_is_frozen_has_the_error_of_its_evaluation(streamed: Path) -> None:
    rows = rows_of(streamed)
    # Its stream is too short for ELF's regression.
    learners = ("frozen", "online", "replay")
    assert set(rows) == {
        *(("titan", n) for n in learners), *(("dlinear", n) for n in learners), ("seasonal_naive", "frozen"),
    }  # fmt: skip
    for stage in STAGES.split(","):
        judged = json.loads((streamed / "results" / "tiny" / stage / "metrics.json").read_text())["seed=0"]
        assert rows[stage, "frozen"]["mse"] == pytest.approx(judged["mse"], rel=1e-4), stage
        assert rows[stage, "frozen"]["vs frozen %"] is None
    assert rows["dlinear", "online"]["mse"] != rows["dlinear", "frozen"]["mse"]
    assert all(row["r2"] < 1 and row["ms"] > 0 for row in rows.values())


def test_every_forecast_is_in_the_table_of_steps(streamed: Path) -> None:
    splits = pl.read_parquet(streamed / "store" / "splits" / "tiny" / "*.parquet")
    due = splits.filter(pl.col("split") == "test")["origin"].sort().to_list()
    table = pl.read_parquet(streamed / "store" / "online" / "tiny" / "titan" / "seed=0" / STEPS)
    rows = rows_of(streamed)
    for name, own in table.group_by("learner"):
        assert own["origin"].to_list() == due
        assert own["mse"].mean() == pytest.approx(rows["titan", str(name[0])]["mse"], rel=1e-4)
    online = table.filter(pl.col("learner") == "online")
    assert online.select(pl.col("surprise", "gate", "norm").is_finite().all()).row(0) == (True, True, True)
    known = online.filter(pl.col("error_surprise").is_finite())["origin"].to_list()
    # Labels of the last horizon never come in time.
    assert known == due[: len(known)]
    assert len(known) == len(due) - 16 == json_labels(streamed)


def test_the_report_shows_the_stream(streamed: Path) -> None:
    page = (streamed / "store" / "report" / "report.html").read_text()
    assert "Learning online" in page
    assert "The memory over time" in page
    assert "What the head reads of a window" in page


@pytest.mark.browser
def test_in_a_browser_table_and_pictures_of_a_stream_are_seen_whole(streamed: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is not installed: apt-get install chromium")
    page_of = streamed / "store" / "report" / "report.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith("file:") else wrong.append(asked.url))
        page.goto(page_of.as_uri())
        section = page.locator("h3", has_text="Learning online")
        section.scroll_into_view_if_needed()
        rows = section.locator("xpath=following::table[1]").locator("tbody tr")
        assert rows.count() == 7
        assert all("nan" not in row.inner_text().lower() for row in rows.all())
        for title in ("Error over time", "The memory over time", "What the head reads of a window"):
            figure = page.locator("figure", has_text=title)
            assert figure.count() == 1, title
            figure.scroll_into_view_if_needed()
            box = figure.locator("svg, img").first.bounding_box()
            assert box is not None, title
            assert box["width"] > 200, title
            assert box["height"] > 100, title
            assert box["x"] >= 0, title
            assert box["x"] + box["width"] <= 1400, title
        page.screenshot(path=tmp_path / "report.png")
        browser.close()
    assert not wrong


def test_the_report_reads_the_weights_that_a_window_was_pooled_with_and_its_bursts(streamed: Path) -> None:
    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config

    with entered(streamed) as project:
        found, ground = memory(project, "tiny"), Ground.load(project, "tiny")
        assert found is not None
        assert found.pooling is not None
        model = load_model(streamed / "store" / "models" / "tiny" / "titan" / "seed=0", from_config).model.eval()
        origins = pl.read_parquet(streamed / "store" / "online" / "tiny" / "titan" / "seed=0" / STEPS)
    first = origins.filter(pl.col("learner") == "online")["origin"].to_list()
    seen: list[torch.Tensor] = []
    model.head.pooling.register_forward_hook(lambda _, __, out: seen.append(out[1]))
    with torch.no_grad():
        model(ground.windows.batch(np.array(first[:1])))
    np.testing.assert_allclose(found.pooling.weights[0], seen[0].mean(dim=0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.pooling.weights.sum(axis=1), 1, rtol=1e-6)
    assert 0 < found.pooling.evenness <= 1
    # Tokens are evenly apart and end with the window.
    assert found.pooling.ago[-1] == model.stride / 2
    assert set(np.diff(found.pooling.ago)) == {-model.stride}
    # Events are a twentieth of the steps, or a burst more.
    assert len(found.bursts) == len(first)
    assert 0 < found.bursts.mean() < 0.1


def test_sql_knows_streams(streamed: Path) -> None:
    with entered(streamed) as project:
        told = query(project, "select stage, learner, value from online where metric = 'mse' and key = 'all'")
        steps = query(project, "select stage, learner, avg(mse) as mse from streams group by all")
    found = {(stage, learner): mse for stage, learner, mse in steps.iter_rows()}
    assert len(found) == len(told) == 7
    for stage, learner, mse in told.iter_rows():
        assert found[stage, learner] == pytest.approx(mse, rel=1e-4)


def json_labels(root: Path) -> int:
    long = json.loads((root / "results" / "online" / "tiny" / "titan" / "seed=0" / "metrics.json").read_text())
    return int(next(row[3] for row in long["rows"] if row[:2] == ["online", "labels"]))


def test_a_second_run_does_nothing_and_dvc_agrees(mine: Path) -> None:
    up_to_date(mine)
    before = artifacts(mine, "online", "results")
    assert "everything was up to date" in fine(mine, "stream", "-b", "tiny", "-s", STAGES).err
    assert artifacts(mine, "online", "results") == before
    # Run anew, the bytes are the same.
    (mine / "results" / "online" / "tiny" / "dlinear" / "seed=0" / "metrics.json").write_text("{}\n")
    assert fine(mine, "stream", "-b", "tiny", "-s", STAGES).steps == ["online_evaluation tiny|dlinear"]
    assert artifacts(mine, "online", "results") == before


def test_tests_are_kept_in_git_for_a_clone_that_has_no_errors_of_rows(mine: Path) -> None:
    path = mine / "results" / "online" / "tiny" / "compared.json"
    kept, before = json.loads(path.read_text()), rows_of(mine)
    assert len(kept) == len({tuple(row[name] for name in Pair._fields) for row in kept})
    tables = {stage: mine / "store" / "online" / "tiny" / stage / "seed=0" / STEPS for stage in STAGES.split(",")}
    losses = {
        (stage, str(name[0])): own
        for stage, table in tables.items()
        for name, own in pl.read_parquet(table).group_by("learner")
    }
    for row in kept:
        own, other = losses[row["stage"], row["learner"]], losses[row["other_stage"], row["other_learner"]]
        held = diebold_mariano((own["mse"] - other["mse"]).to_numpy(), own["origin"].to_numpy(), 16)
        assert row["p"] == pytest.approx(held.p, rel=0.05)  # two digits
        assert row["percent"] == pytest.approx(100 * held.effect / other["mse"].mean(), abs=0.006)
    shutil.rmtree(mine / "store")
    said = fine(mine, "stream", "-b", "tiny", "-s", STAGES, "--show", "--json")
    assert said.steps == []
    shown = [json.loads(line) for line in said.out.splitlines() if line.startswith("{")]
    assert {(row["stage"], row["learner"]): row["p dlinear:online"] for row in shown} == {
        pair: row["p dlinear:online"] for pair, row in before.items()
    }
    assert "not all is tested" not in said.err
    # A test of another stream than the one in results/ is not told.
    path.write_text(path.read_text().replace(kept[0]["results"]["0"], "0" * 16))
    said = fine(mine, "stream", "-b", "tiny", "-s", STAGES, "--show", "--json")
    assert "not all is tested" in said.err


def test_a_dry_run_tells_what_is_left_and_makes_nothing(mine: Path) -> None:
    def told() -> dict[tuple[str, str], dict[str, float]]:
        said = fine(mine, "stream", "-b", "tiny", "-s", STAGES, "--dry-run", "--json")
        assert said.steps == []
        return {(row["stage"], row["learner"]): row for row in map(json.loads, said.out.splitlines())}

    before = artifacts(mine, "online", "results", "models")
    left = told()
    assert set(left) == set(rows_of(mine))
    assert all(row["seeds"] == row["minutes"] == 0 and row["ms"] is None for row in left.values())
    # Streamed once through test, and with two rates through decide.
    splits = pl.read_parquet(mine / "store" / "splits" / "tiny" / "*.parquet")
    test, decide = (splits.filter(pl.col("split") == name).height for name in ("test", "decide"))
    assert left["dlinear", "online"]["rows"] == test + 2 * decide
    assert left["dlinear", "frozen"]["rows"] == left["seasonal_naive", "frozen"]["rows"] == test
    edit(mine / "params.yaml", "search: [0.0001, 0.001]", "search: []")
    left = told()
    assert left["dlinear", "online"]["rows"] == test
    assert all(row["seeds"] == 1 and row["ms"] > 0 for row in left.values())
    assert artifacts(mine, "online", "results", "models") == before
    with entered(mine) as project:
        for row in planned(project, "tiny", ("titan", "dlinear")):
            assert row.minutes == pytest.approx(row.ms * row.rows / 60_000, rel=0.01, abs=0.005 * row.rows / 60_000)
    # What the stream itself would refuse.
    edit(mine / "params.yaml", "steps: 0, seed: 0}   # of a label", "steps: 9999, seed: 0}   # of a label")
    assert "no label would ever be known" in refused(mine, "stream", "-b", "tiny", "-s", STAGES, "--dry-run")
    edit(mine / "params.yaml", "steps: 9999, seed: 0}   # of a label", "steps: 0, seed: 0}   # of a label")
    edit(mine / "params.yaml", "learners: [frozen, online, replay, elf]", "learners: [online]")
    assert "add frozen" in refused(mine, "stream", "-b", "tiny", "-s", "seasonal_naive", "--dry-run")
    # No benchmark was made ready for it: the shortest run that does is named.
    shutil.rmtree(mine / "store" / "splits" / "tiny")
    assert "wavecore run --benchmark tiny --stage seasonal_naive" in refused(
        mine, "stream", "-b", "tiny", "-s", STAGES, "--dry-run"
    )


def test_what_differs_in_the_stream_alone_is_streamed_with_the_weights_there_are(mine: Path) -> None:
    models = artifacts(mine, "models", "evaluations")
    said = fine(mine, "stream", "-b", "tiny", "-s", "titan,titan.every_2", "--json")
    assert said.steps == ["online_evaluation tiny|titan.every_2"]
    rows = {(row["stage"], row["learner"]): row for row in map(json.loads, said.out.splitlines())}
    assert rows["titan.every_2", "frozen"]["mse"] == rows["titan", "frozen"]["mse"]
    assert rows["titan.every_2", "online"]["mse"] != rows["titan", "online"]["mse"]
    assert artifacts(mine, "models", "evaluations") == models
    up_to_date(mine)
    for command in (("run", "-b", "tiny", "-s", "titan.every_2"), ("materialize", "model", "tiny|titan.every_2")):
        message = refused(mine, *command)
        assert "has the weights of titan" in message
        assert "wavecore stream --benchmark tiny --stage titan.every_2" in message


def test_a_setting_of_learning_online_trains_nothing(mine: Path) -> None:
    models = artifacts(mine, "models", "evaluations")
    before = rows_of(mine)
    edit(mine / "params.yaml", "delay: {kind: fixed, steps: 0, seed: 0}", "delay: {kind: geometric, steps: 6, seed: 0}")
    said = fine(mine, "stream", "-b", "tiny", "-s", STAGES)
    assert set(said.steps) == {f"online_evaluation tiny|{stage}" for stage in STAGES.split(",")}
    assert artifacts(mine, "models", "evaluations") == models
    after = rows_of(mine)
    assert after["dlinear", "frozen"]["mse"] == before["dlinear", "frozen"]["mse"]
    assert after["dlinear", "online"]["mse"] != before["dlinear", "online"]["mse"]


def test_titan_on_a_language_model_is_saved_with_it_and_streamed(mine: Path) -> None:
    """As it was judged, built again from its files alone."""
    edit(mine / "params.yaml", "learners: [frozen, online, replay, elf]", "learners: [frozen]")
    edit(mine / "params.yaml", "steps: 60, eval_every: 10, checkpoint_every: 20", "steps: 10, eval_every: 5")
    fine(mine, "stream", "-b", "tiny", "-s", "titan.language")
    judged = json.loads((mine / "results" / "tiny" / "titan.language" / "metrics.json").read_text())["seed=0"]
    streamed = json.loads((mine / "results" / "online" / "tiny" / "titan.language" / "seed=0" / METRICS).read_text())
    assert value(streamed, "frozen", "mse") == pytest.approx(judged["mse"], rel=1e-4)
    model = mine / "store" / "models" / "tiny" / "titan.language" / "seed=0"
    config, manifest = (json.loads((model / name).read_text()) for name in ("config.json", "manifest.json"))
    assert manifest["backbone_hash"]
    assert config["model"]["language"]["llm_layers"] == 2
    assert config["model"]["input"] == "language"
    assert {"patch", "description", "features"} <= set(config)
    # Without that side nothing of it is told.
    plain = json.loads((mine / "store" / "models" / "tiny" / "titan" / "seed=0" / "config.json").read_text())
    assert not {"input", "language"} & set(plain["model"])
    assert "description" not in plain


def test_what_is_of_another_model_is_not_shown(mine: Path) -> None:
    """Seeds are shown together only where they are of the judged models and of the same settings."""
    folder = mine / "results" / "online" / "tiny" / "titan"
    shutil.copytree(folder / "seed=0", folder / "seed=1")
    with entered(mine) as project:
        assert set(standing(project, "tiny", "titan")) == {0, 1}
        manifest = folder / "seed=1" / "manifest.json"
        edit(manifest, json.loads(manifest.read_text())["settings"], "other")
        assert set(standing(project, "tiny", "titan")) == {0}
        assert left_out(project, "tiny", "titan") == {1: "of other settings"}
        assert "titan seed 1: its stream is left out, of other settings" in streams_left_out(project, "tiny")[0]
        # Code that was accepted as equal is the same code.
        edit(manifest, "other", json.loads((folder / "seed=0" / "manifest.json").read_text())["settings"])
        edit(manifest, code := json.loads(manifest.read_text())["code_hash"], "newer")
        assert left_out(project, "tiny", "titan") == {1: "of other code"}
        with recorded(project, {"code": [[code, "newer"]]}):
            assert set(standing(project, "tiny", "titan")) == {0, 1}
        # The model was trained anew, its stream was not run again.
        judged = mine / "results" / "tiny" / "titan" / "seed=0" / "manifest.json"
        edit(judged, json.loads(judged.read_text())["model"], "newer")
        assert set(standing(project, "tiny", "titan")) == {1}
        assert {row.stage for row in learned(project, "tiny")} == {"titan", "dlinear", "seasonal_naive"}
        manifest.unlink()
        assert {row.stage for row in learned(project, "tiny")} == {"dlinear", "seasonal_naive"}
        assert memory(project, "tiny") is None


def test_settings_that_make_no_sense_online_are_told(mine: Path) -> None:
    with entered(mine) as project:
        assert unfit(Ground.load(project, "tiny"), "titan") == []
        told = unfit(Ground.load(project, "tiny"), "titan.mean")
        assert told == ["head.pooling is mean"]
        edit(mine / "params.yaml", "eval_every: 125, patience: 7}", "eval_every: 125, patience: 3}")
        assert unfit(Ground.load(project, "tiny"), "titan") == ["train.patience is 3, below 5"]
        assert unfit(Ground.load(project, "tiny"), "dlinear") == []


def test_a_training_that_was_cut_off_is_told(tmp_path: Path) -> None:
    def rows(*errors: float) -> None:
        (tmp_path / "seed=0").mkdir(exist_ok=True)
        (tmp_path / "seed=0" / "curve.json").write_text(json.dumps([{"select": e} for e in errors]))

    rows(3, 2, 1)
    assert early(tmp_path, [0, 1]) == [0]
    rows(3, 1, 2)
    assert early(tmp_path, [0]) == []


def test_a_training_whose_loss_leaps_or_does_not_fall_is_told(tmp_path: Path) -> None:
    def losses(*found: float) -> None:
        (tmp_path / "seed=0").mkdir(exist_ok=True)
        rows = [{"step": 10 * i, "loss": loss} for i, loss in enumerate(found)]
        (tmp_path / "seed=0" / "curve.json").write_text(json.dumps(rows))

    losses(3, 2, 2.1, 1)
    assert rough(tmp_path, [0, 1]) == []
    losses(3, 1, 1.5, 1.4)
    assert rough(tmp_path, [0]) == ["seed 0, step 20: from 1 to 1.5"]
    losses(3, 3, 3.1)
    assert rough(tmp_path, [0]) == ["seed 0: 3 at first, 3.1 at last"]


def test_steps_that_grow_longer_and_learning_that_does_not_help_are_told() -> None:
    steady, slower, doubtful = ({"low": low, "drift": drift} for low, drift in ((-0.1, 0.1), (0.3, 0.4), (-0.1, 0.4)))
    assert growing({(0, "online"): steady, (0, "elf"): slower, (1, "elf"): doubtful}) == ["seed 0 elf"]

    def stream(**errors: float | None) -> dict[str, object]:
        return {"rows": [[learner, "mse", "all", error] for learner, error in errors.items()]}

    streams = (
        stream(frozen=2.0, online=1.0),
        stream(frozen=1.0, online=1.0),
        stream(frozen=1.0),
        stream(frozen=1.0, online=None),
    )
    assert unhelped(dict(enumerate(streams))) == [1, 3]


def test_what_no_stream_should_be_run_with_stops_it_before_it_runs(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own check, and what was there stays."""
    from wavecore.stream.forecaster import TitanStream

    def outcomes() -> dict[str, bool]:
        with entered(mine) as project, instance_of(project) as instance:
            (run,) = instance.get_runs(limit=1)
            events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
            checked = [e for e in events if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION]
            return {(data := e.asset_check_evaluation_data).check_name: data.passed for e in checked}

    before = artifacts(mine, "results", "online")
    weights = mine / "store" / "models" / "tiny" / "titan" / "seed=0" / "model.safetensors"
    again = ("materialize", "online_evaluation", "tiny|titan")
    fine(mine, *again)
    found = outcomes()
    # The others only warn, and of so short a training some do.
    blocking = ("as_trained", "every_weight_in_a_group", "no_graph_carried", "every_row_forecast")
    assert all(found.pop(check) for check in blocking)
    assert set(found) == {
        "fit_to_learn_online", "not_stopped_early", "loss_fell_smoothly", "flat_step_time", "learning_helps",
    }  # fmt: skip

    def fails(check: str, match: str) -> None:
        assert match in refused(mine, *again)
        assert outcomes() == {check: False}
        assert artifacts(mine, "results", "online") == before

    groups = TitanStream.parameter_groups
    with monkeypatch.context() as patched:
        patched.setattr(TitanStream, "parameter_groups", lambda self: groups(self)[1:])
        fails("every_weight_in_a_group", "in no parameter group")
    written = TitanStream._write
    with monkeypatch.context() as patched:
        # Updates whose gradients are lost, though they are to be there.
        patched.setattr(TitanStream, "_write", lambda self, *a: (written(self, *a)[0].detach(), written(self, *a)[1]))
        fails("no_graph_carried", "none of the updates' gradients")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    try:
        fails("as_trained", "model.safetensors")
    finally:
        weights.write_bytes(whole)


def test_bad_input_is_refused_before_anything_runs(mine: Path) -> None:
    before = artifacts(mine)
    assert "no such learner" in refused(mine, "stream", "-b", "tiny", "--against", "dlinear")
    assert "not among those" in refused(mine, "stream", "-b", "tiny", "-s", "titan", "--against", "dlinear:online")
    assert "stage" in refused(mine, "stream", "-b", "tiny", "-s", "nonesuch")
    edit(mine / "params.yaml", "learners: [frozen, online, replay, elf]", "learners: [frozen, oracle]")
    assert "'oracle' is not one of" in refused(mine, "stream", "-b", "tiny")
    assert artifacts(mine) == before
