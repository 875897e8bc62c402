"""A token budget's sizes are chosen on `decide`, under the tolerance, and stay with the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language import batch_of, budgeted, window_data

from wavecore.config import TrainSettings
from wavecore.learn import calibrate as calibration
from wavecore.learn.calibrate import calibrate, most_windows
from wavecore.learn.checkpoint import load_model, save_model, trainable
from wavecore.learn.forecast import predict
from wavecore.learn.loop import train
from wavecore.learn.manifest import manifest, tensors_hash
from wavecore.model import looking
from wavecore.model.settings import Size
from wavecore.model.time_llm import TimeLLM
from wavecore.series.splits import Borders

BORDERS = Borders(train=(0, 200), select=(200, 260), decide=(260, 330), test=(330, 400))
TRAIN = TrainSettings(steps=2, batch_windows=2, eval_every=2, eval_windows=3, threads=1)


def trained(folder: Path, stage: str = "budget", **more: Any) -> TimeLLM:
    model = budgeted(folder, stage, **more)
    train(model, window_data(), BORDERS, TRAIN, seed=0)
    return model


def test_one_cap_takes_the_size_that_reads_least(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fewer patches cost too much and the prompt is worth nothing, the prompt pays."""
    model = trained(folders["bert"], "budget.shared", budget={"tolerance": 0.1})
    monkeypatch.setattr(calibration, "evaluate", lambda m, *_: 1.0 + (int(m.budget.tokens) < m.patches))
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    sizes = len(model.budget.sizes)  # type: ignore[union-attr]
    assert all((row["facts"], row["depth"]) == (2, 2) for row in rows[:sizes])
    costs = [2 * row["tokens"] + 2 * row["prompt"] for row in rows[sizes:]]
    assert costs == sorted(costs)
    assert rows[-1]["chosen"]
    assert (rows[-1]["tokens"], rows[-1]["facts"], rows[-1]["depth"]) == (model.patches, 1, 1)


@pytest.mark.parametrize("stage", ["budget", "budget.series_only", "budget.per_window", "budget.shared"])
def test_the_cheapest_within_the_tolerance_is_chosen(stage: str, folders: dict[str, Path]) -> None:
    model = trained(folders["bert"], stage, budget={"tolerance": 0.5})
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    assert rows[0]["tokens"] == model.patches
    whole = [row for row in rows if row["facts"] == 2][:4]
    assert len({row["tokens"] for row in whole}) == len(whole), "every size is scored"
    (chosen,) = [row for row in rows if row["chosen"]]
    limit = 1.5 * min(row["error"] for row in whole)
    assert chosen["within"]
    assert all(row["within"] == (row["error"] <= limit) for row in rows)
    assert chosen["tokens"] < model.patches, "half more error is allowed here"
    cheaper = [r for r in rows if r["tokens"] < chosen["tokens"]]
    if stage != "budget.shared":
        assert not any(r["within"] and r["facts"] == 2 for r in cheaper)
    assert int(model.budget.tokens) in model.budget.sizes  # type: ignore[union-attr]


