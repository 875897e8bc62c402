"""The catalog: every dataset and benchmark, one YAML file each, read strictly."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_contracts.dataset import (
    MISSING_MARKS,
    SOURCES,
    Dataset,
    Format,
    GeneratedSource,
    Licence,
    OwnSource,
    PublishedSource,
    Source,
    Treatment,
    check_name,
)
from data_contracts.strict_yaml import parse_yaml
from wavecore.errors import SettingsError
from wavecore.strict import build

__all__ = [
    "MISSING_MARKS",
    "Benchmark",
    "Catalog",
    "Dataset",
    "Format",
    "GeneratedSource",
    "Licence",
    "OwnSource",
    "Patch",
    "PublishedSource",
    "Source",
    "Treatment",
    "benchmark_from",
    "check_name",
    "dataset_from",
    "feature_key",
    "load_catalog",
    "parse_yaml",
]


# A folder of `results/` beside those of the benchmarks.
ONLINE = "online"


@dataclass(frozen=True)
class Patch:
    """How a window is cut into tokens: `length` steps every `stride` steps."""

    length: int = 16
    stride: int = 8

    def __post_init__(self) -> None:
        if self.length < 1 or not 1 <= self.stride <= self.length:
            raise ValueError("length must be 1 or more, stride from 1 to length")


@dataclass(frozen=True)
class Benchmark:
    """A task on a dataset: what is seen, what is asked, and how it is split.

    Attributes:
        name: the YAML file's name.
        dataset: whose data.
        window, horizon: steps seen (T) and asked for (H).
        task: what is asked.
        splits: which of the dataset's splits.
        patch: see Patch.
        scaler: `standard`: mean and standard deviation of the train rows, per channel.
    """

    name: str
    dataset: str
    window: int
    horizon: int
    task: Literal["forecasting"] = "forecasting"
    splits: str = "standard"
    patch: Patch = field(default_factory=Patch)
    scaler: Literal["standard"] = "standard"

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError("horizon: must be 1 or more")
        if self.window < self.patch.length:
            raise ValueError(f"window: must hold at least one patch of {self.patch.length} steps")


def feature_key(benchmark: Benchmark) -> str:
    """The partition of windows and features: they depend on dataset, window and splits, not on the horizon."""
    key = f"{benchmark.dataset}.T{benchmark.window}"
    return key if benchmark.splits == "standard" else f"{key}.{benchmark.splits}"


@dataclass(frozen=True)
class Catalog:
    """All datasets and benchmarks by name, in alphabetical order."""

    datasets: dict[str, Dataset]
    benchmarks: dict[str, Benchmark]

    def dataset(self, name: str) -> Dataset:
        """Raises SettingsError if there is none; the message names the nearest."""
        return _look_up(self.datasets, name, "dataset")

    def benchmark(self, name: str) -> Benchmark:
        """Raises SettingsError if there is none; the message names the nearest."""
        return _look_up(self.benchmarks, name, "benchmark")


def _look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(table) or 'none'}"
    raise SettingsError(f"there is no {what} {name!r}", hint)


def dataset_from(mapping: Mapping[str, Any], name: str, where: str) -> Dataset:
    """Build a Dataset; `where` names the file in messages."""
    check_name(name, f"{where} (dataset)")
    _no_name_key(mapping, where)
    source = mapping.get("source")
    if isinstance(source, Mapping):
        kind = source.get("kind")
        if kind not in SOURCES:
            raise SettingsError(
                f"{where}.source.kind: {kind!r} is not one of {', '.join(SOURCES)}", "choose one of them"
            )
        # Alone first: the error is then about this kind of source, not about the first kind there is.
        build(SOURCES[kind], source, f"{where}.source")
    return build(Dataset, {**mapping, "name": name}, where)


def benchmark_from(mapping: Mapping[str, Any], name: str, where: str, datasets: Mapping[str, Dataset]) -> Benchmark:
    """Build a Benchmark and hold it against the datasets; `where` names the file in messages."""
    check_name(name, f"{where} (benchmark)")
    if name == ONLINE:
        raise SettingsError(
            f"{where}: {name!r} is no name of a benchmark: results/{name}/ has those of streams", "rename the file"
        )
    _no_name_key(mapping, where)
    benchmark = build(Benchmark, {**mapping, "name": name}, where)
    check_name(benchmark.dataset, f"{where}.dataset")
    if benchmark.dataset not in datasets:
        near = difflib.get_close_matches(benchmark.dataset, datasets, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(datasets) or 'none'}"
        raise SettingsError(f"{where}.dataset: there is no dataset {benchmark.dataset!r}", hint)
    if benchmark.splits not in datasets[benchmark.dataset].splits:
        known = ", ".join(datasets[benchmark.dataset].splits)
        raise SettingsError(
            f"{where}.splits: the dataset {benchmark.dataset} has no splits {benchmark.splits!r}", f"it has: {known}"
        )
    return benchmark


def _no_name_key(mapping: Mapping[str, Any], where: str) -> None:
    if "name" in mapping:
        raise SettingsError(f"{where}: unknown key 'name'", "the file's name is the name; delete the line")


def load_catalog(folder: Path) -> Catalog:
    """Read `folder`/datasets/*.yaml and `folder`/benchmarks/*.yaml.

    Raises:
        SettingsError: broken YAML, an unknown, missing or ill-typed key, an unusable name, a benchmark on an unknown
            dataset; names the file and the key.
    """
    datasets = {
        path.stem: dataset_from(parse_yaml(text, where), path.stem, where)
        for path, where, text in _files(folder, "datasets")
    }
    benchmarks = {
        path.stem: benchmark_from(parse_yaml(text, where), path.stem, where, datasets)
        for path, where, text in _files(folder, "benchmarks")
    }
    return Catalog(datasets, benchmarks)


def _files(folder: Path, kind: str) -> list[tuple[Path, str, str]]:
    here = folder / kind
    if not here.is_dir():
        raise SettingsError(f"there is no folder {here}", "run from the project's root")
    found = []
    for path in sorted(here.iterdir()):
        where = f"{folder.name}/{kind}/{path.name}"
        if path.suffix == ".yml":
            raise SettingsError(f"{where}: the ending .yml is not read", "rename it to .yaml")
        if path.suffix != ".yaml" or path.name.startswith("."):
            continue
        try:
            found.append((path, where, path.read_text(encoding="utf-8-sig")))
        except UnicodeDecodeError:
            raise SettingsError(f"{where}: not UTF-8", "save it as UTF-8") from None
    return found
