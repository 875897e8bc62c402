"""What the `model` and `evaluation` assets share: a benchmark's arrays, geometry and the full config of one model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from assets.project import Project
from assets.tables import load_borders, load_series
from assets.versions import dvc_hash
from data_contracts.catalog import Benchmark, Dataset
from wavecore.config import Settings, TrainSettings
from wavecore.prompt.settings import PROMPT_FEATURES
from wavecore.rooms import train_rooms
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders
from wavecore.stages import Stage

if TYPE_CHECKING:
    from wavecore.judge.scoring import Scene
    from wavecore.model.build import Geometry
    from wavecore.series.windows import WindowData


# Settings that an evaluation follows from; the others (alpha, bootstrap) only shape the report.
JUDGE_KEYS = ("batch_windows", "sample_windows", "wavelet", "levels", "robust_every")


@dataclass(frozen=True, eq=False)
class Ground:
    """What a model of one benchmark stands on.

    Attributes:
        arrays, borders, scaler: the series, its splits, and the scaling learned from the train rows.
        data_hash: one hash over the series and its splits.
        measured: what `energy` has measured so far.
    """

    benchmark: Benchmark
    dataset: Dataset
    settings: Settings
    arrays: SeriesArrays
    borders: Borders
    scaler: Scaler
    data_hash: str
    measured: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, project: Project, benchmark: str) -> Ground:
        """Read the store's series and splits.

        Raises:
            StorageError: they are not there.
        """
        from wavecore.learn.manifest import hash_of

        catalog = project.catalog()
        chosen = catalog.benchmark(benchmark)
        arrays = load_series(project, chosen.dataset)
        borders = load_borders(project, benchmark)
        parts = [dvc_hash(project.series(chosen.dataset)), dvc_hash(project.splits(benchmark))]
        return cls(
            benchmark=chosen,
            dataset=catalog.dataset(chosen.dataset),
            settings=project.settings(),
            arrays=arrays,
            borders=borders,
            scaler=Scaler.fit(arrays, borders.train),
            data_hash=hash_of(parts),
        )

    def energy(self, stage: Stage) -> dict[str, tuple[float, ...]]:
        """What the train windows' wavelet bands hold, of the decompositions that the stage chooses bands by; measured
        once for all seeds."""
        from wavecore.model.build import model_settings
        from wavecore.model.scales import Scales, decompositions, key, measured
        from wavecore.model.settings import TimeLLMSettings

        model = model_settings(stage, self.settings, self.benchmark.name)
        if not isinstance(model, TimeLLMSettings):
            return {}
        scales = Scales(self.settings.features_of(self.dataset.name, self.benchmark.window))
        found = {}
        for transform, levels in decompositions(model.tokens, model.streams):
            features = scales.at(levels)
            name = key(transform, features.levels)
            if name not in self.measured:
                self.measured[name] = measured(
                    self.arrays, self.scaler, self.borders.train, self.benchmark.window, features, transform
                )
            found[name] = self.measured[name]
        return found

    def geometry_of(self, stage: Stage) -> Geometry:
        """The shape of the benchmark, with all that a stage looks at before it is trained."""
        return dataclasses.replace(self.geometry, energy=self.energy(stage))

    @property
    def geometry(self) -> Geometry:
        from wavecore.model.build import Geometry

        return Geometry(
            self.benchmark.window,
            self.benchmark.horizon,
            self.arrays.channels,
            self.dataset.season,
            self.dataset.step,
            (self.benchmark.patch.length, self.benchmark.patch.stride),
            self.dataset.told,
            self.settings.features_of(self.dataset.name, self.benchmark.window),
        )

    @cached_property
    def windows(self) -> WindowData:
        from wavecore.series.windows import WindowData

        return WindowData.from_arrays(self.arrays, self.scaler, self.benchmark.window, self.benchmark.horizon)

    @property
    def scene(self) -> Scene:
        """What its models are judged on."""
        from wavecore.judge.scoring import Scene

        return Scene(
            self.arrays,
            self.borders,
            self.scaler,
            self.dataset.season,
            self.settings.judge,
            self.dataset.segment_times,
        )

    def train_settings(self, stage: Stage) -> TrainSettings:
        return self.settings.train_of(self.benchmark.name, stage.name)

    def config(self, stage: Stage, seed: int) -> dict[str, Any]:
        """All that one model is built and trained from, as plain values: its config.json."""
        from wavecore.model.build import language_side, model_settings
        from wavecore.model.settings import TimeLLMSettings
        from wavecore.stream.settings import StreamSettings

        train = dataclasses.asdict(self.train_settings(stage))
        # How often a checkpoint is written, and on which machine, changes no weight that is promised equal.
        train.pop("checkpoint_every")
        chosen = model_settings(stage, self.settings, self.benchmark.name)
        model = dataclasses.asdict(chosen)
        if isinstance(chosen, TimeLLMSettings):
            model = _lean(model)
        elif isinstance(chosen, StreamSettings):
            if chosen.input == "language":
                model["language"] = _lean(model["language"])
            else:
                del model["input"], model["language"]
        if not train["wavelet_loss"]["enabled"]:
            del train["wavelet_loss"]
        features = dataclasses.asdict(self.settings.features_of(self.dataset.name, self.benchmark.window))
        told = {
            "patch": [self.benchmark.patch.length, self.benchmark.patch.stride],
            "description": self.dataset.told,
            "features": {key: features[key] for key in PROMPT_FEATURES},
        }
        energy = self.energy(stage)
        if energy:
            told["energy"] = {key: list(shares) for key, shares in energy.items()}
        return {
            "benchmark": self.benchmark.name,
            "stage": stage.name,
            "family": stage.family,
            "seed": seed,
            "window": self.benchmark.window,
            "horizon": self.benchmark.horizon,
            "season": self.dataset.season,
            "channels": list(self.arrays.channels),
            "step": self.dataset.step,
            # The last moment that training saw: early stopping looks at `select` and no further.
            "as_of": str(self.arrays.timestamps[self.borders.select[1] - 1]),
            "scaler": {"center": self.scaler.center.tolist(), "scale": self.scaler.scale.tolist()},
            "model": model,
            "train": train if stage.trained else {},
            # Only the language models read these.
            **(told if language_side(chosen) else {}),
        }


def _lean(model: dict[str, Any]) -> dict[str, Any]:
    """Settings of a Time-LLM model without those of parts that it does not have, which matter to it in nothing."""
    off = [name for name in ("tokens", "streams", "sparse") if not model[name]["enabled"]]
    off += ["skip"] if model["skip"] == "none" else []
    kept = {key: value for key, value in model.items() if key not in off}
    return kept if model["budget"]["enabled"] else kept | {"budget": {"enabled": False}}


def backbone_hash(ground: Ground, stage: Stage) -> str | None:
    """Config and tokenizer of the stage's language model as a hash; None for a stage without one."""
    from wavecore.model import backbone as language
    from wavecore.model.build import language_side, model_settings

    side = language_side(model_settings(stage, ground.settings, ground.benchmark.name))
    return None if side is None else language.identity(language.find(side.backbone))


