"""`wavecore bench online` measures what it says it measures."""

from __future__ import annotations

from wavecore.bench.online import PLAIN, online


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
