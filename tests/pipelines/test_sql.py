"""SQL over everything the pipeline wrote: the numbers of results/, from anywhere, and while a run is going on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from conftest import environment, run
from inside import copied, edit, entered, refused

from pipelines.sql import query, write_database

VIEWS = {
    "series": ("dataset", "timestamp", "channel", "value"),
    "windows": ("features", "split", "window", "channel", "mean", "std", "lags"),
    "scalers": ("features", "channel", "center", "scale"),
    "wavelet_statistics": ("features", "window", "channel", "energy_share", "entropy"),
    "wavelet_coefficients": ("features", "window", "channel"),
    "prompt_statistics": ("features", "window", "channel", "trend", "lags"),
    "splits": ("benchmark", "split", "origin"),
    "forecasts": ("benchmark", "stage", "seed", "origin", "channel", "forecast", "truth"),
    "normalized": ("features", "split", "window", "channel", "step", "timestamp", "value"),
    "evaluation": ("benchmark", "stage", "seed", "mse", "mae", "mase", "n_series", "n_windows"),
    "metrics": ("benchmark", "stage", "seed", "split", "metric", "group", "key", "value", "n"),
    "losses": ("benchmark", "stage", "seed", "origin", "mse", "mae"),
    "curves": ("benchmark", "stage", "seed", "step", "loss", "select", "learning_rate"),
    "comparison": ("benchmark", "stage", "other", "effect", "verdict"),
}


def test_every_view_answers_with_its_columns(finished_project: Path) -> None:
    with entered(finished_project) as project:
        for name, columns in VIEWS.items():
            frame = query(project, f"select * from {name} limit 5")
            assert frame.height > 0, name
            assert set(columns) <= set(frame.columns), name
        counted = query(project, "select count(*) from series").item()
        assert counted == 1800
        keys = query(project, "select distinct dataset from series").to_series().to_list()
        assert keys == ["tiny"]


def test_the_numbers_are_those_of_results(finished_project: Path) -> None:
    with entered(finished_project) as project:
        found = query(project, "select stage, avg(mse) as mse, avg(mae) as mae from evaluation group by 1 order by 1")
        for stage, mse, mae in found.iter_rows():
            kept = json.loads((finished_project / "results/tiny" / stage / "metrics.json").read_text())["seed=0"]
            assert (mse, mae) == (kept["mse"], kept["mae"])
            # The mean over origins of losses averaged over channels and horizon is the error itself.
            mean = query(project, f"select avg(mse) from losses where stage = '{stage}'").item()
            assert mean == pytest.approx(mse, rel=1e-5)
        assert found.height == 2
        per_channel = query(
            project,
            "select avg(value) from metrics where metric = 'mse' and \"group\" = 'channel' and stage = 'dlinear'",
        ).item()
        assert per_channel == pytest.approx(found.filter(pl.col("stage") == "dlinear")["mse"].item(), rel=1e-5)


def test_normalized_values_are_those_that_models_see(finished_project: Path) -> None:
    from assets.training import Ground
    from wavecore.series.normalize import instance_normalize, instance_statistics

    with entered(finished_project) as project:
        ground = Ground.load(project, "tiny")
        for start, place in ((0, 0), (317, 1), (772, 0)):
            channel = ground.arrays.channels[place]
            frame = query(
                project,
                f"select step, value from normalized where features = 'tiny.T128' and channel = '{channel}' "
                f'and "window" = {start} order by step',
            )
            assert frame["step"].to_list() == list(range(start, start + 128))
            batch = ground.windows.future_batch(start + 128)
            window = batch.x[0, :, place].double().numpy()
            expected = instance_normalize(window[None], *instance_statistics(window[None]))[0]
            np.testing.assert_allclose(frame["value"].to_numpy(), expected, atol=2e-5)


def test_from_any_directory_and_as_a_file_for_other_clients(finished_project: Path, tmp_path: Path) -> None:
    text = "select stage, avg(mse) as mse from evaluation group by 1 order by 1"
    root = str(finished_project)
    ask = (sys.executable, "-m", "pipelines.cli", "sql", text, "--json")
    done = run(tmp_path, *ask, WAVECORE_ROOT=root, PYTHONPATH=root)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["dlinear", "seasonal_naive"]
    with entered(finished_project) as project:
        path = write_database(project)
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            found = connection.sql(text).fetchall()
            assert connection.sql("select count(*) from windows").fetchall() == [(2 * 773,)]
    finally:
        os.chdir(before)
    assert [(row["stage"], row["mse"]) for row in rows] == found


@pytest.mark.parametrize(
    "text", ["select * from evaluations", "select nothing from evaluation", "selec 1", "", "select 1/", ";"]
)
def test_a_query_that_cannot_be_answered_lists_the_tables(text: str, finished_project: Path) -> None:
    message = refused(finished_project, "sql", text)
    for name in ("evaluation", "series", "windows", "normalized"):
        assert name in message.split("tables:")[1]
    assert "_evaluation" not in message.split("tables:")[1]


@pytest.mark.parametrize(
    "text", ["drop view series", "select 1; create table x as select 1", "delete from series", "begin", "vacuum"]
)
def test_what_gives_no_answer_is_refused(text: str, finished_project: Path) -> None:
    assert "gives no answer" in refused(finished_project, "sql", text)


@pytest.mark.parametrize(
    "text",
    [
        "create temp table t as select 1 as a; select a from t", "create macro f(a) as a + 1; select f(0)",
        "show tables", "explain select 1", "pivot range(3) on range", "pragma version", "summarize series",
    ],
)  # fmt: skip
def test_whatever_ends_with_an_answer_is_answered(text: str, finished_project: Path) -> None:
    with entered(finished_project) as project:
        assert query(project, text).height > 0


@pytest.mark.slow
def test_it_answers_while_a_run_is_going_on(finished_project: Path, tmp_path: Path) -> None:
    root = copied(finished_project, tmp_path / "project")
    edit(root / "params.yaml", "weight_decay: 0.0", "weight_decay: 0.5")
    text = "select stage, avg(mse) as mse from evaluation group by 1 order by 1"
    with entered(root) as project:
        before = query(project, text)
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "run"],
            cwd=root, env=environment(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            answers = []
            while process.poll() is None:
                answers.append(query(project, text))
                time.sleep(0.1)
            assert process.returncode == 0
        finally:
            process.kill()
        after = query(project, text)
    assert len(answers) > 10
    assert all(answer["stage"].to_list() == ["dlinear", "seasonal_naive"] for answer in answers)
    seen = {answer["mse"][0] for answer in answers}
    assert before["mse"][0] in seen
    assert seen <= {before["mse"][0], after["mse"][0]}
    assert after["mse"][0] != before["mse"][0]


def test_it_answers_while_artifacts_are_being_swapped(finished_project: Path, tmp_path: Path) -> None:
    """An artifact is replaced by two renames; between them there is none. Here that moment lasts long."""
    root = copied(finished_project, tmp_path / "project")
    targets = [root / "store/series/tiny", root / "results/tiny/dlinear", root / "store/evaluations/tiny/dlinear"]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in targets:
                os.replace(target, root / "aside")
                time.sleep(0.001)
                os.replace(root / "aside", target)
                time.sleep(0.01)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        with entered(root) as project:
            for _ in range(40):
                assert query(project, "select count(*) from series").item() == 1800
                assert query(project, "select count(*) from forecasts").item() in (6, 12)
                assert query(project, "select min(mse) from losses").item() is not None
    finally:
        stop.set()
        thread.join()
