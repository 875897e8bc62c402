"""`wavecore bench online` measures what it says it measures."""

from __future__ import annotations

import pytest

from wavecore.bench.online import PLAIN, online
from wavecore.bench.variants import variants
from wavecore.errors import SettingsError


def test_every_learner_is_held_against_a_forecast_alone() -> None:
    rows = [row.plain() for row in online(repeats=3, threads=(1,), window=48, horizon=4, epochs=4, steps=1, warm=0)]
    learners, steps = rows[:-1], rows[-1]
    assert [row["path"] for row in learners] == [PLAIN] + [
        f"{model}, {learner}"
        for model in ("titan", "dlinear")
        for learner in ("online", "online, a step for 2 labels", "online, a step for 4 labels", "replay", "elf")
    ]
    # A row counts from the first label on.
    assert all(row["repeats"] == 3 and row["seconds"] > 0 for row in learners)
    titan, dlinear = (next(r for r in learners if r["path"] == f"{m}, online") for m in ("titan", "dlinear"))
    assert titan["ratio_min"] <= titan["ratio_median"] <= titan["ratio_max"]
    assert titan["ratio_median"] < 1
    fewer = next(r for r in learners if r["path"] == "titan, online, a step for 4 labels")
    assert fewer["seconds"] < titan["seconds"]
    assert dlinear["seconds"] < titan["seconds"]
    assert steps["epochs"] == 4
    assert steps["low"] <= steps["drift"] <= steps["high"]


def test_a_variant_is_measured_as_it_is_defined() -> None:
    chosen = ("titan", "titan.every_4", "titan.mean")
    model = {"d_model": 16, "persistent": 2}
    titan, rarely, mean = (r.plain() for r in variants(chosen, 48, 4, 2, repeats=3, model=model))
    assert [r["path"] for r in (titan, rarely, mean)] == list(chosen)
    # A step for four labels, on the same weights; a head of its own.
    assert rarely["row_ms"] < titan["row_ms"]
    assert rarely["weights"] == titan["weights"] > mean["weights"]
    assert rarely["saved_mb"] == titan["saved_mb"] > mean["saved_mb"] > 0
    assert rarely["ratio_median"] > 1
    with pytest.raises(SettingsError, match="base is no variant of titan"):
        list(variants(("titan", "base")))
