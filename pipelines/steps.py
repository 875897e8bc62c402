"""The steps of the data's way as DVC stages: what each reads, which parameters it depends on, what it writes.

Written once, here: `dvc.yaml` is generated from it, the fingerprint that guards every commit is computed from it,
and the driver walks it in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assets.project import Project
from assets.told import SHARED, shares
from assets.training import JUDGE_KEYS
from data_contracts.catalog import Benchmark, check_name, feature_key
from wavecore.config import dataset_override
from wavecore.errors import SettingsError
from wavecore.rooms import FAMILY_ROOMS, JUDGE_ROOMS, ONLINE_ROOMS, TRAIN_ROOMS
from wavecore.stages import get as get_stage


@dataclass(frozen=True)
class Kind:
    """One kind of step; `${item.…}` stands for the fields of a step.

    Attributes:
        asset: the name of the Dagster asset and of the group of DVC stages.
        deps: files and folders read: data first, then the rooms of code.
        params: keys of params.yaml.
        outs: folders written; those below results/ live in git.
    """

    asset: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]


_DATASET = "data_contracts/datasets/${item.dataset}.yaml"
_BENCHMARK = "data_contracts/benchmarks/${item.benchmark}.yaml"
_SERIES = "store/series/${item.dataset}"
_WINDOWS = "store/windows/${item.features}"
_WAVELETS = "store/wavelets/${item.features}"
_SPLITS = "store/splits/${item.benchmark}"
_PROMPTS = "store/prompt_ids/${item.benchmark}"
_MODEL = "store/models/${item.benchmark}/${item.stage}"
_SUITES = "data_contracts/suites"
# Partitioned by benchmark × stage.
PER_STAGE = ("model", "evaluation", "online_evaluation")

KINDS: tuple[Kind, ...] = (
    Kind(
        "raw_series",
        deps=(_DATASET, "assets/ingest/fetch.py", "assets/ingest/generate.py"),
        params=(),
        outs=("store/raw/${item.dataset}",),
    ),
    Kind(
        "series",
        deps=(
            "store/raw/${item.dataset}",
            _DATASET,
            "assets/ingest",
            "assets/series.py",
            "assets/tables.py",
            "data_contracts/dataset.py",
            "data_contracts/durations.py",
            f"{_SUITES}/series.json",
        ),
        params=(),
        outs=(_SERIES,),
    ),
    Kind(
        "windows",
        deps=(
            _SERIES,
            _DATASET,
            "assets/windows.py",
            "assets/tables.py",
            "wavecore/series",
            "wavecore/prompt",
            f"{_SUITES}/windows.json",
        ),
        params=("features.lags", "judge.select_share", "${item.override}"),
        outs=(_WINDOWS,),
    ),
    Kind(
        "wavelet_coefficients",
        deps=(
            _SERIES,
            _WINDOWS,
            _DATASET,  # the train rows
            "assets/wavelets.py",
            "assets/tables.py",
            "wavecore/series",
            "wavecore/wavelet",
            f"{_SUITES}/wavelets.json",
        ),
        params=(
            "features.wavelet",
            "features.mode",
            "features.levels",
            "features.burst_threshold",
            "features.coefficient_budget_mb",
            "${item.override}",
        ),
        outs=(_WAVELETS,),
    ),
    Kind(
        "prompt_statistics",
        deps=(
            _WINDOWS,
            _WAVELETS,
            "assets/prompts.py",
            "assets/tables.py",
            "wavecore/series/normalize.py",
            f"{_SUITES}/prompt_statistics.json",
        ),
        params=("features.lags", "${item.override}"),
        outs=("store/prompts/${item.features}",),
    ),
    Kind(
        "splits",
        deps=(
            _SERIES,
            _WINDOWS,
            _DATASET,
            _BENCHMARK,
            "assets/splits.py",
            "assets/tables.py",
            "wavecore/series",
            f"{_SUITES}/splits.json",
        ),
        params=("judge.select_share",),
        outs=(_SPLITS,),
    ),
    Kind(
        "prompts",
        deps=(
            _SERIES,
            _SPLITS,
            _DATASET,  # its description
            _BENCHMARK,
            "assets/prompt_ids.py",
            "assets/told.py",
            "assets/training.py",
            "assets/tables.py",
            "wavecore/series",
            "wavecore/wavelet",
            "wavecore/prompt",
            "wavecore/model/build.py",
            "wavecore/model/backbone.py",
            "wavecore/model/settings.py",
            "wavecore/stages.py",
            f"{_SUITES}/prompts.json",
        ),
        params=(
            *("${item.family}", "stages.${item.root}", "${item.family_override}", "${item.override}"),
            *("${item.features}", "${item.dataset_override}"),
        ),
        outs=(_PROMPTS,),
    ),
    Kind(
        "model",
        deps=(
            _SERIES,
            _SPLITS,
            "${item.prompts}",
            _DATASET,  # the season
            _BENCHMARK,
            *TRAIN_ROOMS,
            "${item.room}",
        ),
        params=(
            *("${item.train}", "${item.seeds}", "${item.family}", "stages.${item.root}"),
            *("${item.family_override}", "${item.override}", "${item.features}", "${item.dataset_override}"),
        ),
        outs=(_MODEL,),
    ),
    Kind(
        "evaluation",
        deps=(
            _MODEL,
            _SERIES,
            _SPLITS,
            "${item.prompts}",
            _DATASET,
            _BENCHMARK,
            *JUDGE_ROOMS,
            "${item.room}",
            f"{_SUITES}/evaluation.json",
        ),
        params=(*(f"judge.{key}" for key in JUDGE_KEYS), "train.threads"),
        outs=("results/${item.benchmark}/${item.stage}", "store/evaluations/${item.benchmark}/${item.stage}"),
    ),
    Kind(
        "online_evaluation",
        deps=(
            "store/models/${item.benchmark}/${item.model}",
            _SERIES,
            _SPLITS,
            _DATASET,  # the season
            _BENCHMARK,
            *ONLINE_ROOMS,
            "wavecore/stages.py",  # how a variant learns
        ),
        params=(
            "online",
            "${item.family}",
            "stages.${item.root}",
            "${item.family_override}",
            "${item.override}",
            "train.threads",
        ),
        outs=("results/online/${item.benchmark}/${item.stage}", "store/online/${item.benchmark}/${item.stage}"),
    ),
)

_KIND = {kind.asset: kind for kind in KINDS}
ASSETS = tuple(_KIND)


@dataclass(frozen=True)
class Step:
    """One partition of one asset, with the fields that its kind's `${item.…}` name.

    Attributes:
        asset: as in Kind.
        key: the partition: `demo`, `demo.T168` or, for a model or evaluation, `demo|dlinear`.
        item: dataset, features, benchmark, stage and names of parameters: those that apply.
    """

    asset: str
    key: str
    item: tuple[tuple[str, str], ...]

    @property
    def kind(self) -> Kind:
        return _KIND[self.asset]

    @property
    def name(self) -> str:
        """The DVC stage, `asset@key`."""
        return f"{self.asset}@{self.key.replace('|', '.')}"

    @property
    def deps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.listed))

    @property
    def listed(self) -> tuple[str, ...]:
        """As the pipeline files list the deps: one that stands in for another one stands there twice."""
        return tuple(self._fill(d) for d in self.kind.deps)

    @property
    def params(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._fill(p) for p in self.kind.params))

    @property
    def outs(self) -> tuple[str, ...]:
        return tuple(self._fill(o) for o in self.kind.outs)

    def _fill(self, text: str) -> str:
        for name, value in self.item:
            text = text.replace("${item." + name + "}", value)
        return text


def dataset_steps(project: Project, dataset: str) -> list[Step]:
    """raw_series and series of one dataset."""
    item = (("dataset", check_name(dataset, "dataset")),)
    return [Step("raw_series", dataset, item), Step("series", dataset, item)]


def feature_steps(project: Project, benchmark: Benchmark) -> list[Step]:
    """windows, wavelet_coefficients and prompt_statistics of a benchmark's dataset at its window length."""
    key = feature_key(benchmark)
    own = (project.params().get("overrides") or {}).get("datasets") or {}
    name = dataset_override(own, benchmark.dataset, benchmark.window)
    steps = []
    # DVC wants every parameter to exist: where nothing is overridden, a parameter that the step has anyway stands in.
    for asset, otherwise in (
        ("windows", "features.lags"),
        ("wavelet_coefficients", "features.levels"),
        ("prompt_statistics", "features.lags"),
    ):
        override = f"overrides.datasets.{name}" if name in own else otherwise
        item = (("dataset", benchmark.dataset), ("features", key), ("override", override))
        steps.append(Step(asset, key, item))
    return steps


