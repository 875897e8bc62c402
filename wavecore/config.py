"""Everything that can be set in params.yaml, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import typing
import zoneinfo
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wavecore import stages
from wavecore.errors import SettingsError
from wavecore.learn.settings import WaveletLossSettings
from wavecore.stream.settings import OnlineSettings
from wavecore.strict import build, merged, need

T = TypeVar("T")


@dataclass(frozen=True)
class ScheduleSettings:
    """The calendar of retraining.

    Attributes:
        cron: when, in cron's five fields.
        timezone: of the cron fields.
        enabled: whether the schedule runs without being switched on in the UI.
    """

    cron: str = "0 3 * * 1"
    timezone: str = "UTC"
    enabled: bool = False

    def __post_init__(self) -> None:
        need(len(self.cron.split()) == 5, f"cron: {self.cron!r} has not five fields")
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            raise ValueError(f"timezone: there is no {self.timezone!r}; write an IANA name such as UTC") from None


@dataclass(frozen=True)
class PipelineSettings:
    """What is run by default, and when.

    Attributes:
        benchmarks, stages: the default matrix of `make demo`, `dvc repro` and the schedule.
        seeds: every trained stage is trained once for each.
        ladder: the stages of `wavecore ladder`, each judged against the one below it.
        limit_minutes: a training run estimated to take longer stops before it starts, unless told.
        schedule: see ScheduleSettings.
    """

    benchmarks: tuple[str, ...]
    stages: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    ladder: tuple[str, ...] = ()
    limit_minutes: float = 60.0
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)

    def __post_init__(self) -> None:
        need(len(self.benchmarks) > 0, "benchmarks: at least one is needed")
        need(len(self.stages) > 0, "stages: at least one is needed")
        need(len(self.seeds) > 0, "seeds: at least one is needed")
        for name in ("benchmarks", "stages", "seeds", "ladder"):
            values = getattr(self, name)
            need(len(set(values)) == len(values), f"{name}: one of {list(values)} stands there twice")
        need(all(s >= 0 for s in self.seeds), "seeds: must be 0 or more")
        need(self.limit_minutes > 0, "limit_minutes: must be above 0")


@dataclass(frozen=True)
class FeatureSettings:
    """How windows become wavelet coefficients and prompt statistics.

    Attributes:
        wavelet: a discrete wavelet of PyWavelets.
        mode: its border rule; `periodization` keeps as many coefficients as there are samples.
        levels: depth of the decomposition: J gives the bands A_J, D_J … D_1.
        burst_threshold: a burst is where the finest details exceed this many robust standard deviations.
        lags: how many autocorrelation peaks are kept per window.
        coefficient_budget_mb: coefficients are stored up to this size, above it computed when needed.
        prompt_budget_mb: token ids of prompts are stored up to this size, above it made when needed.
        memory_mb: bound on the working memory of the chunks that are computed at once.
    """

    wavelet: str = "db4"
    mode: str = "periodization"
    levels: int = 4
    burst_threshold: float = 5.0
    lags: int = 5
    coefficient_budget_mb: float = 64.0
    prompt_budget_mb: float = 256.0
    memory_mb: float = 128.0

    def __post_init__(self) -> None:
        need(self.levels >= 1, "levels: must be 1 or more")
        need(self.burst_threshold > 0, "burst_threshold: must be above 0")
        need(self.lags >= 1, "lags: must be 1 or more")
        need(self.coefficient_budget_mb >= 0, "coefficient_budget_mb: must be 0 or more")
        need(self.prompt_budget_mb >= 0, "prompt_budget_mb: must be 0 or more")
        need(self.memory_mb >= 1, "memory_mb: must be 1 or more")


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Its budget is steps; nothing in a run reads a clock.

    Attributes:
        steps: optimizer steps at most.
        batch_windows: windows per step, each with all its channels.
        learning_rate, weight_decay: of AdamW.
        schedule: `constant`, `cosine` (to zero over `steps`) or `halving` (halved every `halve_every` steps).
        halve_every: see `schedule`.
        warmup_steps: linear rise of the learning rate at the start.
        clip_norm: bound on the gradient's norm; 0 for none.
        loss: `mse` or `mae`, on train-standardized channels.
        wavelet_loss: see WaveletLossSettings.
        eval_every: steps between two validations on `select`.
        eval_windows: size of the fixed, seeded subset of `select` that is scored; 0 for all of it.
        patience: validations without improvement before training stops.
        precision: `auto` (bf16 where the device has it natively, else float32), `float32` or `bf16`. Forecasts are
            made in the precision of the training.
        device: `auto` (CUDA, else CPU), `cpu` or `cuda`.
        threads: CPU threads; part of the result, since sums are split by it.
        checkpoint_every: steps between two resume checkpoints.
    """

    steps: int = 1000
    batch_windows: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: typing.Literal["constant", "cosine", "halving"] = "constant"
    halve_every: int = 250
    warmup_steps: int = 0
    clip_norm: float = 0.0
    loss: typing.Literal["mse", "mae"] = "mse"
    wavelet_loss: WaveletLossSettings = field(default_factory=WaveletLossSettings)
    eval_every: int = 50
    eval_windows: int = 0
    patience: int = 10
    precision: typing.Literal["auto", "float32", "bf16"] = "float32"
    device: typing.Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 2
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch_windows", "halve_every", "eval_every", "patience", "threads", "checkpoint_every"):
            need(getattr(self, name) >= 1, f"{name}: must be 1 or more")
        for name in ("warmup_steps", "clip_norm", "eval_windows", "weight_decay"):
            need(getattr(self, name) >= 0, f"{name}: must be 0 or more")
        need(self.learning_rate > 0, "learning_rate: must be above 0")


