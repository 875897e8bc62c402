"""The published ETTh1, from the raw file to the leaderboard: the numbers everyone can hold against the literature."""

import json
import os
from pathlib import Path

import pytest
from conftest import make_project, run, wavecore

DATA = os.environ.get("WAVECORE_DATA", "")


@pytest.mark.data
def test_baselines_on_etth1(tmp_path: Path) -> None:
    """dlinear at most 0.372, seasonal_naive 0.512 on all 19,495 test series; the same wherever they are shown."""
    assert DATA, "set WAVECORE_DATA to the folder of published files"
    root = make_project(tmp_path / "project")
    printed = wavecore(root, "run", "--benchmark", "etth1_96", "--json", WAVECORE_DATA=DATA).stdout
    every = [json.loads(line) for line in printed.splitlines()]
    assert all(row["mse"] <= 0.372 for row in every if row["stage"] == "dlinear")  # params.yaml asks for three seeds
    rows = {row["stage"]: row for row in every if row["seed"] == 0}
    assert {row["n_series"] for row in rows.values()} == {19_495}
    assert {row["n_windows"] for row in rows.values()} == {2_785}
    assert rows["dlinear"]["mse"] <= 0.372
    assert rows["seasonal_naive"]["mse"] == pytest.approx(0.512, abs=5e-4)
    assert rows["dlinear"]["verdict"] == "better"

    asked = wavecore(
        root, "sql", "select stage, mse from evaluation where benchmark = 'etth1_96' and seed = 0", "--json"
    ).stdout
    assert {r["stage"]: r["mse"] for r in map(json.loads, asked.splitlines())} == {s: r["mse"] for s, r in rows.items()}

    shown = json.loads(run(root, "dvc", "metrics", "show", "--json").stdout)[""]["data"]
    page = (root / "store" / "report" / "report.html").read_text()
    for stage, row in rows.items():
        found = shown[f"results/etth1_96/{stage}/metrics.json"]["data"]["seed=0"]
        assert (found["mse"], found["mae"]) == (row["mse"], row["mae"])
        seeds = [r["mse"] for r in every if r["stage"] == stage]
        assert f"{sum(seeds) / len(seeds):.4f}" in page  # the report shows the mean over the seeds
