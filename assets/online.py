"""online_evaluation: a trained model forecasts its test rows one by one and learns from labels once they are known."""

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.lineage import column_lineage
from assets.model import timing_file
from assets.partitions import MODELS
from assets.producing import Made, Work, produce
from assets.project import Project, seed_folder, seeds_in
from assets.standing import made_now
from assets.storage import read_json, to_json, write_text
from assets.versions import Versions
from wavecore.errors import StorageError
from wavecore.judge.files import MANIFEST, METRICS, identity, rows_json
from wavecore.rooms import ONLINE_ROOMS
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from assets.training import Ground
    from wavecore.stream.run import Pace, Ran
    from wavecore.stream.settings import OnlineSettings

STEPS = "steps.parquet"
RESULTS = "results"
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
            notes += _run(work, ground, seed, due, others)
            ran.append(seed)
    if set(seeds_in(work.outs[0])) - set(wanted):
        with work.folders() as folders:
            _copy(work.outs, folders, [s for s in seeds_in(work.outs[0]) if s in wanted])
    return _report(work, ground, set(there) >= set(wanted), ran, notes)


def settings_of(ground: "Ground", stage: str) -> "OnlineSettings":
    """How the stage learns in a stream. A dataset that declares `missing: mask` has said what a missing value is."""
    online = ground.settings.online_of(ground.benchmark.name, stage)
    return dataclasses.replace(online, missing="skip") if ground.dataset.treatment.missing == "mask" else online


def due_of(project: Project, ground: "Ground", stage: str, model: Path) -> dict[str, Any]:
    """What the results of a present run would say that they follow from."""
    from wavecore.learn.checkpoint import read_manifest
    from wavecore.learn.manifest import code_hash, hash_of

    settings = hash_of(dataclasses.asdict(settings_of(ground, stage)))
    return identity(read_manifest(model), ground.data_hash, settings, code_hash(ONLINE_ROOMS, project.root))


def stands(project: Project, results: Path, beside: Path, due: Mapping[str, Any]) -> bool:
    """Whether the results of one seed are there, whole, and what a run now would end with."""
    from assets.accepted import equal_code

    if not all(p.is_file() for p in (results / MANIFEST, results / METRICS, beside / MANIFEST, beside / STEPS)):
        return False
    found = read_json(results / MANIFEST)
    if found != read_json(beside / MANIFEST):
        return False  # a run ended between the two
    same = {k: v for k, v in found.items() if k not in ("code_hash", RESULTS)} == {
        k: v for k, v in due.items() if k != "code_hash"
    }
    whole = found.get(RESULTS) == _hash((results / METRICS).read_text(encoding="utf-8"))
    return same and whole and equal_code(project, str(found["code_hash"]), due["code_hash"])


def _run(work: Work, ground: "Ground", seed: int, due: dict[str, Any], others: list[int]) -> list[str]:
    """Stream one seed, or go on with it; the results of `others` stay. Returns what a user should know."""
    from tqdm import tqdm

    from assets.tables import write_parquet
    from wavecore.learn.checkpoint import load_model
    from wavecore.learn.device import threads
    from wavecore.learn.manifest import hash_of
    from wavecore.model.build import from_config
    from wavecore.stream import run
    from wavecore.stream.progress import Keeping

    benchmark, stage = work.key.split("|")
    trained = get_stage(stage).trained_as
    loaded = load_model(seed_folder(work.project.models(benchmark, trained), seed), from_config)
    online = settings_of(ground, stage)
    with (
        threads(ground.settings.train.threads),
        tqdm(unit="row", disable=None) as bar,
    ):

        def tick(running: str, due: int) -> Any:
            bar.reset(due)
            bar.set_description(f"{benchmark} {stage} seed {seed}: {running}")
            return bar.update

        bound = hash_of([due, ground.settings.train.threads])
        keep = Keeping(work.project.resume_online(benchmark, stage, seed), bound)
        found = run.through(loaded.model, ground.windows, ground.scene, online, seed, tick=tick, keep=keep)
    text = metrics_text(benchmark, stage, seed, found)
    with work.folders() as folders:
        _copy(work.outs, folders, others)
        for folder in folders:
            seed_folder(folder, seed).mkdir()
            write_text(seed_folder(folder, seed) / MANIFEST, to_json(due | {RESULTS: _hash(text)}))
        write_text(seed_folder(folders[0], seed) / METRICS, text)
        write_parquet(seed_folder(folders[1], seed) / STEPS, [found.steps])
        _summary(folders[0])
    shutil.rmtree(keep.folder, ignore_errors=True)
    if any("goes on" in note for note in keep.notes):
        keep.notes.append("what a step costs is not kept: it was timed in several processes")
    else:
        _note_pace(work.project, benchmark, stage, seed, found.pace)
    return [f"seed {seed}: {note}" for note in keep.notes]


