"""Errors in declared segments: by brute force, in any order of batches."""

from __future__ import annotations

import numpy as np
import pytest

from wavecore.judge.segments import Segments

TIMES = np.datetime64("2024-01-01", "us") + np.arange(200) * np.timedelta64(30, "m")
H = 6


def moment(row: int) -> np.datetime64:
    return TIMES[row]


def rows_of(parts: list[np.ndarray], segments: dict, forecast: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict:
    found = Segments(TIMES, segments, H)
    for rows in parts:
        found.update(rows + 50, forecast[rows], truth[rows], mask[rows])
    return {(r["group"], r["key"]): (r["value"], r["n"]) for r in found.rows()}


def test_errors_are_those_of_the_rows_that_lie_inside() -> None:
    random = np.random.default_rng(0)
    forecast, truth = random.normal(size=(2, 40, H, 3))
    mask = random.random((40, H, 3)) < 0.9
    truth[~mask] = np.nan
    # The second overlaps the first, the third lies before every target.
    segments = {
        "feast": (moment(60), moment(64)),
        "storm": (moment(64) - np.timedelta64(1, "s"), moment(70)),
        "past": (moment(0), moment(3)),
    }
    spans = {"feast": range(60, 65), "storm": range(64, 71)}
    sums: dict[tuple[str, str], list[float]] = {}
    for window in range(40):
        for step in range(H):
            row = 50 + window + step
            keys = [("segment", name) for name, span in spans.items() if row in span] or [("no_segment", "all")]
            for channel in range(3):
                if mask[window, step, channel]:
                    for key in keys:
                        square = (forecast[window, step, channel] - truth[window, step, channel]) ** 2
                        sums.setdefault(key, []).append(square)
    whole = rows_of([np.arange(40)], segments, forecast, truth, mask)
    assert set(whole) == set(sums)
    for key, squares in sums.items():
        assert whole[key] == (pytest.approx(np.mean(squares), rel=1e-7), len(squares))
    assert rows_of([np.arange(20, 40), np.arange(20)], segments, forecast, truth, mask) == whole


def test_without_a_segment_among_the_targets_nothing_is_told_apart() -> None:
    ones = np.ones((4, H, 1))
    for segments in ({}, {"past": (moment(0), moment(3))}):
        assert rows_of([np.arange(4)], segments, ones, ones, ones.astype(bool)) == {}
