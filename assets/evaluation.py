"""evaluation: every test window scored; metrics and per-origin losses in `results/`, forecasts in the store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import BENCHMARK_TO_MODEL, MODELS
from assets.producing import Made, Work, check_specs, produce
from assets.project import seed_folder, seeds_in
from assets.scoring import FORECASTS, INSIDE, copy_seeds, loss_contract, metric, score_seed, summaries
from assets.standing import made_now, stand
from assets.storage import read_json
from assets.versions import Versions
from wavecore.errors import StorageError
from wavecore.judge.files import LOSSES, MANIFEST, METRICS, identity, intact
from wavecore.rooms import judge_rooms
from wavecore.stages import get as get_stage


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
            contracts.append(score_seed(work, ground, seed, due, keep))
            scored.append(seed)
    if set(seeds_in(results)) - set(wanted):
        _rewrite(work, [s for s in seeds_in(results) if s in wanted])
    return _report(work, ground, set(judged) >= set(wanted), scored, contracts)


def _identity(ground: Any, model: Path, code: str) -> dict[str, Any]:
    from assets.training import judge_hash
    from wavecore.learn.checkpoint import read_manifest

    return identity(read_manifest(model), ground.data_hash, judge_hash(ground), code)


def _stands(work: Work, results: Path, forecasts: Path, due: dict[str, Any]) -> bool:
    needed = [FORECASTS, INSIDE] if get_stage(work.key.split("|")[1]).family == "time_llm" else [FORECASTS]
    return stand(work.project, results, forecasts, due, needed) and intact(results, read_json(results / MANIFEST))


def _rewrite(work: Work, seeds: list[int]) -> None:
    """Drop the seeds that params.yaml no longer asks for."""
    with work.folders() as folders:
        for target, folder in zip(work.outs, folders, strict=True):
            copy_seeds(target, folder, seeds)
        summaries(folders[0])


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