def test_a_tolerance_that_nothing_meets_keeps_everything(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(folders["bert"], budget={"tolerance": 0.01})
    monkeypatch.setattr(
        calibration,
        "evaluate",
        lambda m, *_: 1.0 + (int(m.budget.tokens) < m.patches) + (not bool(m.budget.told.all())),
    )
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    assert [row["chosen"] for row in rows] == [True] + [False] * (len(rows) - 1)
    assert int(model.budget.tokens) == model.patches  # type: ignore[union-attr]
    assert bool(model.budget.told.all())  # type: ignore[union-attr]


@pytest.mark.parametrize("facts", [True, False])
def test_the_prompt_pays_only_where_it_costs_nothing(
    facts: bool, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts and the rest of the prompt fall away apart: one may be worth nothing where the other is worth much."""
    model = trained(folders["bert"], budget={"tolerance": 0.01})
    fixed = len(model.prompter.fixed_ids)  # type: ignore[union-attr]
    dear = slice(fixed, None) if facts else slice(0, fixed)
    monkeypatch.setattr(calibration, "evaluate", lambda m, *_: 2.0 - float(m.budget.told[:, dear].all()))
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    told = model.budget.told  # type: ignore[union-attr]
    assert bool(told[:, dear].all())
    # Description and task are never seen less deep than the facts.
    assert bool(told[1, :fixed].all())
    assert bool(told[1, fixed:].any()) == facts
    assert model.budget.size(fixed)[1:] == ((2, 2) if facts else (1, 2))  # type: ignore[union-attr]
    assert [(r["facts"], r["depth"]) for r in rows[-2:]] == ([(2, 2), (1, 2)] if facts else [(1, 2), (1, 1)])


def test_a_size_is_held_against_the_best_of_all(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything read is worst, a size that is no worse than that would give away what a larger one has."""
    model = trained(folders["bert"], "budget.series_only", budget={"tolerance": 0.01})
    assert model.budget is not None
    errors = dict(zip(model.budget.sizes, (1.2, 1.0, 1.3), strict=True))
    monkeypatch.setattr(calibration, "evaluate", lambda m, *_: errors[int(m.budget.tokens)])
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    assert {row["tokens"]: row["within"] for row in rows} == {k: e <= 1.01 for k, e in errors.items()}
    assert int(model.budget.tokens) == min(k for k, e in errors.items() if e <= 1.01)


@pytest.mark.parametrize("stage", ["budget", "budget.series_only", "budget.per_window", "budget.shared"])
def test_no_more_windows_are_forecast_than_was_said(
    stage: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is longest where the facts are worth nothing and the rest of the prompt is worth much."""
    for worth in (True, False):
        model, seen = trained(folders["bert"], stage), []
        fixed = len(model.prompter.fixed_ids)  # type: ignore[union-attr]

        def scored(
            m: Any, _: Any, chosen: Any, *__: Any, worth: bool = worth, seen: list[int] = seen, fixed: int = fixed
        ) -> float:
            seen.append(len(chosen))
            told = m.budget.told
            return 2.0 - float(told.all() or (worth and told[:, :fixed].all()))

        monkeypatch.setattr(calibration, "evaluate", scored)
        calibrate(model, window_data(), BORDERS, TRAIN)
        most = most_windows(model, window_data(), BORDERS)
        assert sum(seen) <= most
        if stage == "budget.series_only" or (stage == "budget" and worth):
            assert sum(seen) == most


def test_nothing_but_decide_is_looked_at(folders: dict[str, Path]) -> None:
    """Other values after `decide`, and targets before it, change nothing of the choice."""
    data = window_data()
    values = data.values.clone()
    values[BORDERS.decide[1] :] = 100.0
    values[: BORDERS.decide[0] - data.window] = -100.0
    poisoned = dataclasses.replace(data, values=values)
    model, other = trained(folders["gpt2"]), trained(folders["gpt2"])
    assert calibrate(model, data, BORDERS, TRAIN) == calibrate(other, poisoned, BORDERS, TRAIN)


def test_the_choice_is_saved_with_the_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    model, batch = trained(folders["bert"], budget={"tolerance": 0.9}), batch_of(2)
    rows = calibrate(model, window_data(), BORDERS, TRAIN)
    assert int(model.budget.tokens) < model.patches  # type: ignore[union-attr]
    config = {"stage": "budget"}
    full = manifest(
        model, config=config, data_hash="x", rooms=["wavecore/model"], seed=0, threads=1, dtype="float32",
        device="cpu", steps=2, best_step=2, calibration=rows,
    )  # fmt: skip
    save_model(tmp_path / "m", model, config, [], full)
    loaded = load_model(tmp_path / "m", lambda _: budgeted(folders["bert"], budget={"tolerance": 0.9}))
    assert loaded.manifest["calibration"] == rows
    np.testing.assert_array_equal(predict(loaded.model, batch), predict(model, batch))
    assert not any("tokens" in name for name in trainable(model))


def test_influence_is_measured_all_over_decide(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = looking.influence

    def noted(model: TimeLLM, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return real(model, x)

    monkeypatch.setattr(looking, "influence", noted)
    calibrate(trained(folders["bert"], budget={"windows": 0}), window_data(), BORDERS, TRAIN)
    assert sum(seen) >= 32
    assert max(seen) <= TRAIN.batch_windows


def test_a_killed_run_with_a_budget_ends_in_the_same_bits(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its sizes are drawn step by step, so a resumed run must draw the same ones."""
    settings = dataclasses.replace(TRAIN, steps=6, eval_every=3, checkpoint_every=2)

    class Killed(BaseException):
        pass

    def run(resume: Path, kill_at: int | None = None) -> TimeLLM:
        model, steps = budgeted(folders["bert"]), []
        real = model.budget.drawn  # type: ignore[union-attr]

        def drawn() -> Size:
            steps.append(1)
            if kill_at is not None and len(steps) > kill_at:
                raise Killed
            return real()

        model.budget.drawn = drawn  # type: ignore[union-attr, method-assign]
        train(model, window_data(), BORDERS, settings, seed=0, resume_dir=resume, run_hash="x")
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill_at=4)
    again = run(tmp_path / "cut")
    assert tensors_hash(trainable(again)) == tensors_hash(trainable(whole))
