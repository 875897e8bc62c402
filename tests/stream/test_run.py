"""One forecaster, all learners: what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_session import LIVING, SHAPE, H, N, T, linear, titan, waves
from torch import nn

from wavecore.bench.rates import rates
from wavecore.config import JudgeSettings
from wavecore.errors import SettingsError
from wavecore.judge.scoring import Scene
from wavecore.model.seasonal import SeasonalNaive
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData
from wavecore.stream.evaluate import stream
from wavecore.stream.matrix import learner_of
from wavecore.stream.progress import Keeping
from wavecore.stream.run import STRETCHES, pace_of, through
from wavecore.stream.session import Shape
from wavecore.stream.settings import DelaySettings, OnlineSettings

ROWS = 380
BORDERS = Borders((0, 60), (60, 75), (75, 130), (130, 370))


@pytest.fixture
def scene() -> Scene:
    moments = np.datetime64("2024-01-01T00") + np.arange(ROWS) * np.timedelta64(1, "h")
    arrays = from_values(moments, SHAPE.channels, waves(ROWS).double().numpy())
    return Scene(arrays, BORDERS, Scaler(np.zeros(N), np.ones(N)), 4, JudgeSettings(), {})


def data() -> WindowData:
    return WindowData(waves(ROWS), torch.ones(ROWS, N, dtype=torch.bool), T, H)


def test_rows_stretches_and_steps_tell_the_same(scene: Scene) -> None:
    model = linear()
    before = {name: p.clone() for name, p in model.named_parameters()}
    told: list[str] = []
    found = through(
        model, data(), scene, OnlineSettings(learning_rate=0.01), 0, tick=lambda n, _: lambda __: told.append(n)
    )
    due = origins(BORDERS, "test", T, H)
    learners = ("frozen", "online", "replay", "elf")
    assert [told.count(name) for name in learners] == [len(due)] * 4
    value = {(learner, metric, key): v for learner, metric, key, v in found.rows}
    for name in learners:
        own = found.steps["mse"][found.steps["learner"] == name]
        assert len(own) == len(due) == value[name, "windows", "all"]
        assert value[name, "mse", "all"] == pytest.approx(own.mean(), rel=1e-6)
        assert len(found.stretches[name]) == min(STRETCHES, len(due))
        channels = [value[name, "r2", c] for c in SHAPE.channels]
        assert value[name, "r2", "all"] == pytest.approx(np.mean(channels))
    effect = value["online", "mse", "all"] - value["frozen", "mse", "all"]
    assert value["online", "against_frozen", "effect"] == pytest.approx(effect, abs=1e-6)
    assert ("frozen", "against_frozen", "p") not in value
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_rate_is_the_one_with_the_lowest_error_on_decide_and_knows_no_test_row(scene: Scene) -> None:
    online = OnlineSettings(learners=("frozen", "online"), search=(1e-5, 0.01, 10.0))
    told: list[tuple[str, int]] = []

    def tick(running: str, due: int) -> Callable[[int], object]:
        told.append((running, due))
        return lambda done: None

    found = through(linear(), data(), scene, online, 0, tick=tick)
    value = {(learner, metric, key): v for learner, metric, key, v in found.rows}
    tried = {rate: value["online", "decide_mse", f"{rate:g}"] for rate in online.search}
    shape, scale = Shape(T, H, SHAPE.channels), np.ones(N)
    for rate, mse in tried.items():
        own = replace(online, learning_rate=rate)
        learner = learner_of("online", linear(), shape, own, 0)
        alone = stream(learner, data(), BORDERS, shape, own, scene.scaler, scale, split="decide")
        assert mse == pytest.approx(alone.result.mse, rel=1e-6)
    best = min(tried, key=lambda rate: tried[rate] or 0)
    assert value["online", "rate", "all"] == best == 0.01
    plain = through(linear(), data(), scene, replace(online, search=(), learning_rate=best), 0)
    assert value["online", "mse", "all"] == {r[:3]: r[3] for r in plain.rows}["online", "mse", "all"]
    windows = len(origins(BORDERS, "decide", T, H))
    assert ("online, rates", 3 * windows) in told
    assert ("frozen", "rate", "all") not in value

    later = data()
    later.values[BORDERS.test[0] :] = 7.0
    other = through(linear(), later, scene, online, 0)
    assert [r for r in other.rows if r[1] == "decide_mse"] == [r for r in found.rows if r[1] == "decide_mse"]


def test_what_no_rate_can_be_chosen_with_names_the_search(scene: Scene) -> None:
    online = OnlineSettings(learners=("online",), search=(0.1,), every=60)
    with pytest.raises(SettingsError, match=r"online\.search: on decide.*no 60 labels came"):
        through(linear(), data(), scene, online, 0)
    through(linear(), data(), scene, replace(online, search=()), 0)


def test_a_memory_that_goes_on_is_not_replayed_and_a_short_stream_has_no_elf(scene: Scene) -> None:
    found = through(titan(LIVING), data(), scene, OnlineSettings(), 0)
    assert set(found.pace) == {"frozen", "online", "elf"}
    short = replace(scene, borders=replace(BORDERS, test=(130, 200)))
    assert set(through(linear(), data(), short, OnlineSettings(), 0).pace) == {"frozen", "online", "replay"}
    with pytest.raises(SettingsError, match="none of elf can be run"):
        through(linear(), data(), short, OnlineSettings(learners=("elf",)), 0)


def test_rates_that_all_end_in_nothing_finite_are_an_error(scene: Scene) -> None:
    online = OnlineSettings(learners=("online",), search=(1e38,))
    with pytest.raises(SettingsError, match=r"online\.search: online ended in losses that are not finite"):
        through(linear(), data(), scene, online, 0)


@pytest.mark.parametrize("make", [linear, titan, lambda: titan(LIVING)], ids=["linear", "titan", "titan that lives"])
def test_a_stream_that_was_killed_goes_on_to_the_same_results(
    make: Callable[[], nn.Module], scene: Scene, tmp_path: Path
) -> None:
    online = OnlineSettings(("frozen", "online"), search=(1e-4, 0.01), delay=DelaySettings("geometric", 3), every=2)
    whole = through(make(), data(), scene, online, 0)
    keep, told = Keeping(tmp_path / "stream", "abc", seconds=0.0), []

    def killed(after: int) -> Callable[[str, int], Callable[[int], object]]:
        def tick(running: str, due: int) -> Callable[[int], object]:
            def count(done: int) -> None:
                told.append(done)
                if sum(told) >= after:
                    raise KeyboardInterrupt

            return count

        return tick

    # In the search, and in the stream behind it.
    for after in (300, 420):
        told.clear()
        with pytest.raises(KeyboardInterrupt):
            through(make(), data(), scene, online, 0, tick=killed(after), keep=keep)
    told.clear()
    found = through(make(), data(), scene, online, 0, tick=killed(10**9), keep=keep)
    assert any("online rates" in note for note in keep.notes)
    assert any("online test: goes on" in note for note in keep.notes)
    assert found.rows == whole.rows
    assert found.stretches == whole.stretches
    for column, values in whole.steps.items():
        np.testing.assert_array_equal(found.steps[column], values)
    # What belongs to another run is not gone on with, and that is said.
    other = Keeping(tmp_path / "stream", "of other settings")
    assert through(make(), data(), scene, online, 0, keep=other).rows == whole.rows
    assert all("begins anew" in note and "other settings, data or code" in note for note in other.notes)
    assert other.notes


def test_a_rate_in_hindsight_has_the_error_of_a_stream_that_was_given_it(scene: Scene) -> None:
    online, model = OnlineSettings(learners=("frozen", "online")), linear()
    found = {
        (row.path, row.more["rate"]): row.more["mse"] for row in rates(model, data(), scene, online, 0, (0.01, 1.0))
    }
    assert set(found) == {("frozen", None), ("online", 0.01), ("online", 1.0)}
    for rate in (0.01, 1.0):
        ran = through(model, data(), scene, replace(online, learning_rate=rate), 0)
        value = {row[0]: row[3] for row in ran.rows if row[1:3] == ("mse", "all")}
        assert found["online", rate] == pytest.approx(value["online"], rel=1e-6)
        assert found["frozen", None] == pytest.approx(value["frozen"], rel=1e-6)


def test_a_forecaster_without_weights_is_not_moved(scene: Scene) -> None:
    found = through(SeasonalNaive(T, H, 4), data(), scene, OnlineSettings(), 0)
    assert set(found.pace) == {"frozen", "elf"}


def test_a_pace_that_grows_is_seen() -> None:
    steps = np.full(600, 0.002)
    noise = np.random.default_rng(0).normal(0, 1e-5, 600)
    flat = pace_of(steps + noise, np.zeros(600))
    assert flat.forecast == pytest.approx(2, rel=0.01)
    assert flat.learn == 0
    assert flat.low < 0 < flat.high or abs(flat.drift) < 0.01
    growing = pace_of(steps, np.linspace(0.001, 0.004, 600))
    assert growing.drift == pytest.approx(0.003 / 0.0045, rel=0.02)
    assert growing.low > 0.5
    # Nor does it hide in the few rows that learn.
    rare = np.zeros(6000)
    rare[::4] = np.linspace(0.004, 0.04, 1500)
    assert pace_of(np.full(6000, 0.001), rare).drift > 1
    # One slow stretch is no trend.
    slow = steps + noise
    slow[300:310] = 1.0
    assert abs(pace_of(slow, np.zeros(600)).drift) < 0.02