def benchmark_steps(project: Project, benchmark: Benchmark) -> list[Step]:
    """splits of one benchmark."""
    item = (("dataset", benchmark.dataset), ("features", feature_key(benchmark)), ("benchmark", benchmark.name))
    return [Step("splits", benchmark.name, item)]


def prompt_steps(project: Project, benchmark: Benchmark) -> list[Step]:
    """prompts of one benchmark."""
    item = _item(project, benchmark, SHARED)
    unused = ("stage", "train", "seeds", "prompts", "room")
    return [Step("prompts", benchmark.name, tuple(pair for pair in item if pair[0] not in unused))]


def stage_steps(project: Project, benchmark: Benchmark, stage: str) -> list[Step]:
    """model and evaluation of one benchmark × stage.

    Raises:
        SettingsError: the stage has the weights of another one.
    """
    chosen = get_stage(stage)
    if chosen.trained_as != chosen.name:
        raise SettingsError(
            f"{chosen.name} has the weights of {chosen.trained_as}: only how it learns in a stream differs",
            f"wavecore stream --benchmark {benchmark.name} --stage {chosen.name}",
        )
    item = _item(project, benchmark, stage)
    return [Step(a, f"{benchmark.name}|{get_stage(stage).name}", item) for a in ("model", "evaluation")]


