"""One seed of a forecaster judged on every test window: what of the asset `evaluation` a result follows from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.project import seed_folder, seeds_in
from assets.standing import BESIDE, hashes_of
from assets.storage import read_json, to_json, write_text
from assets.timings import note
from wavecore.judge.files import MANIFEST, METRICS, RESULTS, results_hash, rows_json, texts
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from torch import nn

    from assets.producing import Work
    from assets.training import Ground
    from data_contracts.outcomes import ContractResult
    from wavecore.series.windows import WindowData

FORECASTS = "forecasts.parquet"
INSIDE = "inside.json"


def score_seed(work: Work, ground: Ground, seed: int, due: dict[str, Any], keep: list[int]) -> ContractResult:
    """Judge one seed and swap its results in; those of the seeds `keep` stay. Returns what the contract says.

    Args:
        due: what the results follow from, for their manifest.
    """
    from tqdm import tqdm

    from assets.tables import write_parquet
    from assets.told import told_windows
    from wavecore.judge.scoring import score
    from wavecore.learn.checkpoint import load_model
    from wavecore.learn.device import place_of, threads
    from wavecore.model.build import from_config
    from wavecore.series.splits import origins

    benchmark, stage = work.key.split("|")
    loaded = load_model(seed_folder(work.project.models(benchmark, stage), seed), from_config)
    # In float32 on the device that trains; sums are in float64 (the judge).
    loaded.model.to(place_of(ground.settings.train_of(benchmark, stage)).device)
    windows, told = told_windows(work.project, ground, get_stage(stage), loaded.model)
    if told:
        work.context.log.info(f"{benchmark} {stage} seed {seed}: token ids of prompts: {told}")
    test = origins(ground.borders, "test", ground.benchmark.window, ground.benchmark.horizon)
    with (
        threads(ground.settings.train.threads),
        tqdm(total=len(test), desc=f"{benchmark} {stage} seed {seed}: test", unit="window", disable=None) as bar,
    ):
        found = score(loaded.model, windows, ground.scene, loaded.manifest["dtype"], bar.update)
    seen = _look(ground, loaded.model, windows, int(test[len(test) // 2]))
    contract = work.require(loss_contract(ground, found.losses))
    files = texts(benchmark, stage, seed, found.rows, found.losses)
    with work.folders() as folders:
        for target, folder in zip(work.outs, folders, strict=True):
            copy_seeds(target, folder, keep)
            seed_folder(folder, seed).mkdir()
        own, beside = (seed_folder(folder, seed) for folder in folders)
        for name, text in files.items():
            write_text(own / name, text)
        write_parquet(beside / FORECASTS, [_sample(ground, *one) for one in found.samples])
        if seen is not None:
            write_text(beside / INSIDE, rows_json(seen))
        written = hashes_of(beside, [FORECASTS] if seen is None else [FORECASTS, INSIDE])
        for folder in (own, beside):
            write_text(folder / MANIFEST, to_json(due | {RESULTS: results_hash(files), BESIDE: written}))
        summaries(folders[0])
    note(work.project, benchmark, stage, seed, {"eval_seconds": round(found.seconds, 2)})
    return contract


def loss_contract(ground: Ground, losses: dict[str, Any]) -> ContractResult:
    """The losses of one seed (columns origin, mse, mae) held against the suite `evaluation`."""
    import polars as pl

    from data_contracts.contracts import validate

    return validate(
        "evaluation",
        pl.DataFrame(losses, schema={"origin": pl.Int64, "mse": pl.Float64, "mae": pl.Float64}),
        {
            "window": ground.benchmark.window,
            "horizon": ground.benchmark.horizon,
            "borders": ground.borders,
            "missing": ground.dataset.treatment.missing,
        },
    )


def _look(ground: Ground, module: nn.Module, windows: WindowData, origin: int) -> dict[str, Any] | None:
    """One test window seen from inside the model, with its prompt; None for a model without prototypes."""
    from wavecore.inside import look, stayed, two_streams
    from wavecore.model.groups import parts
    from wavecore.model.time_llm import TimeLLM

    if not isinstance(module, TimeLLM):
        return None
    x = windows.batch(np.array([origin])).x
    told = module.prompts(x.to(module.mapping.weight.device))
    found = {
        "window": origin - ground.benchmark.window,
        "channel": ground.arrays.channels[0],
        "patch": [ground.benchmark.patch.length, ground.benchmark.patch.stride],
        "reads": "patches" if module.wavelets is None or module.wavelets.reads_patches else "wavelets",
        "prompt": told[0].text if told else "",
        "prompt tokens": [len(p.ids) for p in told],
        "parts": [list(p) for p in parts(module)],
        **look(module, x[0]).as_plain(),
        **({"budget": kept} if (kept := stayed(module, x[0])) else {}),
        **({"streams": both} if (both := two_streams(module, x[0])) else {}),
    }
    # One patch per line.
    found["rows"] = found.pop("attention")
    return found


def _sample(ground: Ground, origin: int, ahead: Any, truth: Any, mask: Any) -> dict[str, Any]:
    """Forecast and truth of one test window in original units: one row per channel, [N, H] lists."""
    horizon = ground.benchmark.horizon
    real = ground.scaler.inverse(np.where(mask, truth, np.nan))
    return {
        "window": np.full(len(ground.arrays.channels), origin - ground.benchmark.window),
        "origin": np.full(len(ground.arrays.channels), origin),
        "first": np.full(len(ground.arrays.channels), ground.arrays.timestamps[origin]),
        "channel": np.array(ground.arrays.channels),
        "forecast": ground.scaler.inverse(ahead.astype(np.float64)).T.astype(np.float32).reshape(-1, horizon),
        "truth": real.T.astype(np.float32).reshape(-1, horizon),
    }


def metric(long: dict[str, Any], name: str, group: str = "overall", key: str = "all") -> float | None:
    """One value out of a seed's metrics.json."""
    for m, g, k, value, _ in long["rows"]:
        if (m, g, k) == (name, group, key):
            return float(value) if value is not None else None
    return None


def summaries(folder: Path) -> None:
    """metrics.json (for `dvc metrics`) and steps.csv (for `dvc plots`) over all seeds of the folder."""
    summary: dict[str, Any] = {}
    steps: dict[int, list[tuple[float, float]]] = {}
    for seed in seeds_in(folder):
        long = read_json(seed_folder(folder, seed) / METRICS)
        summary[f"seed={seed}"] = {name: metric(long, name) for name in ("mse", "mae", "mase")} | {
            name: int(metric(long, name) or 0) for name in ("n_series", "n_windows", "n_origins_unscored")
        }
        for m, group, key, value, _ in long["rows"]:
            if group == "step" and m == "mse" and value is not None:
                mae = metric(long, "mae", "step", key)
                steps.setdefault(int(key), []).append((value, mae if mae is not None else float("nan")))
    write_text(folder / METRICS, to_json(summary))
    lines = ["step,mse,mae"]
    for step, values in sorted(steps.items()):
        mse, mae = (sum(v[i] for v in values) / len(values) for i in (0, 1))
        lines.append(f"{step},{mse:.6g},{mae:.6g}")
    write_text(folder / "steps.csv", "\n".join(lines) + "\n")


def copy_seeds(source: Path, target: Path, seeds: list[int]) -> None:
    """What is there of these seeds: in a fresh clone git has the results of all, but nobody their forecasts."""
    for seed in seeds:
        if seed_folder(source, seed).is_dir():
            shutil.copytree(seed_folder(source, seed), seed_folder(target, seed))