@dataclass(frozen=True)
class JudgeSettings:
    """How forecasts are judged.

    Attributes:
        batch_windows: windows forecast at once.
        select_share: the first share of validation, for early stopping (`select`); the rest is `decide`.
        alpha: significance level of the comparison table.
        bootstrap: replicates of the block bootstrap.
        sample_windows: test windows whose forecasts are kept and drawn in the report.
        wavelet, levels: of the error per scale; a short filter, since a horizon is short. At most as many levels as the
            horizon allows.
        robust_every: every so many test windows are also forecast from disturbed inputs; 0: none.
    """

    batch_windows: int = 64
    select_share: float = 0.5
    alpha: float = 0.05
    bootstrap: int = 1000
    sample_windows: int = 3
    wavelet: str = "db2"
    levels: int = 4
    robust_every: int = 16

    def __post_init__(self) -> None:
        need(self.robust_every >= 0, "robust_every: must be 0 or more")
        need(self.batch_windows >= 1, "batch_windows: must be 1 or more")
        need(0 < self.select_share < 1, "select_share: must lie between 0 and 1")
        need(0 < self.alpha < 1, "alpha: must lie between 0 and 1")
        need(self.bootstrap >= 100, "bootstrap: must be 100 or more")
        need(self.sample_windows >= 1, "sample_windows: must be 1 or more")
        need(self.levels >= 1, "levels: must be 1 or more")


@dataclass(frozen=True)
class StageOverride:
    """What one stage, or a whole family of stages, sets: for all benchmarks (`families:`, `stages:`) or for one
    (`overrides.benchmarks:`)."""

    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    online: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class DatasetOverride:
    """What one dataset sets otherwise."""

    features: dict[str, Any] = field(default_factory=dict)


def dataset_override(known: Collection[str], dataset: str, window: int) -> str:
    """The key of overrides.datasets that counts: that of the window length (`etth1_T96`) where it is there, else the
    dataset's."""
    own = f"{dataset}_T{window}"
    return own if own in known else dataset


