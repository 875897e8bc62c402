"""The comparison of two stages: against other implementations, by hand, and by simulation with seeded data."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.sandwich_covariance import S_hac_simple

from wavecore.config import JudgeSettings
from wavecore.errors import DataError
from wavecore.judge.longrun import (
    PARZEN_SQUARED,
    bandwidth,
    covered_rows,
    long_run_sum,
    on_rows,
    parzen,
    small_sample_factor,
)
from wavecore.judge.significance import (
    average_seeds,
    block_length,
    bootstrap_interval,
    compare,
    compare_table,
    detectable_gap,
    diebold_mariano,
    holm,
)

JUDGE = JudgeSettings(bootstrap=200)


def overlapping(rng: np.random.Generator, n: int, horizon: int, rho: float = 0.0) -> np.ndarray:
    """[n] mean over `horizon` of autocorrelated shocks: what a loss difference of overlapping windows looks like."""
    shocks = rng.normal(size=n + horizon - 1 + 100)
    for t in range(1, len(shocks) if rho else 0):
        shocks[t] += rho * shocks[t - 1]
    total = np.concatenate([[0.0], np.cumsum(shocks[100:])])
    return (total[horizon:] - total[:-horizon]) / horizon


def runs(loss: np.ndarray, origins: np.ndarray | None = None) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    return {0: (np.arange(len(loss)) if origins is None else origins, loss)}


# Variance


@given(n=st.integers(2, 60), width=st.integers(1, 90), seed=st.integers(0, 99), share=st.sampled_from([0.4, 1.0]))
@settings(max_examples=60, deadline=None)
def test_long_run_sum_against_loops(n, width, seed, share):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n) * (rng.random(n) < share)
    weights = parzen(width)
    want = sum(weights[abs(s - t)] * u[s] * u[t] for s in range(n) for t in range(n) if abs(s - t) < width)
    assert long_run_sum(u, width) == pytest.approx(want, abs=1e-9)
    assert long_run_sum(u, width) >= 0


@pytest.mark.parametrize(("n", "horizon"), [(100, 5), (300, 24), (90, 30)])
def test_variance_is_that_of_statsmodels(n, horizon):
    d = overlapping(np.random.default_rng(n), n, horizon)
    width = bandwidth(n, horizon)
    # statsmodels wants lags below n; weights beyond the data multiply nothing.
    inner = S_hac_simple(d - d.mean(), nlags=min(width, n) - 1, weights_func=lambda lags: parzen(width)[: lags + 1])
    assert long_run_sum(d - d.mean(), width) == pytest.approx(inner.item(), rel=1e-9)
    test = diebold_mariano(d, np.arange(n), horizon)
    factor = small_sample_factor(np.ones(n, dtype=bool), parzen(width))
    assert test.error == pytest.approx(math.sqrt(inner.item() / factor) / n)
    assert test.lag == width - 1 >= horizon - 1


def test_parzen_square_integrates_to_its_constant():
    assert 2 * np.mean(parzen(100_000) ** 2) == pytest.approx(PARZEN_SQUARED, rel=1e-4)


@pytest.mark.parametrize(("n", "horizon"), [(20, 1), (50, 7), (200, 24)])
def test_flat_weights_give_the_published_factor(n, horizon):
    published = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    assert small_sample_factor(np.ones(n, dtype=bool), np.ones(horizon)) == pytest.approx(published)


@given(n=st.integers(3, 60), width=st.integers(1, 100), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_small_sample_factor_against_loops(n, width, seed):
    present = np.random.default_rng(seed).random(n) < 0.7
    present[0] = True
    weights = parzen(width)
    places = np.flatnonzero(present)
    total = sum(weights[abs(s - t)] for s in places for t in places if abs(s - t) < width)
    assert small_sample_factor(present, weights) == pytest.approx(1 - total / len(places) ** 2)


def test_small_sample_factor_is_the_expected_share():
    # Independent values: the estimate, corrected, is unbiased for the variance of the mean, gaps or not.
    rng = np.random.default_rng(0)
    present = np.ones(60, dtype=bool)
    present[[5, 6, 7, 30]] = False
    n, width = int(present.sum()), 20
    estimates = []
    for _ in range(4000):
        u = np.zeros(60)
        values = rng.normal(size=n)
        u[present] = values - values.mean()
        estimates.append(long_run_sum(u, width) / n**2)
    corrected = np.mean(estimates) / small_sample_factor(present, parzen(width))
    assert corrected == pytest.approx(1 / n, rel=0.05)


@given(seed=st.integers(0, 200), horizon=st.integers(1, 30), spans=st.integers(3, 12))
@settings(max_examples=60, deadline=None)
def test_variance_is_positive(seed, horizon, spans):
    n = max(10, spans * horizon)
    d = overlapping(np.random.default_rng(seed), n, horizon)
    test = diebold_mariano(d, np.arange(n), horizon)
    assert test.error > 0
    assert 0 <= test.p <= 1
    assert test.freedom > 0


# Diebold–Mariano


def test_hand_computed_example():
    # n = 10, H = 1: M = ceil(1.6·√10) = 6. Two ones and eight zeros, at rows 0 and 1.
    d = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    u = d - 0.2
    weights = [1, 1 - 6 / 36 + 6 / 216, 1 - 24 / 36 + 48 / 216, 1 - 54 / 36 + 162 / 216, 2 / 27, 2 / 216]
    gamma = [float(u[k:] @ u[: 10 - k]) for k in range(6)]
    assert gamma[:2] == pytest.approx([1.6, 0.64 - 0.16 + 7 * 0.04])
    total = gamma[0] + 2 * sum(w * g for w, g in zip(weights[1:], gamma[1:], strict=True))
    factor = 1 - (10 + 2 * sum(w * (10 - k) for k, w in enumerate(weights[1:], 1))) / 100
    test = diebold_mariano(d, np.arange(10), 1)
    assert test.effect == pytest.approx(0.2)
    assert test.error == pytest.approx(math.sqrt(total / factor) / 10)
    assert test.freedom == pytest.approx(10 / (6 * 151 / 280))
    assert test.p == pytest.approx(2 * stats.t.sf(0.2 / test.error, test.freedom))


@pytest.mark.parametrize(("horizon", "spans", "rho"), [(12, 30, 0.0), (12, 30, 0.8), (24, 8, 0.0), (1, 200, 0.3)])
def test_size_under_the_null(horizon, spans, rho):
    rng = np.random.default_rng(7)
    n, replications = horizon * spans, 500
    origins = np.arange(n)
    p = [diebold_mariano(overlapping(rng, n, horizon, rho), origins, horizon).p for _ in range(replications)]
    # 5% ± 1% of Monte Carlo error, and up to 3 points for what the kernel leaves out.
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.095


def test_the_textbook_lag_would_reject_far_too_often():
    # Why `bandwidth` is what it is: Bartlett weights up to lag H−1 and n−1 degrees of freedom.
    rng = np.random.default_rng(7)
    n, horizon, rejected = 24 * 8, 24, 0
    for _ in range(300):
        d = overlapping(rng, n, horizon)
        variance = S_hac_simple(d - d.mean(), nlags=horizon - 1).item() / n**2
        factor = small_sample_factor(np.ones(n, dtype=bool), np.ones(horizon))
        rejected += 2 * stats.t.sf(abs(d.mean()) / math.sqrt(variance) * math.sqrt(factor), n - 1) < 0.05
    assert rejected / 300 > 0.1


def test_power_near_the_detectable_gap():
    rng = np.random.default_rng(3)
    n, horizon, replications = 480, 24, 400
    origins = np.arange(n)
    errors = []
    for _ in range(100):
        test = diebold_mariano(overlapping(rng, n, horizon), origins, horizon)
        errors.append(test.error)
    gap = detectable_gap(float(np.sqrt(np.mean(np.square(errors)))), test.freedom, 0.05)
    p = [diebold_mariano(overlapping(rng, n, horizon) - gap, origins, horizon).p for _ in range(replications)]
    assert 0.7 <= np.mean(np.array(p) < 0.05) <= 0.9
    half = [diebold_mariano(overlapping(rng, n, horizon) - gap / 4, origins, horizon).p for _ in range(replications)]
    assert np.mean(np.array(half) < 0.05) < 0.3


def test_size_with_absent_origins():
    rng = np.random.default_rng(5)
    horizon, n = 12, 360
    p = []
    for _ in range(300):
        d = overlapping(rng, n, horizon)
        keep = rng.random(n) < 0.7
        keep[100:140] = False
        p.append(diebold_mariano(d[keep], np.flatnonzero(keep), horizon).p)
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_a_stride_costs_little():
    # Every fourth window of overlapping ones holds nearly the same information; counting places instead of rows
    # would take them for far less dependent than they are.
    d = overlapping(np.random.default_rng(0), 960, 48)
    whole = diebold_mariano(d, np.arange(960), 48)
    thinned = diebold_mariano(d[::4], np.arange(0, 960, 4), 48)
    assert thinned.error == pytest.approx(whole.error, rel=0.1)
    assert thinned.freedom == pytest.approx(whole.freedom, rel=0.01)


def test_one_step_losses_have_at_most_n_minus_one_degrees_of_freedom():
    d = np.random.default_rng(0).normal(size=400)
    test = diebold_mariano(d, np.arange(400), 1)
    assert test.freedom <= 399
    assert test.statistic == pytest.approx(stats.ttest_1samp(d, 0).statistic, rel=0.25)


def test_covered_rows_counts_a_gap_once():
    assert covered_rows(np.arange(10), 5) == 10
    assert covered_rows(np.arange(0, 40, 4), 5) == 37
    assert covered_rows(np.array([0, 1, 2, 1000, 1001]), 5) == 9
    assert covered_rows(np.array([], dtype=int), 5) == 0


def test_rows_are_filled_with_zeros():
    present, centred = on_rows(np.array([1.0, 2.0, 6.0]), np.array([7, 8, 11]))
    assert present.tolist() == [True, True, False, False, True]
    assert centred.tolist() == [-2, -1, 0, 0, 3]


# Defined results


def test_identical_forecasts():
    loss = np.random.default_rng(0).random(100)
    row = compare("a", "b", runs(loss), runs(loss.copy()), 5, JUDGE, 0)
    assert (row.effect, row.relative, row.low, row.high, row.p, row.statistic) == (0, 0, 0, 0, 1, 0)
    assert row.detectable == 0
    assert not row.significant
    assert row.verdict == "no difference shown"
    assert not row.reason


def test_forecasts_equal_but_for_rounding_are_identical():
    loss = np.random.default_rng(0).random(100) + 1
    row = compare("a", "b", runs(loss), runs(loss * (1 + 1e-15)), 5, JUDGE, 0)
    assert row.p == 1
    assert row.effect == 0


def test_a_constant_difference_has_no_variance():
    loss = np.random.default_rng(0).integers(0, 9, size=100).astype(float)
    row = compare("a", "b", runs(loss + 1), runs(loss), 5, JUDGE, 0)
    assert row.effect == 1
    assert math.isnan(row.p)
    assert math.isnan(row.low)
    assert "same at every origin" in row.reason
    assert not row.significant
    assert row.verdict == "no difference shown"


@pytest.mark.parametrize(("n", "horizon"), [(0, 4), (1, 4), (9, 1), (71, 24)])
def test_too_few_origins_give_a_reason(n, horizon):
    rng = np.random.default_rng(0)
    row = compare("a", "b", runs(rng.random(n)), runs(rng.random(n)), horizon, JUDGE, 0)
    assert math.isnan(row.p)
    assert math.isnan(row.low)
    assert math.isnan(row.detectable)
    assert row.reason
    assert row.verdict == "no difference shown"
    assert row.n_origins == n


def test_just_enough_origins():
    rng = np.random.default_rng(0)
    row = compare("a", "b", runs(rng.random(72)), runs(rng.random(72)), 24, JUDGE, 0)
    assert math.isfinite(row.p)
    assert row.low < row.effect < row.high
    assert not row.reason


def test_periodic_difference_is_defined():
    d = np.tile([1.0, -1.0], 60)
    test = diebold_mariano(d, np.arange(120), 1)
    assert (test.error > 0 and math.isfinite(test.p)) or test.reason


def test_a_difference_at_one_origin_is_defined():
    d = np.zeros(200)
    d[100] = 1.0
    low, high = bootstrap_interval(d, np.arange(200), 3, 200, 0.05, np.random.default_rng(0))
    test = diebold_mariano(d, np.arange(200), 3)
    assert test.p > 0.05
    assert math.isnan(low) or low < d.mean() < high


# Interval


@pytest.mark.parametrize(("horizon", "spans"), [(12, 30), (12, 6)])
def test_interval_coverage(horizon, spans):
    rng = np.random.default_rng(11)
    n, hits, replications = horizon * spans, 0, 300
    origins = np.arange(n)
    for _ in range(replications):
        low, high = bootstrap_interval(overlapping(rng, n, horizon), origins, horizon, 200, 0.05, rng)
        hits += low <= 0 <= high
    assert 0.88 <= hits / replications <= 0.99


def test_interval_narrows_with_alpha_and_is_seeded():
    d = overlapping(np.random.default_rng(0), 300, 12) + 1

    def at(alpha: float, seed: int = 0) -> tuple[float, float]:
        return bootstrap_interval(d, np.arange(300), 12, 500, alpha, np.random.default_rng(seed))

    assert at(0.05) == at(0.05) != at(0.05, 1)
    assert at(0.01)[0] < at(0.05)[0] < at(0.2)[0] < d.mean() < at(0.2)[1] < at(0.05)[1]


@given(rows=st.integers(3, 5000), horizon=st.integers(1, 720))
def test_blocks_hold_a_horizon(rows, horizon):
    length = block_length(rows, horizon)
    assert length >= horizon
    assert length == horizon or rows // length >= 5


# Table


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
def test_holm_is_that_of_statsmodels(size):
    # A few seeded tables, not hypothesis: statsmodels collects garbage at each call, a tenth of a second.
    p = np.random.default_rng(size).random(size) ** 3
    p[size // 2 :] = p[size // 2]  # ties
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_out_what_was_not_tested():
    got = holm(np.array([0.01, math.nan, 0.04]))
    assert got[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(got[1])
    assert holm(np.array([])).size == 0


def gapped(n: int = 400, horizon: int = 8, gap: float = 0.5) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(0)
    base = 2 + overlapping(rng, n, horizon)
    origins = np.arange(50, 50 + n)
    return {
        "low": {0: (origins, base)},
        "high": {s: (origins, base - gap + 0.3 * overlapping(rng, n, horizon)) for s in (0, 1, 2)},
        "same": {0: (origins, base + 0.3 * overlapping(rng, n, horizon))},
    }


def test_table_verdicts_and_fields():
    losses = gapped()
    table = compare_table(losses, [("high", "low"), ("same", "low")], 8, JUDGE, 0)
    better, same = table
    assert better.verdict == "better"
    assert better.significant
    assert better.high < 0
    assert better.p_holm == 2 * better.p
    assert better.effect == pytest.approx(-0.5, abs=0.05)
    assert better.effect == pytest.approx(better.relative * 2, abs=0.1)
    assert (better.n_seeds, better.other_n_seeds) == (3, 1)
    assert better.seed_spread > 0
    assert math.isnan(better.other_seed_spread)
    assert better.detectable < 0.5
    assert same.verdict == "no difference shown"
    assert same.p_holm == same.p
    assert same.low < 0 < same.high


def test_the_other_way_round_is_the_negative():
    losses = gapped()
    there = compare("high", "low", losses["high"], losses["low"], 8, JUDGE, 0)
    back = compare("low", "high", losses["low"], losses["high"], 8, JUDGE, 0)
    assert (back.effect, back.low, back.high, back.p) == pytest.approx(
        (-there.effect, -there.high, -there.low, there.p)
    )
    assert back.verdict == "worse"


def test_a_row_depends_on_its_table_only_through_holm():
    losses = gapped()
    alone = compare_table(losses, [("same", "low")], 8, JUDGE, 0)[0]
    among = compare_table(losses, [("high", "low"), ("high", "same"), ("same", "low")], 8, JUDGE, 0)[2]
    assert dataclasses.replace(among, p_holm=alone.p_holm, other_seed_spread=0, seed_spread=0) == dataclasses.replace(
        alone, other_seed_spread=0, seed_spread=0
    )
    assert compare_table(losses, [("same", "low")], 8, JUDGE, 1)[0].low != alone.low


def test_rescaling_all_losses_changes_no_conclusion():
    losses = gapped()
    scaled = {s: {k: (o, 1000 * v) for k, (o, v) in r.items()} for s, r in losses.items()}
    one, thousand = (compare_table(x, [("high", "low")], 8, JUDGE, 0)[0] for x in (losses, scaled))
    assert thousand.p == pytest.approx(one.p)
    assert thousand.relative == pytest.approx(one.relative)
    assert thousand.low == pytest.approx(1000 * one.low)


def test_order_of_origins_does_not_matter():
    losses = gapped()
    turned = {s: {k: (o[::-1], v[::-1]) for k, (o, v) in r.items()} for s, r in losses.items()}
    assert (
        compare_table(turned, [("high", "low")], 8, JUDGE, 0)[0].p
        == compare_table(losses, [("high", "low")], 8, JUDGE, 0)[0].p
    )


def test_unscored_origins_are_left_out_and_counted():
    losses = gapped()
    origins, loss = losses["low"][0]
    holes = [None if i in (5, 6, 7) else float(v) for i, v in enumerate(loss)]  # None: what JSON makes of NaN
    row = compare("high", "low", losses["high"], {0: (origins.tolist(), holes)}, 8, JUDGE, 0)
    assert row.n_left_out == 3
    assert row.n_origins == 397
    assert math.isfinite(row.p)


def test_seeds_are_averaged_per_origin_first():
    a, b = np.array([1.0, 2.0, np.nan]), np.array([3.0, 6.0, 1.0])
    mean = average_seeds("s", {1: ([7, 8, 9], a), 0: ([9, 8, 7], b[::-1])})
    assert mean.origins.tolist() == [7, 8, 9]
    assert mean.n_seeds == 2
    assert mean.loss[:2].tolist() == [2.0, 4.0]
    assert math.isnan(mean.loss[2])
    assert mean.spread == pytest.approx(np.std([1.5, 10 / 3], ddof=1))


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ({"a": {0: ([1, 2], [1.0, 2.0])}, "b": {0: ([1, 3], [1.0, 2.0])}}, "different origins.*the first 2"),
        ({"a": {0: ([1, 2], [1.0, 2.0]), 1: ([1], [1.0])}, "b": {0: ([1, 2], [1.0, 2.0])}}, "seed 1"),
        ({"a": {0: ([1, 1], [1.0, 2.0])}, "b": {0: ([1, 2], [1.0, 2.0])}}, "origin 1 is there twice"),
        ({"a": {0: ([1, 2], [1.0])}, "b": {0: ([1, 2], [1.0, 2.0])}}, "2 origins but 1 losses"),
        ({"a": {0: ([1, 2], [1.0, math.inf])}, "b": {0: ([1, 2], [1.0, 2.0])}}, "origin 2 is infinite"),
        ({"a": {}, "b": {0: ([1], [1.0])}}, "stage 'a' has no losses"),
        ({"b": {0: ([1], [1.0])}}, "stage 'a' has no losses"),
    ],
)
def test_losses_that_do_not_fit_are_errors(losses, text):
    with pytest.raises(DataError, match=text):
        compare_table(losses, [("a", "b")], 1, JUDGE, 0)


@pytest.mark.parametrize("pairs", [[("low", "low")], [("low", "high"), ("high", "low")]])
def test_a_pair_twice_is_an_error(pairs):
    with pytest.raises(DataError, match="no new comparison"):
        compare_table(gapped(), pairs, 8, JUDGE, 0)
