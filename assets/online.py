"""online_evaluation: a trained model forecasts its test rows one by one and learns from labels once they are known."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import MODELS
from assets.producing import Made, Work, produce
from assets.project import seed_folder, seeds_in
from assets.standing import made_now
from assets.storage import read_json
from assets.streamed import pace_in
from assets.streaming import STEPS, copy_streams, due_of, learners_in, stands, stream_seed, value
from assets.versions import Versions
from wavecore.errors import StorageError
from wavecore.judge.files import METRICS
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from assets.training import Ground

# Growth of a step's time over the whole stream that is taken for none, as a share of it.
FLAT = 0.2


@dg.asset(
    partitions_def=MODELS,
    deps=["model"],
    group_name="results",
    kinds={"json", "parquet"},
    description=(
        "The test rows pushed one by one; each label known only after its horizon and its delay. MSE, MAE and R² of "
        "the frozen model, of one that learns as it goes, of replay and of ELF, with Diebold–Mariano against frozen."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            "every_row_forecast", asset="online_evaluation", blocking=True,
            description="Every test window that the judge scores was forecast by every learner.",
        ),
        dg.AssetCheckSpec(
            "fit_to_learn_online", asset="online_evaluation",
            description="Of a stage with a memory: patience of 5 or more, a schedule without jumps, attention pooling.",
        ),
        dg.AssetCheckSpec(
            "not_stopped_early", asset="online_evaluation",
            description="Training did not end at its last step while validation was still at its best.",
        ),
        dg.AssetCheckSpec(
            "flat_step_time", asset="online_evaluation",
            description="A step takes as long at the end of the stream as at its beginning.",
        ),
        dg.AssetCheckSpec(
            "learning_helps", asset="online_evaluation",
            description="The model that learns online has a lower MSE than the same model frozen.",
        ),
    ],
)  # fmt: skip
def online_evaluation(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _online)


def _online(work: Work) -> Made:
    from assets.training import Ground, wanted_seeds

    benchmark, stage = work.key.split("|")
    ground, chosen = Ground.load(work.project, benchmark), get_stage(stage)
    wanted, trained = wanted_seeds(ground.settings, benchmark, chosen), get_stage(chosen.trained_as)
    models = work.project.models(benchmark, trained.name)
    there = [
        s
        for s in seeds_in(models)
        if s in wanted and made_now(work.project, ground, trained, s, seed_folder(models, s))
    ]
    if not there:
        found = "only models of other settings, data or code" if seeds_in(models) else "no model"
        raise StorageError(f"{models}: there is {found}", f"wavecore materialize model '{benchmark}|{trained.name}'")
    ran, notes = [], []
    for seed in there:
        due = due_of(work.project, ground, stage, seed_folder(models, seed))
        if not stands(work.project, seed_folder(work.outs[0], seed), seed_folder(work.outs[1], seed), due):
            others = [s for s in seeds_in(work.outs[0]) if s in wanted and s != seed]
            notes += stream_seed(work, ground, seed, due, others)
            ran.append(seed)
    if set(seeds_in(work.outs[0])) - set(wanted):
        with work.folders() as folders:
            copy_streams(work.outs, folders, [s for s in seeds_in(work.outs[0]) if s in wanted])
    return _report(work, ground, set(there) >= set(wanted), ran, notes)


def _less(long: Mapping[str, Any], learner: str, other: str) -> bool:
    a, b = value(long, learner, "mse"), value(long, other, "mse")
    return a is not None and b is not None and a < b


def _report(work: Work, ground: "Ground", complete: bool, ran: list[int], notes: list[str]) -> Made:
    from assets.tables import read_parquet
    from wavecore.series.splits import origins

    benchmark, stage = work.key.split("|")
    rows = len(origins(ground.borders, "test", ground.benchmark.window, ground.benchmark.horizon))
    by_seed = {s: read_json(seed_folder(work.outs[0], s) / METRICS) for s in seeds_in(work.outs[0])}
    # A clone may have the metrics of seeds whose streams ran elsewhere.
    tables = [path for s in by_seed if (path := seed_folder(work.outs[1], s) / STEPS).is_file()]
    told = [count for path in tables for count in read_parquet(path, ["learner"])["learner"].value_counts()["count"]]
    worse = [
        s for s, long in by_seed.items()
        if {"online", "frozen"} <= set(learners_in(long)) and not _less(long, "online", "frozen")
    ]  # fmt: skip
    paces = {(s, name): one for s in by_seed for name, one in pace_in(work.project, benchmark, stage, s).items()}
    # Growing beyond doubt, and by more than what is taken for none.
    growing = [f"seed {s} {name}" for (s, name), one in paces.items() if one["low"] > 0 and one["drift"] > FLAT]
    models = work.project.models(benchmark, get_stage(stage).trained_as)
    wrong, cut_off = unfit(ground, stage), early(models, list(by_seed))
    table = ["| seed | learner | MSE | MAE | R² | p against frozen |", "| ---: | --- | ---: | ---: | ---: | ---: |"]
    for s, long in by_seed.items():
        for name in learners_in(long):
            parts = [value(long, name, m) for m in ("mse", "mae", "r2")] + [value(long, name, "against_frozen", "p")]
            shown = (f"{part:.4g}" if part is not None else "–" for part in parts)
            table.append(f"| {s} | {name} | " + " | ".join(shown) + " |")
    return Made(
        metadata={
            "learners": dg.MetadataValue.md("\n".join(table)),
            "test windows": rows,
            "run now": ", ".join(map(str, ran)) or "none: all stood already",
            "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in notes) or "none"),
            "milliseconds": dg.MetadataValue.json({f"seed {s} {name}": one for (s, name), one in paces.items()}),
            **column_lineage("online_evaluation"),
        },
        complete=complete,
        warnings=frozenset({"fit_to_learn_online", "not_stopped_early", "flat_step_time", "learning_helps"}),
        checks={
            "every_row_forecast": (bool(told) and all(count == rows for count in told), {"due": rows}),
            "fit_to_learn_online": (not wrong, {"what is not": "; ".join(wrong) or "nothing"}),
            "not_stopped_early": (not cut_off, {"seeds": ", ".join(map(str, cut_off)) or "none"}),
            "flat_step_time": (not growing, {"growing": ", ".join(growing) or "none"}),
            "learning_helps": (not worse, {"seeds that do not": ", ".join(map(str, worse)) or "none"}),
        },
    )


def unfit(ground: "Ground", stage: str) -> list[str]:
    """What of a stage's settings speaks against learning online."""
    from wavecore.model.build import model_settings
    from wavecore.stream.settings import StreamSettings

    chosen = get_stage(stage)
    train = ground.train_settings(chosen)
    found: list[str] = []
    model = model_settings(chosen, ground.settings, ground.benchmark.name)
    if not isinstance(model, StreamSettings):
        return found
    if train.patience < 5:
        found.append(f"train.patience is {train.patience}, below 5")
    if train.schedule == "halving":
        found.append("train.schedule is halving, which moves in jumps")
    if model.head.pooling != "attention":
        found.append(f"head.pooling is {model.head.pooling}")
    return found


def early(models: Path, seeds: list[int]) -> list[int]:
    """Seeds whose best validation is the last one."""
    found = []
    for seed in seeds:
        path = seed_folder(models, seed) / "curve.json"
        curve = read_json(path) if path.is_file() else []
        if len(curve) > 1 and min(curve, key=lambda row: row["select"]) == curve[-1]:
            found.append(seed)
    return found