def online_steps(project: Project, benchmark: Benchmark, stage: str) -> list[Step]:
    """online_evaluation of one benchmark × stage."""
    item = _item(project, benchmark, stage)
    unused = ("train", "seeds", "prompts", "features", "dataset_override", "room")
    pairs = (*(pair for pair in item if pair[0] not in unused), ("model", get_stage(stage).trained_as))
    return [Step("online_evaluation", f"{benchmark.name}|{get_stage(stage).name}", pairs)]


def _item(project: Project, benchmark: Benchmark, stage: str) -> tuple[tuple[str, str], ...]:
    chosen = get_stage(stage)
    name, root, family = chosen.name, chosen.root, chosen.family
    params = project.params()
    if root not in (params.get("stages") or {}):
        raise SettingsError(f"params.yaml: stages: there is no key {root!r}", f"add `{root}: {{}}` below `stages:`")
    overrides = params.get("overrides") or {}
    own = (overrides.get("benchmarks") or {}).get(benchmark.name) or {}
    # DVC wants every parameter to exist: where one plays no part, what the stage has anyway stands in.
    nothing = f"stages.{root}"
    here = f"overrides.benchmarks.{benchmark.name}"
    prompted = family == "time_llm" or chosen.switches.get("input") == "language"
    # The key of a variant has a dot, which DVC would take for a step down: the whole benchmark's stands for it.
    own_key = here if name != root and name in own else f"{here}.{root}" if root in own else nothing
    datasets = overrides.get("datasets") or {}
    features = dataset_override(datasets, benchmark.dataset, benchmark.window)
    told = prompted and features in datasets
    return (
        ("dataset", benchmark.dataset),
        ("benchmark", benchmark.name),
        ("stage", name),
        ("root", root),
        ("family", f"families.{family}" if family in (params.get("families") or {}) else nothing),
        ("family_override", f"{here}.{family}" if family in own else nothing),
        ("override", own_key),
        # A prompt tells wavelet statistics; the other families read no feature setting.
        ("features", "features" if prompted else nothing),
        ("dataset_override", f"overrides.datasets.{features}" if told else nothing),
        # A stage without weights follows from no training setting, one without chance from no seed.
        ("train", "train" if chosen.trained else nothing),
        ("seeds", "pipeline.seeds" if chosen.seeded else nothing),
        # A family with a room of its own; the others read nothing more.
        ("room", FAMILY_ROOMS.get(family, ("wavecore/seeds.py",))[0]),
        # A stage that tells nothing, or something else, reads no ids from the table; what it has anyway stands in.
        ("prompts", (_PROMPTS if shares(chosen) else _SPLITS).replace("${item.benchmark}", benchmark.name)),
    )