def expected_of(project: Project, ground: Ground, stage: Stage, seed: int) -> dict[str, Any]:
    """What a model's manifest must say to be the one that a training now would end with; known before it starts."""
    from wavecore.learn.device import place_of
    from wavecore.learn.manifest import code_hash, hash_of, versions

    settings = ground.train_settings(stage)
    place = place_of(settings)
    return {
        "config_hash": hash_of(ground.config(stage, seed)),
        "data_hash": ground.data_hash,
        "code_hash": code_hash(train_rooms(stage.family), project.root),
        "seed": seed,
        "threads": settings.threads if stage.trained else 1,
        "device": place.device if stage.trained else "cpu",
        "dtype": place.precision if stage.trained else "float32",
        "versions": versions(),
        "backbone_hash": backbone_hash(ground, stage),
    }


def judge_hash(ground: Ground) -> str:
    """The settings that an evaluation follows from, as one hash; segments among them, where the dataset has any."""
    from wavecore.learn.manifest import hash_of

    settings = {k: v for k, v in dataclasses.asdict(ground.settings.judge).items() if k in JUDGE_KEYS}
    return hash_of(settings | ({"segments": ground.dataset.segments} if ground.dataset.segments else {}))


def wanted_seeds(settings: Settings, benchmark: str, stage: Stage) -> tuple[int, ...]:
    """The seeds a model has folders for; where the seed changes nothing, `seed=0` stands for all."""
    return settings.seeds_of(benchmark, stage.name) if stage.seeded else (0,)
