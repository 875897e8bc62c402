"""Where things lie: the one place that knows the layout of the store, of `results/` and of the settings."""

from __future__ import annotations

import copy
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.catalog import Benchmark, Catalog, Dataset, check_name, feature_key, load_catalog, parse_yaml
from wavecore.config import Settings, settings_from
from wavecore.errors import SettingsError
from wavecore.stages import families
from wavecore.stages import get as get_stage


@dataclass(frozen=True)
class Project:
    """One checkout: code, settings and store below one root.

    Attributes:
        root: the folder that holds params.yaml.
    """

    root: Path

    @classmethod
    def find(cls) -> Project:
        """The checkout named by WAVECORE_ROOT, else the one that this code lies in.

        The current directory plays no part, so every command works from anywhere.
        """
        root = Path(os.environ.get("WAVECORE_ROOT") or Path(__file__).resolve().parents[1]).resolve()
        if not (root / "params.yaml").is_file():
            raise SettingsError(f"{root}: there is no params.yaml", "set WAVECORE_ROOT to the root of a checkout")
        return cls(root)

    # Read anew whenever a file changed: a long-lived UI process must see an edit, a loop need not pay for it.
    def params(self) -> dict[str, Any]:
        """params.yaml as plain data."""
        path = self.root / "params.yaml"
        return copy.deepcopy(_params(path, _signature(path)))

    def settings(self) -> Settings:
        """params.yaml, checked, with every stage and override name known."""
        path = self.root / "params.yaml"
        settings = copy.deepcopy(_settings(path, _signature(path)))
        catalog = self.catalog()
        for name in (*settings.pipeline.benchmarks, *settings.overrides.benchmarks):
            catalog.benchmark(name)
        lengths = {f"{b.dataset}_T{b.window}" for b in catalog.benchmarks.values()}
        for name in settings.overrides.datasets:
            if name not in lengths:
                catalog.dataset(name)
        for name in settings.families:
            if name not in families():
                raise SettingsError(
                    f"params.yaml: families: there is no family {name!r}", f"families: {', '.join(families())}"
                )
        named = (s for own in settings.overrides.benchmarks.values() for s in own)
        for name in (*settings.pipeline.stages, *settings.stages, *(n for n in named if n not in families())):
            get_stage(name)
        return settings

    @property
    def catalog_folder(self) -> Path:
        return self.root / "data_contracts"

    def catalog(self) -> Catalog:
        """The datasets and benchmarks of data_contracts/."""
        folder = self.catalog_folder
        files = sorted((folder / "datasets").glob("*")) + sorted((folder / "benchmarks").glob("*"))
        return _catalog(folder, tuple(_signature(path) for path in files))

    @property
    def data_dir(self) -> Path | None:
        """The user's folder of published files (`WAVECORE_DATA`), if set."""
        value = os.environ.get("WAVECORE_DATA")
        return Path(value).expanduser() if value else None

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def runs(self) -> Path:
        """Timings, logs and run ids: outside everything that is hashed."""
        return self.store / "runs"

    @property
    def unfinished(self) -> tuple[Path, Path]:
        """Folders for unfinished work, of the store and of `results/`: the store may lie on a disk of its own."""
        return self.store / "tmp", self.root / ".dvc" / "tmp" / "wavecore"

    def unfinished_for(self, target: Path) -> Path:
        """The one on the disk of `target`, from where a rename can put it in its place."""
        below_store, beside_it = self.unfinished
        return below_store if target.is_relative_to(self.store) else beside_it

    @property
    def report(self) -> Path:
        return self.store / "report"

    @property
    def dagster_home(self) -> Path:
        return self.store / "dagster"

    def raw(self, dataset: str) -> Path:
        return self.store / "raw" / check_name(dataset, "dataset")

    def series(self, dataset: str) -> Path:
        return self.store / "series" / check_name(dataset, "dataset")

    def features(self, kind: str, key: str) -> Path:
        """Folder of one feature table: `kind` is windows, wavelets or prompts; `key` as feature_key gives it."""
        dataset, *_ = key.split(".")
        check_name(dataset, "dataset")
        return self.store / kind / key

    def splits(self, benchmark: str) -> Path:
        return self.store / "splits" / check_name(benchmark, "benchmark")

    def prompts(self, benchmark: str) -> Path:
        return self.store / "prompt_ids" / check_name(benchmark, "benchmark")

    def models(self, benchmark: str, stage: str) -> Path:
        return self.store / "models" / check_name(benchmark, "benchmark") / get_stage(stage).name

    def evaluations(self, benchmark: str, stage: str) -> Path:
        return self.store / "evaluations" / check_name(benchmark, "benchmark") / get_stage(stage).name

    def results(self, benchmark: str, stage: str) -> Path:
        return self.root / "results" / check_name(benchmark, "benchmark") / get_stage(stage).name

    def online(self, benchmark: str, stage: str) -> Path:
        return self.store / "online" / check_name(benchmark, "benchmark") / get_stage(stage).name

    def online_results(self, benchmark: str, stage: str) -> Path:
        return self.root / "results" / "online" / check_name(benchmark, "benchmark") / get_stage(stage).name

    def resume(self, benchmark: str, stage: str, seed: int) -> Path:
        """Half-finished training: never inside a DVC out."""
        return self.store / "resume" / check_name(benchmark, "benchmark") / get_stage(stage).name / f"seed={seed}"

    def resume_online(self, benchmark: str, stage: str, seed: int) -> Path:
        """A stream that has not ended, likewise."""
        name = check_name(benchmark, "benchmark")
        return self.store / "resume" / "online" / name / get_stage(stage).name / f"seed={seed}"

    def feature_keys(self) -> dict[str, tuple[Dataset, Benchmark]]:
        """Every feature table that some benchmark needs, with its dataset and one benchmark that needs it."""
        catalog = self.catalog()
        return {feature_key(b): (catalog.dataset(b.dataset), b) for b in catalog.benchmarks.values()}


def _signature(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return path.name, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=8)
def _params(path: Path, signature: tuple[str, int, int]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError("params.yaml: not UTF-8", "save it as UTF-8") from None
    return parse_yaml(text, "params.yaml")


@functools.lru_cache(maxsize=8)
def _settings(path: Path, signature: tuple[str, int, int]) -> Settings:
    return settings_from(_params(path, signature))


@functools.lru_cache(maxsize=8)
def _catalog(folder: Path, signatures: tuple[tuple[str, int, int], ...]) -> Catalog:
    return load_catalog(folder)


def seed_folder(folder: Path, seed: int) -> Path:
    """`seed=K/` below a model, evaluation or results folder."""
    return folder / f"seed={seed}"


def seeds_in(folder: Path) -> list[int]:
    """The seeds that have a folder below `folder`, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name.removeprefix("seed=")) for p in folder.glob("seed=*") if p.is_dir())
