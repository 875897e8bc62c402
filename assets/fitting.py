"""One seed of a forecaster, trained on a benchmark and saved: what of the asset `model` a weight follows from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from assets.project import Project
from assets.timings import note, timings

if TYPE_CHECKING:
    from torch import nn

    from assets.producing import Work
    from assets.training import Ground
    from wavecore.learn.loop import Trained
    from wavecore.stages import Stage


def fit_seed(
    work: Work, ground: Ground, stage: Stage, seed: int, finished: Path, guard: Callable[[nn.Module], None]
) -> list[str]:
    """Train one seed and save it as `finished`, outside the artifact. Returns what a user should know.

    Args:
        guard: looks at a model before it is trained, and may stop the run.
    """
    from assets.told import told_windows
    from assets.training import expected_of
    from wavecore.learn.checkpoint import save_model
    from wavecore.learn.finishing import finish, regress
    from wavecore.learn.loop import train
    from wavecore.learn.manifest import hash_of, manifest
    from wavecore.model.build import build
    from wavecore.rooms import train_rooms

    benchmark = ground.benchmark.name
    config, settings = ground.config(stage, seed), ground.train_settings(stage)
    module = build(stage, ground.geometry_of(stage), ground.settings, benchmark, seed)
    expected = expected_of(work.project, ground, stage, seed)
    curve: list[dict[str, Any]] = []
    notes: list[str] = []
    calibration: list[dict[str, Any]] = []
    steps = best = 0
    if stage.trained:
        guard(module)
    regression = regress(module, ground.windows, ground.borders, expected["device"], expected["threads"])
    if not stage.trained:
        calibration = finish(module, ground.windows, ground.borders, settings, regression)
    else:
        windows, told = told_windows(work.project, ground, stage, module)
        notes += [f"seed {seed}: token ids of prompts: {told}"] if told else []
        began, resume = time.monotonic(), finished.parent / "run"
        with work.check("loss_finite"):
            done = train(
                module,
                windows,
                ground.borders,
                settings,
                seed,
                resume,
                hash_of(expected),
                progress=True,
                where=f"{benchmark} {stage.name} seed {seed}",
            )
        module, curve, steps, best = done.model, done.curve, done.steps, done.best_step
        calibration = finish(module, windows, ground.borders, settings, regression)
        seconds = time.monotonic() - began
        _seconds(work.project, (benchmark, stage.name, seed), seconds, done, expected["device"])
        notes += [f"seed {seed}: {note}" for note in done.notes]
        notes.append(f"seed {seed}: {steps} steps, best at {best}, stopped by {done.stopped}")
    notes += [f"seed {seed}: {_spoken(row)}" for row in calibration if row["chosen"]]
    full = manifest(
        module,
        config=config,
        data_hash=ground.data_hash,
        rooms=list(train_rooms(stage.family)),
        seed=seed,
        threads=expected["threads"],
        dtype=expected["dtype"],
        device=expected["device"],
        steps=steps,
        best_step=best,
        calibration=calibration,
        root=work.project.root,
    )
    save_model(finished, module, config, curve, full)
    return notes


def _spoken(row: dict[str, Any]) -> str:
    """What was chosen after training, in words."""
    if "ridge" in row:
        return f"regression of the window {row['linear']}, ridge {row['ridge']:g}; error {row['error']:.4f} on `select`"
    return (
        f"budget: {row['tokens']:g} tokens a window; the prompt's facts in {row['facts']} layers, description and task "
        f"in {row['depth']}, {row['prompt']:.1f} prompt tokens in the mean; error {row['error']:.4f} on `decide`"
    )


def _seconds(project: Project, where: tuple[str, str, int], spent: float, run: Trained, device: str) -> None:
    """Note what a training took, with what it took before a stop."""
    before = 0.0 if run.resumed_from is None else timings(project, *where).get("train_seconds", 0.0)
    found = {
        "train_seconds": round(before + spent, 2),
        "resumed_from": run.resumed_from,
        "peak_rss_mb": round(psutil.Process().memory_info().rss / 2**20),
        "device": device,
    }
    note(project, *where, found, anew=True)
