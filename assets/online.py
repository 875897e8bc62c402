"""online_evaluation: a trained model forecasts its test rows one by one and learns from labels once they are known."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.lineage import column_lineage
from assets.online_checks import curve_of, early, growing, rough, sound, trained, unfit, unhelped
from assets.partitions import MODELS
from assets.producing import Made, Work, produce
from assets.project import seed_folder, seeds_in
from assets.storage import read_json
from assets.streamed import pace_in
from assets.streaming import STEPS, copy_streams, due_of, learners_in, stands, stream_seed, value
from assets.versions import Versions
from wavecore.judge.files import METRICS
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from assets.training import Ground


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
            "as_trained", asset="online_evaluation", blocking=True,
            description="A model of the present settings, data and code is there, and loads whole. Before the run.",
        ),
        dg.AssetCheckSpec(
            "every_weight_in_a_group", asset="online_evaluation", blocking=True,
            description="Every weight that learns is in one group, and no group is empty. Before the run.",
        ),
        dg.AssetCheckSpec(
            "no_graph_carried", asset="online_evaluation", blocking=True,
            description="A memory is carried on without its graph; training has that of the update if it should.",
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
            "loss_fell_smoothly", asset="online_evaluation",
            description="The training loss fell, and rose by no more than a tenth from one validation to the next.",
        ),
        dg.AssetCheckSpec(
            "flat_step_time", asset="online_evaluation",
            description="Every stream was timed here, and a step takes as long at its end as at its beginning.",
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
    wanted, models = wanted_seeds(ground.settings, benchmark, chosen), work.project.models(benchmark, chosen.trained_as)
    with work.check("as_trained"):
        there = trained(work, ground, stage, wanted)
    groups = sound(work, ground, stage, there)
    for what in unfit(ground, stage):
        work.context.log.warning(f"{benchmark} {stage}: {what}, which is not good for learning online")
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
    return _report(work, ground, wanted, there, ran, notes, groups)


def _report(
    work: Work,
    ground: "Ground",
    wanted: Sequence[int],
    there: list[int],
    ran: list[int],
    notes: list[str],
    groups: dict[str, int],
) -> Made:
    from assets.tables import read_parquet
    from wavecore.series.splits import origins

    benchmark, stage = work.key.split("|")
    rows = len(origins(ground.borders, "test", ground.benchmark.window, ground.benchmark.horizon))
    by_seed = {s: read_json(seed_folder(work.outs[0], s) / METRICS) for s in seeds_in(work.outs[0])}
    # A clone may have the metrics of seeds whose streams ran elsewhere.
    tables = {s: path for s in by_seed if (path := seed_folder(work.outs[1], s) / STEPS).is_file()}
    counts = {
        (s, name): count
        for s, path in tables.items()
        for name, count in read_parquet(path, ["learner"])["learner"].value_counts().iter_rows()
    }
    due = {(s, name): rows for s in tables for name in learners_in(by_seed[s])}
    short = [f"seed {s} {name}" for s, name in sorted({*due, *counts}) if counts.get((s, name)) != due.get((s, name))]
    paces = {(s, name): one for s in by_seed for name, one in pace_in(work.project, benchmark, stage, s).items()}
    models = work.project.models(benchmark, get_stage(stage).trained_as)
    wrong, cut_off, leaps = unfit(ground, stage), early(models, list(by_seed)), rough(models, list(by_seed))
    longer, worse = growing(paces), unhelped(by_seed)
    # A stream that was stopped and goes on is not timed, nor is one that ran on another machine.
    untimed = [
        f"seed {s} {name}" for s, long in by_seed.items() for name in learners_in(long) if (s, name) not in paces
    ]
    unseen = ", ".join(str(s) for s in by_seed if not curve_of(models, s)) or "none"
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
        complete=set(there) >= set(wanted),
        warnings=frozenset(
            {"fit_to_learn_online", "not_stopped_early", "loss_fell_smoothly", "flat_step_time", "learning_helps"}
        ),
        checks={
            "every_row_forecast": (bool(due) and not short, {"due": rows, "not all": ", ".join(short) or "none"}),
            # A stream whose model fails one of these was not run: what is here passed.
            "as_trained": (
                True,
                {
                    "seeds": ", ".join(map(str, there)),
                    "wanted, and no present model": ", ".join(str(s) for s in wanted if s not in there) or "none",
                },
            ),
            "every_weight_in_a_group": (True, groups),
            "no_graph_carried": (True, {}),
            "fit_to_learn_online": (not wrong, {"what is not": "; ".join(wrong) or "nothing"}),
            "not_stopped_early": (
                not cut_off,
                {"seeds": ", ".join(map(str, cut_off)) or "none", "seeds without a curve": unseen},
            ),
            "loss_fell_smoothly": (not leaps, {"leaps": "; ".join(leaps) or "none", "seeds without a curve": unseen}),
            "flat_step_time": (
                not longer and not untimed,
                {"growing": ", ".join(longer) or "none", "not timed": ", ".join(untimed) or "none"},
            ),
            "learning_helps": (not worse, {"seeds that do not": ", ".join(map(str, worse)) or "none"}),
        },
    )