def metrics_text(benchmark: str, stage: str, seed: int, found: "Ran") -> str:
    """metrics.json of one seed."""
    from wavecore.stream.run import COLUMNS

    return rows_json(
        {
            "benchmark": benchmark,
            "stage": stage,
            "seed": seed,
            "split": "test",
            "columns": list(COLUMNS),
            "rows": [list(row) for row in found.rows],
            "stretches": found.stretches,
        }
    )


def value(long: Mapping[str, Any], learner: str, metric: str, key: str = "all") -> float | None:
    """One value out of a seed's metrics.json."""
    for own, m, k, found in long["rows"]:
        if (own, m, k) == (learner, metric, key):
            return None if found is None else float(found)
    return None


def _less(long: Mapping[str, Any], learner: str, other: str) -> bool:
    a, b = value(long, learner, "mse"), value(long, other, "mse")
    return a is not None and b is not None and a < b


def standing(project: Project, benchmark: str, stage: str) -> dict[int, dict[str, Any]]:
    """Seed → metrics.json of the streams that may be shown together: of the models that `results/` has the errors of,
    and run with the same settings, data and code as the first of them."""
    folder = project.online_results(benchmark, stage)
    judged = project.results(benchmark, get_stage(stage).trained_as)
    found: dict[int, dict[str, Any]] = {}
    same: tuple[Any, ...] | None = None
    for seed in seeds_in(folder):
        own, other = (seed_folder(place, seed) / MANIFEST for place in (folder, judged))
        if not own.is_file():
            continue
        manifest = read_json(own)
        if other.is_file() and read_json(other).get("model") != manifest.get("model"):
            continue
        identity_of = tuple(manifest.get(key) for key in ("settings", "data_hash", "code_hash"))
        same = same or identity_of
        if identity_of == same:
            found[seed] = read_json(seed_folder(folder, seed) / METRICS)
    return found


def learners_in(long: Mapping[str, Any]) -> list[str]:
    """The learners of a seed's metrics.json, in order."""
    return list(dict.fromkeys(row[0] for row in long["rows"]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(sources: tuple[Path, ...], targets: tuple[Path, ...], seeds: list[int]) -> None:
    for source, target in zip(sources, targets, strict=True):
        for seed in seeds:
            if seed_folder(source, seed).is_dir():
                shutil.copytree(seed_folder(source, seed), seed_folder(target, seed))
    _summary(targets[0])


def _summary(folder: Path) -> None:
    """metrics.json over all seeds, for `dvc metrics`."""
    found = {}
    for seed in seeds_in(folder):
        path = seed_folder(folder, seed) / METRICS
        if path.is_file():
            long = read_json(path)
            found[f"seed={seed}"] = {
                name: {metric: value(long, name, metric) for metric in ("mse", "mae", "r2")}
                for name in learners_in(long)
            }
    write_text(folder / METRICS, to_json(found))


def _note_pace(project: Project, benchmark: str, stage: str, seed: int, pace: "Mapping[str, Pace]") -> None:
    path = timing_file(project, benchmark, stage, seed)
    before = read_json(path) if path.is_file() else {}
    own = {name: {key: round(part, 4) for key, part in one._asdict().items()} for name, one in pace.items()}
    write_text(path, to_json(before | {"online": own}))


def pace_in(project: Project, benchmark: str, stage: str, seed: int) -> dict[str, dict[str, float]]:
    """learner → what a step costs, where this machine ran it."""
    path = timing_file(project, benchmark, stage, seed)
    return dict(read_json(path).get("online", {})) if path.is_file() else {}


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