@dataclass(frozen=True)
class Overrides:
    """Settings that differ for a dataset, or for a benchmark × stage or family of stages."""

    datasets: dict[str, DatasetOverride] = field(default_factory=dict)
    benchmarks: dict[str, dict[str, StageOverride]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """The whole of params.yaml."""

    pipeline: PipelineSettings
    features: FeatureSettings = field(default_factory=FeatureSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    online: OnlineSettings = field(default_factory=OnlineSettings)
    families: dict[str, StageOverride] = field(default_factory=dict)
    stages: dict[str, StageOverride] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)

    def features_of(self, dataset: str, window: int = 0) -> FeatureSettings:
        """The feature settings of one dataset at one window length, its overrides applied."""
        name = dataset_override(self.overrides.datasets, dataset, window)
        override = self.overrides.datasets.get(name, DatasetOverride())
        merged = dataclasses.asdict(self.features) | override.features
        return build(FeatureSettings, merged, f"params.yaml: overrides.datasets.{name}.features")

    def train_of(self, benchmark: str, stage: str) -> TrainSettings:
        """The training settings of one benchmark × stage: `train`, `families`, `stages`, `overrides.benchmarks`.

        Raises:
            SettingsError: a key sets otherwise what makes the stage what it is.
        """
        found = dataclasses.asdict(self.train)
        known = stages.find(stage)
        for where, override in self._layers(benchmark, stage):
            if known is not None:
                shared = where.endswith(f".{known.family}") and known.family != known.root
                own = stages.family_switches(known.family, "train_switches") if shared else known.train_switches
                name = known.family if shared else stage
                _need_switches(name, own, override.train, f"{where}.train", shared)
            found = merged(found, override.train)
            build(TrainSettings, found, f"{where}.train")
        whole = merged(found, known.train_switches if known is not None else {})
        return build(TrainSettings, whole, f"params.yaml: train of {benchmark} {stage}")

    def model_of(self, benchmark: str, stage: str, cls: type[T]) -> T:
        """The model settings of one benchmark × stage, as the dataclass `cls` of its family.

        Raises:
            SettingsError: a key sets otherwise what makes the stage what it is.
        """
        found: dict[str, Any] = {}
        known = stages.find(stage)
        for layer, override in self._layers(benchmark, stage):
            where = f"{layer}.model"
            if known is not None:
                shared = layer.endswith(f".{known.family}") and known.family != known.root
                # What every stage of the family decides for itself cannot be shared; what is said of a stage must agree
                # with what makes it that stage.
                name = known.family if shared else stage if layer.endswith(f".{stage}") else known.root
                fixed = stages.family_switches(name) if shared else stages.get(name).switches
                _need_switches(name, fixed, override.model, where, shared)
            found = merged(found, override.model)
            build(cls, found, where)  # layer by layer, so that an error names the place that has it
        whole = merged(found, known.switches if known is not None else {})
        return build(cls, whole, f"params.yaml: stages.{stage}.model")

    def online_of(self, benchmark: str, stage: str) -> OnlineSettings:
        """How one benchmark × stage learns in a session: `online`, then as of `train_of`; a variant that is defined by
        how it learns has its own way, whatever its stage's is."""
        found = dataclasses.asdict(self.online)
        known = stages.find(stage)
        for where, override in self._layers(benchmark, stage):
            found = merged(found, override.online)
            build(OnlineSettings, found, f"{where}.online")
        whole = merged(found, known.online_switches if known is not None else {})
        return build(OnlineSettings, whole, f"params.yaml: online of {benchmark} {stage}")

    def seeds_of(self, benchmark: str, stage: str) -> tuple[int, ...]:
        """The seeds of one benchmark × stage: the default ones and those asked for it alone, in order."""
        extra = [s for _, override in self._layers(benchmark, stage) for s in override.seeds]
        return tuple(sorted({*self.pipeline.seeds, *extra}))

    def _layers(self, benchmark: str, stage: str) -> list[tuple[str, StageOverride]]:
        # A variant (`base.unmasked`) first takes what its stage sets.
        known = stages.find(stage)
        family = {known.family: self.families[known.family]} if known and known.family in self.families else {}
        names = list(dict.fromkeys([stage.split(".")[0], stage]))
        own = self.overrides.benchmarks.get(benchmark, {})
        everywhere = [(f"params.yaml: families.{n}", override) for n, override in family.items()]
        everywhere += [(f"params.yaml: stages.{n}", self.stages[n]) for n in names if n in self.stages]
        here = list(dict.fromkeys([known.family, *names])) if known else names
        return everywhere + [(f"params.yaml: overrides.benchmarks.{benchmark}.{n}", own[n]) for n in here if n in own]


def _need_switches(name: str, switches: Mapping[str, Any], found: Any, where: str, shared: bool) -> None:
    if not isinstance(found, Mapping):
        raise SettingsError(f"{where}: expected keys and values, found {found!r}", "indent the keys below it")
    for key, value in switches.items():
        if key not in found:
            continue
        if isinstance(value, Mapping):
            _need_switches(name, value, found[key], f"{where}.{key}", shared)
        elif shared:
            raise SettingsError(
                f"{where}.{key}: the stages of the family {name!r} are told apart by it",
                "delete the line, and run the stage or variant that has it (wavecore/stages.py)",
            )
        elif found[key] != value:
            raise SettingsError(
                f"{where}.{key}: {found[key]!r}, but the stage {name!r} is defined by {value!r}",
                "delete the line, and run the stage or variant that has it (wavecore/stages.py)",
            )


def settings_from(mapping: Any, where: str = "params.yaml") -> Settings:
    """Build and check the whole of params.yaml; overrides of known names are checked too."""
    settings = build(Settings, mapping, where)
    for key in ("enabled", "curriculum"):
        if key in ((mapping.get("train") or {}).get("wavelet_loss") or {}):
            raise SettingsError(
                f"{where}: train.wavelet_loss.{key}: stages are told apart by it",
                "delete the line, and run `only_loss`, `loss` or a variant (wavecore/stages.py)",
            )
    for dataset in settings.overrides.datasets:
        settings.features_of(dataset)
    for stage in settings.stages:
        settings.train_of("", stage)
    for benchmark, own in settings.overrides.benchmarks.items():
        for stage in own:
            settings.train_of(benchmark, stage)
    for place, names in (
        ("stages", settings.stages),
        *((f"overrides.benchmarks.{b}", own) for b, own in settings.overrides.benchmarks.items()),
    ):
        for name, override in names.items():
            # How long and from which seeds it is trained on one benchmark is no part of what makes a variant.
            if "." in name and (place == "stages" or override.model or override.online):
                raise SettingsError(
                    f"{where}: {place}: {name!r} is a variant, which is declared in wavecore/stages.py",
                    f"set what it shares with its stage under {name.split('.')[0]!r}; `train` and `seeds` of a variant "
                    "may stand under overrides.benchmarks",
                )
    return settings
