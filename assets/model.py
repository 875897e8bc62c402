"""model: one trained forecaster per benchmark × stage, a folder per seed."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets.fitting import fit_seed
from assets.lineage import column_lineage
from assets.locks import compute_lock
from assets.partitions import BENCHMARK_TO_MODEL, MODELS
from assets.producing import Made, Work, produce
from assets.project import seed_folder, seeds_in
from assets.versions import Versions
from wavecore.errors import SettingsError, StorageError
from wavecore.stages import Stage
from wavecore.stages import get as get_stage

ALLOW_HOURS = "wavecore/allow_hours"
SEED = "wavecore/seed"


@dg.asset(
    partitions_def=MODELS,
    deps=[dg.AssetDep(name, partition_mapping=BENCHMARK_TO_MODEL) for name in ("splits", "prompts")],
    group_name="models",
    kinds={"pytorch"},
    description=(
        "Trainable weights (safetensors), config, training curve and manifest, one folder per seed. Early stopping on "
        "`select`, best weights kept, a killed run goes on where it was."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            "loss_finite", asset="model", blocking=True, description="Every row of the training curve is finite."
        ),
        dg.AssetCheckSpec(
            "weights_verified",
            asset="model",
            blocking=True,
            description="Weights, config and manifest read back and fit.",
        ),
        dg.AssetCheckSpec(
            "not_cut_short",
            asset="model",
            description="Training ended because validation stopped improving, not for lack of steps.",
        ),
    ],
)
def model(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _model)


def _model(work: Work) -> Made:
    from assets.training import Ground, expected_of, wanted_seeds
    from wavecore.learn.checkpoint import discard_resume

    benchmark, stage = work.key.split("|")
    ground, chosen = Ground.load(work.project, benchmark), get_stage(stage)
    wanted = wanted_seeds(ground.settings, benchmark, chosen)
    only = work.context.run.tags.get(SEED)
    target, notes, trained = work.outs[0], [], []
    # Where each seed's model lies: in the artifact already, or finished by a run that was killed before it could swap.
    places: dict[int, Path] = {}
    for seed in wanted:
        due = only is None or not chosen.seeded or seed == int(only)
        finished = work.project.resume(benchmark, stage, seed) / "finished"
        expected = expected_of(work.project, ground, chosen, seed)
        standing = next((p for p in (seed_folder(target, seed), finished) if _stands(work, p, expected)), None)
        if standing is None and due:
            with compute_lock(work.project, work.context.log.info):
                notes += fit_seed(work, ground, chosen, seed, finished, partial(_guard, work, ground, chosen, seed))
            trained.append(seed)
            standing = finished
        if standing is not None:
            places[seed] = standing
    missing = [seed for seed in wanted if seed not in places]
    # A seed that was not asked for now stays as it was, though it may be out of date; then nothing is committed.
    kept = places | {s: seed_folder(target, s) for s in missing if seed_folder(target, s).is_dir()}
    if kept != {s: seed_folder(target, s) for s in seeds_in(target)}:
        with work.folder() as folder:
            for seed, place in kept.items():
                shutil.copytree(place, seed_folder(folder, seed))
    for seed in places:
        discard_resume(work.project.resume(benchmark, stage, seed) / "run")
        shutil.rmtree(work.project.resume(benchmark, stage, seed), ignore_errors=True)
    return _report(work, ground, chosen, trained, missing, notes)


def _stands(work: Work, folder: Path, expected: dict[str, Any]) -> bool:
    """Whether the folder holds the model that `expected` describes, every file whole."""
    from assets.accepted import equal_code
    from wavecore.learn.checkpoint import load_model, read_manifest
    from wavecore.model.build import from_config

    if not folder.is_dir():
        return False
    try:
        # The manifest first: a model that is of no use may need a language model that is no longer here.
        found = read_manifest(folder)
        same = all(found.get(key) == value for key, value in expected.items() if key != "code_hash")
        if not same or not equal_code(work.project, found["code_hash"], expected["code_hash"]):
            return False
        load_model(folder, from_config)
    except (StorageError, SettingsError) as error:
        work.context.log.warning(f"{error}; it is trained again")
        return False
    return True


def _guard(work: Work, ground: Any, stage: Stage, seed: int, module: Any) -> None:
    """Stop before a run of hours that nobody asked for.

    Raises:
        SettingsError: the estimate is above `pipeline.limit_minutes` and neither a tag nor the environment says go.
    """
    from wavecore.learn.estimate import estimate_seconds

    told = work.context.run.tags.get(ALLOW_HOURS) == "true" or os.environ.get("WAVECORE_ALLOW_HOURS") == "1"
    settings, where = ground.train_settings(stage), f"{ground.benchmark.name} {stage.name} seed {seed}"
    estimate = estimate_seconds(module, ground.windows, ground.borders, settings)
    minutes = estimate.training(settings) / 60
    work.context.log.info(f"{where}: at most about {minutes:.1f} minutes ({settings.steps} steps)")
    if minutes > ground.settings.pipeline.limit_minutes and not told:
        raise SettingsError(
            f"{where}: about {minutes:.0f} minutes for {settings.steps} steps, above pipeline.limit_minutes = "
            f"{ground.settings.pipeline.limit_minutes:g}; nothing was started",
            f"`wavecore run … --yes`, the run tag {ALLOW_HOURS}: true, or WAVECORE_ALLOW_HOURS=1 lets it run; "
            "`wavecore plan --minutes M` says how many steps fit",
        )


def _report(work: Work, ground: Any, stage: Stage, trained: list[int], missing: list[int], notes: list[str]) -> Made:
    import math

    from assets import figures
    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config
    from wavecore.model.groups import counts, parts

    curves: dict[int, list[dict[str, Any]]] = {}
    lines, cut, finite = [], [], True
    for seed in seeds_in(work.outs[0]):
        with work.check("weights_verified"):
            loaded = load_model(seed_folder(work.outs[0], seed), from_config)
        finite = finite and all(math.isfinite(row[k]) for row in loaded.curve for k in ("loss", "select"))
        curves[seed] = loaded.curve
        if loaded.curve and loaded.manifest["best_step"] == loaded.manifest["steps"]:
            cut.append(seed)
        lines.append(f"seed {seed}: best step {loaded.manifest['best_step']} of {loaded.manifest['steps']}")
        groups, table = counts(loaded.model), parts(loaded.model)
    metadata: dict[str, Any] = {
        "stage": stage.description,
        "seeds": ", ".join(map(str, seeds_in(work.outs[0]))),
        "trained now": ", ".join(map(str, trained)) or "none: all stood already",
        "runs": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines + notes)),
        "parameter groups": dg.MetadataValue.json(groups),
        "weights": dg.MetadataValue.md(_weights(table)),
        "device": loaded.manifest["device"],
        "precision": loaded.manifest["dtype"],
        **column_lineage("model"),
    }
    if missing:
        metadata["seeds still missing"] = ", ".join(map(str, missing))
    if any(curves.values()):
        drawing = figures.training_curves(curves, work.key.replace("|", " "), metric=ground.train_settings(stage).loss)
        metadata["curve"] = dg.MetadataValue.md(drawing.markdown(f"training curve of {work.key}"))
    return Made(
        metadata=metadata,
        complete=not missing,
        warnings=frozenset({"not_cut_short"}),
        checks={
            "loss_finite": (finite, {"rows": sum(map(len, curves.values()))}),
            "weights_verified": (True, {"manifests": len(curves)}),
            "not_cut_short": (
                not cut,
                {"seeds still improving at their last step": ", ".join(map(str, cut)) or "none"},
            ),
        },
    )


def _weights(table: tuple[Any, ...]) -> str:
    """Trainable and frozen weights per part as Markdown (R12)."""
    lines = ["| part | trainable | frozen |", "| --- | ---: | ---: |"]
    lines += [f"| {p.name} | {p.trainable:,} | {p.frozen:,} |" for p in table]
    lines.append(f"| **all** | {sum(p.trainable for p in table):,} | {sum(p.frozen for p in table):,} |")
    return "\n".join(lines)
