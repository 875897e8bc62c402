"""The benchmarks measure what they say: ratios, scaling, equal work on both sides, memory of the work alone.

No number of seconds is tested: what is slow here says nothing about what is slow elsewhere.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benched import TINY, restless
from language import budgeted, made, tokenizer_of, window_data

from wavecore.bench import features, kept, latency, limits, loop, memory, rows, scale, speed, stages, stream
from wavecore.bench.child import ask
from wavecore.bench.models import Drawn, Side, batch, geometry, make
from wavecore.bench.rows import Row, alternate
from wavecore.bench.speed import _each
from wavecore.config import FeatureSettings, TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn.calibrate import calibrate, hold, measured_influence
from wavecore.learn.forecast import predict
from wavecore.learn.losses import mse
from wavecore.model.settings import Size
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.text import Subject
from wavecore.prompt.tokens import Prompter
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins

WINDOW = 64
COMMON = (
    "bench", "path", "other", "backbone", "series", "dtype", "other_dtype", "ratio_median", "ratio_min", "ratio_max",
    "seconds", "other_seconds", "error",
)  # fmt: skip


@pytest.fixture
def tiny(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a tiny language model, which every benchmark of models takes in place of what it is told."""
    for module in (memory, limits, scale, latency, stages, speed):
        monkeypatch.setattr(module, "backbone_of", lambda name: nullcontext(str(folders["bert"])))
    return str(folders["bert"])


@pytest.fixture(scope="module")
def series() -> tuple[SeriesArrays, Scaler]:
    arrays = restless()
    return arrays, Scaler.fit(arrays, (0, 250))


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Any:
        """A call that takes so long, each time the next of `seconds`."""
        turns: Iterator[float] = iter(seconds)

        def call() -> None:
            self.now += next(turns)

        return call


def test_ratios_are_the_other_side_over_mine_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rows, "time", clock)
    # The first call of each is not counted.
    found = alternate(clock.work(99, 1, 2, 1), clock.work(99, 3, 2, 5), 3)
    assert found == {"ratio_median": 3, "ratio_min": 1, "ratio_max": 5, "seconds": 1, "other_seconds": 3}


def test_where_one_side_is_timed_in_other_amounts() -> None:
    times = {"ratio_median": 0.5, "ratio_min": 0.25, "ratio_max": 1.0, "seconds": 24.0, "other_seconds": 12.0}
    # Twelve of my steps against one of the other's.
    assert _each(times, 12) == {
        "ratio_median": 6, "ratio_min": 3, "ratio_max": 12, "seconds": 2, "other_seconds": 12
    }  # fmt: skip
    # The other did a tenth of my work.
    assert features.scaled(times, 10) == {
        "ratio_median": 5, "ratio_min": 2.5, "ratio_max": 10, "seconds": 24, "other_seconds": 120
    }  # fmt: skip


def test_a_row_is_plain() -> None:
    found = Row("scale", "exact", seconds=1.23456, more={"window": 512, "flops": 123456789}).plain()
    assert tuple(found) == (*COMMON, "window", "flops")
    assert (found["seconds"], found["flops"], found["error"]) == (1.235, 123456789, None)


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(wavelet="haar", levels=3),
        FeatureSettings(wavelet="db2", levels=2, mode="symmetric", lags=3),
        FeatureSettings(wavelet="db4", levels=1, burst_threshold=3.0),
    ],
    ids=lambda settings: settings.wavelet,
)
def test_the_loop_computes_the_same_table(settings: FeatureSettings, series: tuple[SeriesArrays, Scaler]) -> None:
    starts = np.arange(0, 337, 5)
    mine, theirs = (side(*series, WINDOW, settings, starts) for side in (features.vectorized, features.looped))
    assert features.difference(mine, theirs) < 1e-9
    # Else it would say little.
    assert len(np.unique(theirs["dominant_band"])) > 1
    assert len(np.unique(theirs["dominant_period"])) > 2
    assert theirs["burst_count"].max() > 1
    assert (theirs["std"] == 0).any()
    assert (theirs["observed_share"] < 1).any()


def test_a_difference_is_seen() -> None:
    theirs = {"lags": np.array([24, 24, 12, 12]), "flat": np.ones(4), "reconstruction_error": np.array([1e-16, 3e-16])}
    assert features.difference(theirs, theirs) == 0
    assert features.difference({**theirs, "lags": np.array([24, 24, 12, 18])}, theirs) == 1
    # One value throughout, and rounding itself: nothing to be relative to.
    assert features.difference({**theirs, "flat": np.array([1, 1, 1, 1.5])}, theirs) == 0.5
    assert features.difference({**theirs, "reconstruction_error": np.array([2e-16, 3e-16])}, theirs) < 1e-15
    with pytest.raises(ValueError, match="flat"):
        features.difference({k: v for k, v in theirs.items() if k != "flat"}, theirs)
    with pytest.raises(ValueError, match=r"lags: \(2,\)"):
        features.difference({**theirs, "lags": np.array([24, 24])}, theirs)


