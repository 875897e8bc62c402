"""evaluation: every test window scored; metrics and per-origin losses in `results/`, forecasts in the store."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import BENCHMARK_TO_MODEL, MODELS
from assets.producing import Made, Work, check_specs, produce
from assets.project import seed_folder, seeds_in
from assets.standing import made_now
from assets.storage import read_json, to_json, write_text
from assets.versions import Versions
from wavecore.errors import StorageError
from wavecore.judge.files import LOSSES, MANIFEST, METRICS, RESULTS, identity, intact, results_hash, rows_json, texts
from wavecore.rooms import judge_rooms
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from data_contracts.outcomes import ContractResult

FORECASTS = "forecasts.parquet"
INSIDE = "inside.json"


@dg.asset(
    partitions_def=MODELS,
    deps=["model", dg.AssetDep("prompts", partition_mapping=BENCHMARK_TO_MODEL)],
    group_name="results",
    kinds={"json", "parquet"},
    description=(
        "MSE, MAE and MASE on all test windows, per channel, horizon step and wavelet scale, train-standardized and in "
        "original units; in events, in spectrum, and with disturbed inputs; the loss of every origin; sample forecasts."
    ),
    check_specs=[
        *check_specs("evaluation", "evaluation"),
        dg.AssetCheckSpec(
            "all_test_windows_scored", asset="evaluation", blocking=True, description="Not one test window is left out."
        ),
        dg.AssetCheckSpec(
            "beats_window_mean",
            asset="evaluation",
            description="The test MSE is below that of a forecast which repeats the window's mean.",
        ),
    ],
)
def evaluation(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _evaluation)


def _evaluation(work: Work) -> Made:
    from assets.training import Ground, wanted_seeds
    from wavecore.learn.manifest import code_hash

    benchmark, stage = work.key.split("|")
    ground, chosen = Ground.load(work.project, benchmark), get_stage(stage)
    wanted = wanted_seeds(ground.settings, benchmark, chosen)
    models, results = work.project.models(benchmark, stage), work.outs[0]
    code = code_hash(judge_rooms(chosen.family), work.project.root)
    scored, contracts = [], []
    # A seed that was not trained again yet keeps its results, until its own turn comes.
    judged = [
        s for s in seeds_in(models) if s in wanted and made_now(work.project, ground, chosen, s, seed_folder(models, s))
    ]
    if not judged:
        there = "only models of other settings, data or code" if seeds_in(models) else "no model to judge"
        raise StorageError(f"{models}: there is {there}", f"wavecore materialize model '{work.key}'")
    for seed in judged:
        due = _identity(ground, seed_folder(models, seed), code)
        keep = [s for s in seeds_in(results) if s in wanted and s != seed]
        if not _stands(work, seed_folder(results, seed), seed_folder(work.outs[1], seed), due):
            contracts.append(_score(work, ground, seed, due, keep))
            scored.append(seed)
    if set(seeds_in(results)) - set(wanted):
        _rewrite(work, [s for s in seeds_in(results) if s in wanted])
    return _report(work, ground, set(judged) >= set(wanted), scored, contracts)


def _identity(ground: Any, model: Path, code: str) -> dict[str, Any]:
    from assets.training import judge_hash
    from wavecore.learn.checkpoint import read_manifest

    return identity(read_manifest(model), ground.data_hash, judge_hash(ground), code)


def _stands(work: Work, results: Path, forecasts: Path, due: dict[str, Any]) -> bool:
    from assets.accepted import equal_code

    paths = [results / MANIFEST, forecasts / MANIFEST]
    needed = [*paths, results / METRICS, forecasts / FORECASTS]
    if get_stage(work.key.split("|")[1]).family == "time_llm":
        needed.append(forecasts / INSIDE)
    if not all(path.is_file() for path in needed):
        return False
    found, beside = (read_json(path) for path in paths)
    if found != beside:
        return False  # a run ended between the two
    same = {k: v for k, v in found.items() if k not in ("code_hash", RESULTS)} == {
        k: v for k, v in due.items() if k != "code_hash"
    }
    return same and intact(results, found) and equal_code(work.project, found["code_hash"], due["code_hash"])


def _score(work: Work, ground: Any, seed: int, due: dict[str, Any], keep: list[int]) -> Any:
    from tqdm import tqdm

    from assets.model import timing_file
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
    from assets.tables import write_parquet

    files = texts(benchmark, stage, seed, found.rows, found.losses)
    with work.folders() as folders:
        for target, folder in zip(work.outs, folders, strict=True):
            _copy(target, folder, keep)
            seed_folder(folder, seed).mkdir()
            write_text(seed_folder(folder, seed) / MANIFEST, to_json(due | {RESULTS: results_hash(files)}))
        kept = [_sample(ground, *one) for one in found.samples]
        write_parquet(seed_folder(folders[1], seed) / FORECASTS, kept)
        if seen is not None:
            write_text(seed_folder(folders[1], seed) / INSIDE, rows_json(seen))
        own = seed_folder(folders[0], seed)
        for name, text in files.items():
            write_text(own / name, text)
        summaries(folders[0])
    path = timing_file(work.project, benchmark, stage, seed)
    before = read_json(path) if path.is_file() else {}
    write_text(path, to_json(before | {"eval_seconds": round(found.seconds, 2)}))
    return contract


def loss_contract(ground: Any, losses: dict[str, Any]) -> "ContractResult":
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


def _look(ground: Any, module: Any, windows: Any, origin: int) -> dict[str, Any] | None:
    """One test window seen from inside the model, with its prompt; None for a model without prototypes."""
    from wavecore.inside import look, stayed, two_streams
    from wavecore.model.groups import parts
    from wavecore.model.time_llm import TimeLLM

    if not isinstance(module, TimeLLM):
        return None
    x = windows.batch([origin]).x
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


def _sample(ground: Any, origin: int, ahead: Any, truth: Any, mask: Any) -> dict[str, Any]:
    """Forecast and truth of one test window in original units: one row per channel, [N, H] lists."""
    import numpy as np

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


def _rewrite(work: Work, seeds: list[int]) -> None:
    """Drop the seeds that params.yaml no longer asks for."""
    with work.folders() as folders:
        for target, folder in zip(work.outs, folders, strict=True):
            _copy(target, folder, seeds)
        summaries(folders[0])


def _copy(source: Path, target: Path, seeds: list[int]) -> None:
    """What is there of these seeds: in a fresh clone git has the results of all, but nobody their forecasts."""
    for seed in seeds:
        if seed_folder(source, seed).is_dir():
            shutil.copytree(seed_folder(source, seed), seed_folder(target, seed))


def _report(work: Work, ground: Any, complete: bool, scored: list[int], contracts: list[Any]) -> Made:
    from assets import figures
    from assets.tables import read_parquet
    from wavecore.judge.metrics import WINDOW_MEAN
    from wavecore.series.splits import origins

    results, stage = work.outs[0], work.key.split("|")[1]
    present = seeds_in(results)
    test = origins(ground.borders, "test", ground.benchmark.window, ground.benchmark.horizon)
    summary = read_json(results / METRICS)
    whole = all(summary[f"seed={s}"]["n_windows"] == len(test) for s in present)
    if not contracts:
        losses = read_json(seed_folder(results, present[0]) / LOSSES)
        contracts = [work.require(loss_contract(ground, losses))]
    first = summary[f"seed={present[0]}"]
    # Seeds that another machine judged have results alone.
    kept = [seed_folder(work.outs[1], s) for s in present if (seed_folder(work.outs[1], s) / FORECASTS).is_file()]
    inside: dict[str, Any] = {}
    if kept:
        drawn = figures.forecasts(samples(ground, {stage: read_parquet(kept[0] / FORECASTS)}), [stage])
        inside["forecasts"] = dg.MetadataValue.md(drawn.markdown(f"sample forecasts of {work.key}"))
    if kept and (kept[0] / INSIDE).is_file():
        seen = read_json(kept[0] / INSIDE)
        inside |= {
            "prompt": seen["prompt"] or "none",
            "prompt tokens per channel": ", ".join(map(str, seen["prompt tokens"])) or "none",
            "prototypes": dg.MetadataValue.md(prototype_table(seen)),
            "attention": dg.MetadataValue.md(
                figures.prototype_attention(seen).markdown(f"which prototypes the patches of {work.key} attend to")
            ),
        }
    means = {s: metric(read_json(seed_folder(results, s) / METRICS), "mse", WINDOW_MEAN) for s in present}
    beaten = [s for s in present if means[s] is not None and not summary[f"seed={s}"]["mse"] < means[s]]
    return Made(
        metadata={
            "mse": first["mse"],
            "mae": first["mae"],
            "mase": first["mase"],
            "test windows": len(test),
            "n_series": first["n_series"],
            "seeds": ", ".join(map(str, present)),
            "scored now": ", ".join(map(str, scored)) or "none: all stood already",
            "per seed": dg.MetadataValue.json(summary),
            **inside,
            **column_lineage("evaluation"),
        },
        complete=complete,
        warnings=frozenset({"beats_window_mean"}),
        # One badge per rule: the last seed scored speaks; a failing one has stopped the run before.
        contracts=contracts[-1:],
        checks={
            "all_test_windows_scored": (whole, {"due": len(test), "seeds": ", ".join(map(str, present))}),
            "beats_window_mean": (
                not beaten,
                {
                    "MSE of the window's mean": means[present[0]],
                    "seeds that do not": ", ".join(map(str, beaten)) or "none",
                },
            ),
        },
    )


WEIGHED, NEAR = "words by mapping weight", "nearest words"


def prototype_table(seen: dict[str, Any], most: int = 12) -> str:
    """The most attended prototypes of `inside.json` as a Markdown table, with the words behind them."""

    def words(pairs: list[list[Any]]) -> str:
        # Tokens may hold what Markdown reads as markup.
        return ", ".join(f"`{str(text).replace('`', chr(39)).replace('|', '/')}` {value:+.3f}" for text, value in pairs)

    share = [sum(row[i] for row in seen["rows"]) / len(seen["rows"]) for i in range(len(seen["prototypes"]))]
    columns = [key for key in (WEIGHED, NEAR) if seen[key]]
    lines = [
        "| " + " | ".join(["prototype", "mean attention", *columns]) + " |",
        "| ---: | ---: |" + " --- |" * len(columns),
    ]
    for i, prototype in enumerate(seen["prototypes"][:most]):
        lines.append(" | ".join([f"| {prototype}", f"{share[i]:.4f}", *(words(seen[c][i]) for c in columns)]) + " |")
    return "\n".join(lines)


def samples(ground: Any, tables: dict[str, Any], most: int = 3) -> list[Any]:
    """Forecasts of several stages on the same windows, one panel per window, for `figures.forecasts`.

    Args:
        tables: stage → its forecasts table, lowest rung first.
        most: panels; the channels take turns over them.
    """
    import numpy as np
    import polars as pl

    from assets.figures import Forecast

    first = next(iter(tables.values()))
    channels, horizon = ground.arrays.channels, ground.benchmark.horizon
    panels = []
    for i, origin in enumerate(first["origin"].unique(maintain_order=True).to_list()[:most]):
        place = i % len(channels)
        rows = {
            stage: table.filter((pl.col("origin") == origin) & (pl.col("channel") == channels[place])).row(
                0, named=True
            )
            for stage, table in tables.items()
        }
        back = min(ground.benchmark.window, 3 * horizon)
        one = next(iter(rows.values()))
        panels.append(
            Forecast(
                title=f"{channels[place]}, from {one['first']:%Y-%m-%d %H:%M}",
                history=ground.arrays.values[origin - back : origin, place],
                truth=np.array(one["truth"], dtype=np.float64),
                stages={stage: np.array(row["forecast"], dtype=np.float64) for stage, row in rows.items()},
            )
        )
    return panels
