"""Gains per channel: from results alone, and how they go with what a channel is like."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from assets.gains import Gain, gains, tendencies
from assets.report_data import ReportData
from assets.report_page import render
from assets.results import Run
from wavecore.series.arrays import from_values
from wavecore.series.splits import Borders


def rows(stage: str = "prompt") -> list[Gain]:
    random = np.random.default_rng(0)
    return [
        Gain(f"b{i % 2}", f"c{i}", stage, float(random.random()), int(random.integers(0, 5)), float(random.normal()))
        for i in range(12)
    ]


def test_tendencies_are_scipys_over_all_channels() -> None:
    own = rows()
    found = {t.property: t for t in tendencies([*own, *rows("only_loss")]) if t.stage == "prompt"}
    for name in ("volatility", "periods"):
        expected = spearmanr([getattr(r, name) for r in own], [r.gain for r in own])
        assert found[name].rho == pytest.approx(expected.statistic)
        # Twelve channels are enough for scipy's t distribution to be near.
        assert found[name].p == pytest.approx(expected.pvalue, abs=0.03)
        assert found[name].channels == 12


def test_of_four_channels_in_a_row_chance_gives_one_in_twelve() -> None:
    own = [row._replace(volatility=float(i), gain=float(i)) for i, row in enumerate(rows()[:4])]
    (found,) = [t for t in tendencies(own) if t.property == "volatility"]
    assert (found.rho, found.p) == (pytest.approx(1), pytest.approx(2 / 24))


def test_too_few_channels_have_no_tendency() -> None:
    same = [row._replace(periods=2) for row in rows()]
    assert all(math.isnan(t.rho) for t in tendencies(rows()[:3]))
    assert [math.isnan(t.rho) for t in tendencies(same)] == [False, True]
    # A channel that never moves has no volatility and does not count.
    still = [*rows(), rows()[0]._replace(volatility=math.nan)]
    assert [t.channels for t in tendencies(still)] == [12, 13]


class Ground:
    """A benchmark of two channels: one moves by the hour, the other by the day."""

    def __init__(self) -> None:
        t = np.arange(2000)
        times = np.datetime64("2024-01-01", "us") + t * np.timedelta64(1, "h")
        noise = np.random.default_rng(0).standard_normal(2000)
        self.arrays = from_values(times, ["wild", "calm"], np.stack([noise, np.sin(t / 24 * 2 * np.pi)], axis=1))
        self.borders = Borders((0, 1400), (1400, 1500), (1500, 1600), (1600, 2000))
        self.benchmark = type("Benchmark", (), {"window": 168})


def run(stage: str, seed: int, *errors: float) -> Run:
    named = zip(("wild", "calm"), errors, strict=True)
    return Run("b", stage, seed, {"rows": [["mse", "channel", c, e, 9] for c, e in named]}, {}, {})


def test_gain_is_of_the_mean_over_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from assets import training

    monkeypatch.setattr(training.Ground, "load", lambda project, name: Ground())
    catalog = SimpleNamespace(benchmark=lambda name: SimpleNamespace(dataset="d"))
    project: Any = SimpleNamespace(
        splits=lambda name: tmp_path / "splits", series=lambda name: tmp_path / "series", catalog=lambda: catalog
    )
    found = [run("base", 0, 1.0, 2.0), run("base", 1, 3.0, 2.0), run("base", 2, 9.0, 9.0), run("tokens", 0, 1.0, 1.0)]
    # Seed 2 of `base` has no counterpart.
    found += [run("prompt", 0, 0.5, 3.0), run("prompt", 1, 1.5, 3.0)]
    for name in ("splits/splits.json", "series/series.parquet"):
        assert gains(project, found, ["prompt"]) == [], "series and splits are not on this machine"
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    wild, calm = gains(project, found, ["prompt"])
    assert (wild.channel, wild.gain, wild.periods) == ("wild", pytest.approx(50), 0)
    assert (calm.channel, calm.gain, calm.periods) == ("calm", pytest.approx(-50), 1)
    assert wild.volatility > 1.3 > 0.3 > calm.volatility
    assert gains(project, found[3:], ["prompt"]) == [], "nothing to gain over"


def test_the_page_shows_them() -> None:
    bare = ReportData("Gains", "", ())
    assert 'id="gains"' not in render(bare)
    page = render(dataclasses.replace(bare, gains=(*rows(), *rows("only_loss"))))
    assert 'id="gains"' in page
    assert "rank correlation" in page
    assert page.count("<td>only_loss</td>") == 12