def steps_of(
    project: Project, benchmarks: tuple[str, ...], stages: tuple[str, ...], online: bool = False
) -> list[Step]:
    """Every step of a matrix, in an order in which each comes after what it reads, each once; with `online` the
    streams too."""
    catalog = project.catalog()
    chosen = [catalog.benchmark(b) for b in benchmarks]
    groups: list[list[Step]] = []
    groups += [dataset_steps(project, b.dataset) for b in chosen]
    groups += [feature_steps(project, b) for b in chosen]
    groups += [benchmark_steps(project, b) for b in chosen]
    trained = tuple(dict.fromkeys(get_stage(s).trained_as for s in stages)) if online else stages
    groups += [prompt_steps(project, b) for b in chosen if any(shares(get_stage(s)) for s in trained)]
    groups += [stage_steps(project, b, s) for b in chosen for s in trained]
    if online:
        groups += [online_steps(project, b, s) for b in chosen for s in stages]
    steps = list(dict.fromkeys(step for group in groups for step in group))
    return sorted(steps, key=lambda s: ASSETS.index(s.asset))


def step_of(project: Project, asset: str, key: str) -> Step:
    """The step of one partition of one asset, as Dagster names it."""
    catalog = project.catalog()
    if asset in ("raw_series", "series"):
        catalog.dataset(key)
        found = dataset_steps(project, key)
    elif asset in ("windows", "wavelet_coefficients", "prompt_statistics"):
        keys = project.feature_keys()
        if key not in keys:
            raise SettingsError(f"no benchmark needs the features {key!r}", f"features: {', '.join(keys)}")
        found = feature_steps(project, keys[key][1])
    elif asset == "splits":
        found = benchmark_steps(project, catalog.benchmark(key))
    elif asset == "prompts":
        found = prompt_steps(project, catalog.benchmark(key))
    elif asset in ("model", "evaluation"):
        benchmark, _, stage = key.partition("|")
        found = stage_steps(project, catalog.benchmark(benchmark), stage)
    elif asset == "online_evaluation":
        benchmark, _, stage = key.partition("|")
        found = online_steps(project, catalog.benchmark(benchmark), stage)
    else:
        raise SettingsError(f"there is no asset {asset!r} with an artifact of its own", f"assets: {', '.join(ASSETS)}")
    return next(step for step in found if step.asset == asset)


def is_code(path: str) -> bool:
    """Whether a dep is a module or a room of modules; beside its modules data_contracts/ holds what people declare."""
    return path.startswith(("wavecore", "assets")) or path.endswith(".py")


def parameter(params: dict[str, Any], dotted: str) -> Any:
    """The value of `a.b.c` in params.yaml's plain data.

    A stage's name may hold a dot itself, so the longest key that fits is tried first.
    """
    if dotted in params:
        return params[dotted]
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:cut])
        if isinstance(params.get(head), dict):
            return parameter(params[head], ".".join(parts[cut:]))
    raise SettingsError(f"params.yaml: the key {dotted!r} is missing", "restore it from git")
