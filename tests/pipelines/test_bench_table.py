"""Rows of a bench as tables."""

from __future__ import annotations

from pipelines.bench_table import stages, surface, variants


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


def test_a_surface_is_one_line_per_length_and_share() -> None:
    same = {"bench": "surface", "benchmark": "etth1_96", "window": 1024, "other_mse": 0.4}
    first = {**same, "path": "base", "tokens": 128.0, "mse": 0.4, "ratio_median": 1.0, "ratio_min": 1.0}
    first |= {"ratio_max": 1.0, "train_seconds": 300.4, "infer_mb": 600.2, "train_mb": 900.0}
    half = {**same, "path": "only_sparse", "share": 0.5, "tokens": 64.0, "mse": 0.41, "ratio_median": 1.9}
    half |= {"ratio_min": 1.8, "ratio_max": 2.1, "train_seconds": 200.0, "infer_mb": "–", "train_mb": 700.0}
    lines = surface([first, half, {"bench": "kept"}])
    assert lines[2:] == [
        "| etth1_96 | 1,024 | `base` | 128 | 0.4000 | +0.0% | 1.00 (1.00 to 1.00) | 300 | 600 | 900 |",
        "| etth1_96 | 1,024 | `only_sparse`, 50% kept | 64 | 0.4100 | +2.5% | 1.90 (1.80 to 2.10) | 200 | – | 700 |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_what_a_variant_costs_is_one_line() -> None:
    row = {"bench": "variants", "path": "titan.every_4", "weights": 87153, "forecast_ms": 1.77, "row_ms": 5.47}
    row |= {"ratio_median": 2.0, "ratio_min": 1.6, "ratio_max": 2.5, "train_ms": 135.4, "saved_mb": 45.7}
    lines = variants([row, {"bench": "kept"}])
    assert lines[2:] == ["| `titan.every_4` | 87,153 | 1.8 | 5.5 | 0.50 (0.40 to 0.62) | 135 | 46 |"]
    assert len({line.count("|") for line in lines}) == 1