def test_rows_of_features(series: tuple[SeriesArrays, Scaler]) -> None:
    settings = FeatureSettings(levels=2, wavelet="db2")
    subject = Subject("Hourly load.", "1h", WINDOW, 12, settings)
    prompter = Prompter(tokenizer_of("bert"), subject, PromptSettings(tokens=300))
    tables, prompts = features.features(*series, prompter, WINDOW, settings, sample=10, repeats=1)
    found = tables.plain()
    assert (found["bench"], found["path"], found["other"]) == ("features", "vectorized", "pywt_loop")
    assert (found["windows"], found["other_windows"]) == (337 * 3, 30)
    assert found["error"] < 1e-9
    assert found["ratio_median"] == pytest.approx(found["other_seconds"] / found["seconds"], rel=1e-3)
    told = prompts.plain()
    assert (told["path"], told["other"], told["windows"]) == ("prompts", "", 30)
    assert 0 < told["tokens"] <= 300
    assert told["per_second"] > 0


def test_the_other_side_is_scaled_by_windows(
    series: tuple[SeriesArrays, Scaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop over 1 of 337 windows takes as long as the pass over all: it is 337 times slower."""
    clock = Clock()
    monkeypatch.setattr(rows, "time", clock)
    monkeypatch.setattr(features, "passed", lambda *_: clock.work(2.0)())
    monkeypatch.setattr(features, "exhaust", lambda *_: clock.work(2.0)())
    (row,) = features.features(*series, None, WINDOW, FeatureSettings(levels=2), sample=1, repeats=2)
    assert (row.ratio_median, row.seconds, row.other_seconds) == (337, 2, 2 * 337)


def test_a_pass_covers_every_window_of_every_table(series: tuple[SeriesArrays, Scaler]) -> None:
    settings = FeatureSettings(levels=2, memory_mb=1.0)
    assert features.passed(*series, WINDOW, settings) == 337 * 3
    assert len(list(loop.rows(*series, np.arange(337), WINDOW, settings))) == 337 * 3
    chosen = features.sampled(series[0], WINDOW, 20, seed=3)
    assert len(set(chosen.tolist())) == 20
    assert chosen.max() <= 336
    np.testing.assert_array_equal(chosen, features.sampled(series[0], WINDOW, 20, seed=3))
    assert len(features.sampled(series[0], WINDOW, 10**6, seed=0)) == 337


def test_rows_of_wavelet() -> None:
    found = list(features.wavelet(((3, 64), (5, 128)), FeatureSettings(levels=2), repeats=2, calls=2))
    assert [(row.series, row.more["window"]) for row in found] == [(3, 64), (5, 128)]
    for row in found:
        assert (row.bench, row.path, row.other) == ("wavelet", "batched", "pywt_loop")
        assert row.error is not None
        assert row.error < 1e-12
        assert row.ratio_min is not None
        assert row.ratio_min > 0


def test_a_generated_series_has_its_size_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = stream.generated(0.001, channels=3)
    assert 0 <= 1e6 - arrays.values.nbytes < 3 * 8
    assert arrays.observed.all()
    monkeypatch.setattr(stream, "BLOCK", 1000)
    np.testing.assert_array_equal(arrays.values, stream.generated(0.001, channels=3).values)
    assert (arrays.values != stream.generated(0.001, channels=3, seed=1).values).all()


def test_streaming_is_measured_without_the_parents_memory() -> None:
    # Resident here, and part of what ru_maxrss of a child begins with.
    ballast = np.ones(40 * 2**20)
    (row,) = stream.streamed(0.002, WINDOW, 2, FeatureSettings(levels=2, memory_mb=4.0))
    found = row.plain()
    assert (found["path"], found["stride"]) == ("streamed", 32)
    assert found["windows"] == ((125_000 - WINDOW) // 32 + 1) * 2
    assert 20 < found["loaded_mb"] < ballast.nbytes / 2**20
    assert found["series_mb"] < found["peak_mb"] < found["loaded_mb"] + 8
    assert found["seconds"] > 0


def test_the_peak_of_what_comes_later_is_not_hidden_by_what_came_before() -> None:
    code = (
        "import json; from wavecore.bench.child import forget_peak, peak_mb\n"
        "large = bytearray(80 * 2**20); before = peak_mb(); del large\n"
        "apart = forget_peak(); small = bytearray(8 * 2**20); print(json.dumps([before, apart, peak_mb()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, apart, after = json.loads(done.stdout)
    assert before > 80
    assert not apart or 8 < after < before - 60


def test_where_there_is_no_bf16_nothing_is_measured_in_it(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavecore.learn.device.native_bf16", lambda device: False)
    measured = speed.speed("infer", "minilm", 7, 1, 1, Size(2, 1, 1), peer=False, window=WINDOW, model=TINY)
    found = [row.plain() for row in measured]
    assert {row["dtype"] for row in found} == {"float32"}
    assert [(row["path"], row["other"]) for row in found] == [
        ("exact", "reference"), ("exact", "plain"), ("exact, static prompt", "reference"), ("budget", "reference")
    ]  # fmt: skip
    assert {side.dtype for side in memory.sides(None).values()} == {"float32"}
    assert {side.dtype for side in scale.paths(WINDOW, Size(2, 1, 1), 0.25).values()} == {"float32"}


@pytest.mark.parametrize("full", [0.2, 0.25, 0.3, 1.0])
def test_steps_that_read_everything_are_just_their_share(full: float, folders: dict[str, Path]) -> None:
    model = budgeted(folders["bert"], budget={"full": full})
    assert model.budget is not None
    drawn = Drawn(model)
    whole = sum(size.tokens == model.patches for size in drawn.sizes)
    assert whole / len(drawn.sizes) == pytest.approx(full)


def test_a_child_says_why_it_stopped() -> None:
    (row,) = stream.streamed(0.0001, WINDOW, 2, FeatureSettings(levels=9))
    assert "9 levels of db4 need a longer window" in row.plain()["stopped"]
    assert row.seconds is None
    with pytest.raises(RuntimeError, match="unexpected keyword"):
        ask("features", nonsense=1)


@pytest.mark.parametrize("limit", [0, 63, 64, 65, 200, 1000, 4095, 4096, 9000])
@pytest.mark.parametrize("step", [1, 7, 64])
def test_bisection_finds_a_known_limit(limit: int, step: int) -> None:
    tried: list[int] = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= limit

    found = limits.largest(fits, 64, 4096, step)
    expected = max((n for n in range(64, 4097, step) if n <= limit), default=0)
    assert found == expected
    assert len(tried) == len(set(tried)) <= 20
    roughly = limits.largest(fits, 64, 4096, step, within=0.1)
    assert roughly <= expected <= roughly * 1.1 + step


def test_limits_tell_what_is_beyond_them(tiny: str) -> None:
    def measure(task: str, backbone: str, side: dict[str, Any], series: int, window: int, threads: int) -> Any:
        assert (task, backbone, threads) == ("infer", tiny, 1)
        if window > 1000:
            return {"stopped": "too few positions"}
        return {"peak_mb": 100.0 + series * (2 if side["stage"] == "base" else 1)}

    found = list(
        limits.limits(
            "tiny", 0.5, 7, 1, Size(2, 1, 1), 128, most_window=4096, most_series=350, within=0.0, measure=measure,
            also=("only_sparse",),
        )
    )  # fmt: skip
    assert [(r.path, r.more["work"]) for r in found] == [
        ("exact", "longest window"), ("exact", "most series"), ("budget", "longest window"), ("budget", "most series"),
        ("only_sparse", "longest window"), ("only_sparse", "most series"),
    ]  # fmt: skip
    windows, series = found[0].more, found[1].more
    # 128 and multiples of 64.
    assert (windows["window"], windows["beyond"]) == (960, "1024: too few positions")
    assert (found[1].series, series["peak_mb"], series["beyond"]) == (203, 506.0, "210: 520 MiB")
    assert (found[3].series, found[3].more["beyond"]) == (350, "350 is the most that was tried")


def test_memory_comes_from_a_child_of_its_own(tiny: str) -> None:
    ballast = torch.ones(3 * 2**26)  # 768 MiB here
    (row,) = memory.memory("tiny", 3, 1, 1, Size(2, 1, 1), 128, TINY, work=("infer",), paths=("exact",))
    found = row.plain()
    assert (found["bench"], found["path"], found["other"], found["work"]) == ("memory", "exact", "", "infer")
    assert 50 < found["loaded_mb"] <= found["peak_mb"] < ballast.nbytes / 2**20


def test_memory_is_held_against_the_reference(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(task: str, side: dict[str, Any], **_: Any) -> dict[str, Any]:
        if task == "train" and side["stage"] == "reference":
            return {"stopped": "out of memory"}
        return {"peak_mb": {"reference": 900.0, "base": 300.0, "budget": 200.0}[side["stage"]], "loaded_mb": 100.0}

    monkeypatch.setattr(memory, "ask", measured)
    found = {(row.more["work"], row.path): row for row in memory.memory("tiny", steps=7, model=TINY)}
    assert len(found) == 6
    assert found["infer", "exact"].other == "reference"
    assert found["infer", "exact"].more["peak_ratio"] == 3
    assert found["infer", "budget"].more["peak_ratio"] == 4.5
    assert found["train", "reference"].more["stopped"] == "out of memory"
    assert found["train", "exact"].other == ""
    assert "peak_ratio" not in found["train", "exact"].more
    assert found["train", "exact"].more["steps"] == 7


def test_bytes_kept_for_the_backward_pass_are_exact() -> None:
    weight = torch.nn.Parameter(torch.ones(1000))

    def step() -> None:
        weight.grad = None
        made = weight * 2
        # Twice the same, and a view of it: 4000 bytes.
        (made * made + made.view(10, 100).exp().view(-1) * 0).sum().backward()

    # The exponential is kept too.
    assert memory.saved(step) == 8000
    # Weights were there before.
    assert memory.saved(lambda: (weight * weight).sum().backward()) == 0


def test_rows_of_backward(tiny: str) -> None:
    found = {row.path: row for row in memory.backward("tiny", 3, 2, 1, 128, TINY)}
    assert list(found) == ["reference", "exact", "budget"]
    assert found["reference"].more["saved_mb"] > found["exact"].more["saved_mb"] > 0
    assert found["exact"].more["saved_ratio"] > 1


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7, 2.0])
def test_a_known_power_is_fitted(power: float) -> None:
    assert scale.exponent([(x, 3e-5 * x**power) for x in (512, 1024, 3072, 8192)]) == pytest.approx(power, abs=1e-9)
    assert scale.exponent([(512, 1.0)]) is None
    assert scale.exponent([]) is None


def test_operations_of_attention_are_counted_however_it_is_computed(tiny: str) -> None:
    shape, data = geometry(128), batch(3, 128)
    count = {
        dtype: scale.flops(make(Side("base", dtype, TINY), tiny, shape), data, dtype)  # type: ignore[arg-type]
        for dtype in ("float32", "bf16")
    }
    assert count["float32"] == count["bf16"] > 0
    assert count["bf16"] < scale.flops(make(Side("reference", "float32", TINY), tiny, shape), data, "float32")


def test_rows_of_scale(tiny: str) -> None:
    found = list(scale.scale("tiny", (128, 256, 16384), 2, 1, 1, Size(4, 1, 1), 0.5, memory=False, model=TINY))
    names = ["reference", "exact", "budget, 4 tokens", "budget, 50% of the patches"]
    assert [row.path for row in found] == names * 4
    for row in found[:8]:
        told = row.plain()
        assert {"window", "patches", "tokens", "flops", "threads"} <= set(told)
        assert told["flops"] > 0
        assert row.seconds is not None
        assert row.seconds > 0
    assert [row.more["tokens"] for row in found[:8]] == [16, 16, 4, 8, 32, 32, 4, 16]
    for row in found[8:12]:
        assert "positions" in row.more["stopped"]
        assert row.seconds is None
    for row, measured in zip(found[12:], found[:4], strict=True):
        later = found[found.index(measured) + 4]
        assert row.more["windows"] == [128, 256]
        expected = math.log2(later.more["flops"] / measured.more["flops"])
        assert row.more["exponent_flops"] == pytest.approx(expected)
    fixed, growing = (found[12 + names.index(name)].more["exponent_flops"] for name in names[2:])
    assert fixed < growing


@pytest.mark.slow
def test_rows_of_stages(tiny: str) -> None:
    model = {**TINY, "tokens": {"block": 4}}
    chosen = ("only_tokens", "only_streams", "only_sparse", "no_llm")
    found = list(stages.stages(chosen, "tiny", (256, 16384), (0.25, 0.5), 2, 1, 1, memory=False, model=model))
    # Two rows each, of the one with shares four; then why neither reads so long a window.
    assert [(row.path, row.more["work"]) for row in found[:10]] == [
        (name, work)
        for name in ("only_tokens", "only_streams", "only_sparse", "only_sparse", "no_llm")
        for work in ("infer", "train")
    ]
    assert all("positions" in row.more["stopped"] for row in found[10:])
    tokens = {(row.path, row.more.get("share")): row.more["tokens"] for row in found[:10]}
    assert tokens["only_tokens", None] > 32 == tokens["only_streams", None] == tokens["no_llm", None]
    assert (tokens["only_sparse", 0.25], tokens["only_sparse", 0.5]) == (8, 16)
    flops = [row.more["flops"] for row in found[:10] if row.more["work"] == "infer"]
    with_tokens, with_streams, quarter, half, without = flops
    assert without < quarter < half < with_streams < with_tokens
    assert all(row.ratio_median is not None and row.ratio_median > 0 for row in found[:10])
    assert "prompt_tokens" not in found[8].more
    for name in ("dlinear", "budget.drop"):
        with pytest.raises(SettingsError, match=name):
            list(stages.stages((name,), "tiny"))


def test_further_stages_that_are_measured_already_are_refused() -> None:
    from pipelines.bench_options import further

    assert further("only_sparse, tokens") == ("only_sparse", "tokens")
    assert further(None) == ()
    for name in ("base", "reference", "budget.drop", "dlinear", "only_sparse,", "nonsense"):
        with pytest.raises(SettingsError):
            further(name)


def test_rows_of_latency(tiny: str) -> None:
    found = list(latency.latency("tiny", 3, (1,), Size(2, 1, 1), 128, TINY, ("only_sparse",)))
    assert [(row.path, row.series, row.more["threads"]) for row in found] == [
        ("exact", 7, 1), ("budget", 7, 1), ("only_sparse", 7, 1),
    ]  # fmt: skip
    for row in found:
        assert row.seconds is not None
        assert 0 < row.seconds <= row.more["p95"]
        assert row.more["first"] > 0


@pytest.mark.parametrize("alone", [True, False])
def test_rows_of_kept(alone: bool, folders: dict[str, Path]) -> None:
    """Every size's error is that of the forecasts with just this size; what was chosen stays chosen."""
    borders = Borders(train=(0, 200), select=(200, 260), decide=(260, 330), test=(330, 400))
    model, data = budgeted(folders["bert"]).eval(), window_data()
    calibrate(model, data, borders, TrainSettings(batch_windows=2, threads=1))
    assert model.budget is not None
    picked, told = int(model.budget.tokens), model.budget.told.clone()
    influence = measured_influence(model, data, borders, 2)
    base = None if alone else made("base", folders["bert"])
    found = list(kept.kept(model, data, borders, "float32", 5, 2, 1, base, "bert"))
    assert [row.path for row in found] == ["exact"] * (not alone) + ["budget"] * (len(found) - (not alone))
    sizes = [row for row in found if row.path == "budget"]
    every = [Size(row.more["tokens"], row.more["facts"], row.more["depth"]) for row in sizes]
    assert set(every) >= {Size(tokens, *pair) for tokens in model.budget.sizes for pair in ((1, 1), (2, 2))}
    assert len(set(every)) == len(every)
    test = origins(borders, "test", data.window, data.horizon)
    batch = data.batch(test[np.unique(np.linspace(0, len(test) - 1, 5).astype(int))])
    assert len({row.more["mse"] for row in sizes}) > len(model.budget.sizes)
    for row in sizes:
        if not row.more["chosen"]:
            # The influence is measured again, so the same prompt tokens are seen.
            hold(model, Size(row.more["tokens"], row.more["facts"], row.more["depth"]), influence)
            error = float(mse(torch.tensor(predict(model, batch)), batch.y, batch.mask))
            assert row.more["mse"] == pytest.approx(error, rel=1e-4)
            model.budget.tokens.fill_(picked)
            model.budget.told.copy_(told)
        assert row.other == ("everything read" if alone else "exact")
        assert row.more["windows"] == 5
        assert row.series == 2 * data.values.shape[1]
        if row.more["chosen"]:
            error = float(mse(torch.tensor(predict(model, batch)), batch.y, batch.mask))
            assert row.more["mse"] == pytest.approx(error, rel=1e-5)
    assert sum(row.more["chosen"] for row in sizes) == 1
    if alone:
        assert sizes[0].more["mse"] == sizes[0].more["other_mse"]
    assert (int(model.budget.tokens), bool((model.budget.told == told).all())) == (picked, True)
    (few, *_) = kept.kept(model, data, borders, "float32", 1, 2, 1)
    assert few.series == data.values.shape[1]
    with pytest.raises(SettingsError, match="as a window needs"):
        list(kept.kept(budgeted(folders["bert"], "budget.per_window"), data, borders))
    with pytest.raises(SettingsError, match="without a budget"):
        list(kept.kept(model, data, borders, against=model))
    with pytest.raises(SettingsError, match="no token budget"):
        list(kept.kept(made("base", folders["bert"]), data, borders))
