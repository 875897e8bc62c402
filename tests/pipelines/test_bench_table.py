"""Rows of a bench as tables."""

from __future__ import annotations

from pipelines.bench_table import stages


def test_what_a_stage_costs_is_one_line_per_stage_length_and_share() -> None:
    same = {"bench": "stages", "path": "only_sparse", "window": 512, "share": 0.5, "tokens": 32.0, "weights": 9876}
    infer = {**same, "work": "infer", "ratio_median": 2.0, "ratio_min": 1.6, "ratio_max": 2.5, "flops": 3.2e9}
    train = {**same, "work": "train", "ratio_median": 0.5, "ratio_min": 0.4, "ratio_max": 0.8, "peak_mb": 812.4}
    long = {"bench": "stages", "path": "tokens", "window": 16384, "stopped": "no position is left"}
    lines = stages([infer, train, long, {"bench": "kept"}])
    assert lines[2:] == [
        "| `only_sparse`, 50% kept | 512 | 32 | 9,876 | 0.50 (0.40 to 0.62) | 2.00 (1.25 to 2.50) | 3.2 | – | 812 |",
        "| `tokens` | 16,384 | – | – | no position is left | – | – | – | – |",
    ]
    assert len({line.count("|") for line in lines}) == 1
