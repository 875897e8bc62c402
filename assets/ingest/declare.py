"""Write what was understood of a file as a dataset and a benchmark: two short YAML files that a person can edit."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assets.ingest.files import write_whole
from data_contracts.catalog import (
    Dataset,
    Format,
    OwnSource,
    benchmark_from,
    check_name,
    dataset_from,
    parse_yaml,
)
from wavecore.errors import SettingsError

if TYPE_CHECKING:
    from assets.ingest.sniff import Understanding

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


@dataclass(frozen=True)
class Written:
    """What was written: the name, and the two files."""

    name: str
    paths: tuple[Path, Path]


def write_yaml(
    understanding: Understanding, name: str | None, catalog_folder: Path, root: Path | None = None
) -> Written:
    """Write datasets/<name>.yaml and benchmarks/<name>.yaml below `catalog_folder`.

    A name that is taken is refused, unless it was given to the same file before.

    Args:
        understanding: of the file.
        name: None: the proposed one.
        catalog_folder: `data_contracts` of the project.
        root: the project's; a file below it is named by its path from there. None: the folder above `catalog_folder`.

    Raises:
        SettingsError: the name is unusable or taken.
        StorageError: the disk is full.
    """
    if name is None:
        name = check_name(understanding.name, f"the name of {understanding.path.name!r} (give one with --name)")
    check_name(name, "--name")
    root = (root or catalog_folder.parent).resolve()
    own = understanding.path.resolve()
    path = own.relative_to(root).as_posix() if own.is_relative_to(root) else own.as_posix()
    dataset = catalog_folder / "datasets" / f"{name}.yaml"
    benchmark = catalog_folder / "benchmarks" / f"{name}.yaml"
    if dataset.exists() and not _is_of(dataset, name, own, root):
        raise SettingsError(f"the name {name!r} is taken: {_shown(dataset)} is there already", "choose another: --name")
    if benchmark.exists() and not dataset.exists():
        raise SettingsError(
            f"the name {name!r} is taken: {_shown(benchmark)} is there already", "choose another: --name"
        )
    texts = {dataset: dataset_text(understanding, path), benchmark: benchmark_text(understanding, name)}
    # What is written must read back; nothing is written before both do.
    read = dataset_from(parse_yaml(texts[dataset], _shown(dataset)), name, _shown(dataset))
    benchmark_from(parse_yaml(texts[benchmark], _shown(benchmark)), name, _shown(benchmark), {name: read})
    for target, text in texts.items():
        write_whole(target, text.encode())
    return Written(name, (dataset, benchmark))


def _is_of(yaml: Path, name: str, own: Path, root: Path) -> bool:
    there = dataset_from(parse_yaml(yaml.read_text(encoding="utf-8-sig"), _shown(yaml)), name, _shown(yaml))
    return isinstance(there.source, OwnSource) and (root / there.source.path).resolve() == own


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])


def quoted(value: object) -> str:
    """A scalar or list as YAML that reads back as the same."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(quoted(item) for item in value)}]"
    if isinstance(value, float):
        if math.isinf(value):
            return ".inf" if value > 0 else "-.inf"
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return str(value)


def dataset_text(understanding: Understanding, path: str) -> str:
    """The dataset's YAML; only what differs from the defaults is written."""
    dataset: Dataset = understanding.dataset
    lines = [
        f"# Written by `wavecore add {understanding.path.name}`; edit it as you like.",
        f"title: {json.dumps(dataset.title, ensure_ascii=False)}",
        "# One or two sentences on what was measured; language models read them.",
        f"description: {json.dumps(dataset.description, ensure_ascii=False)}",
        f"source: {{kind: own, path: {json.dumps(path, ensure_ascii=False)}}}",
        "format:",
        *(f"  {line}" for line in _format_lines(dataset.format)),
        f"step: {dataset.step}",
        f"season: {dataset.season}  # steps of the main cycle",
    ]
    treatment = dataset.treatment
    lines += ["treatment:", f"  irregular: {treatment.irregular}", f"  missing: {treatment.missing}"]
    if treatment.sentinels:
        lines.append(f"  sentinels: {quoted(treatment.sentinels)}  # numbers that stand for a missing value")
    if dataset.constant_channels != "reject":
        lines.append(f"constant_channels: {dataset.constant_channels}")
    lines += [
        "licence: {name: the owner's own data, public_remote: unknown}",
        "splits:",
        f"  standard: {{{', '.join(f'{k}: {v}' for k, v in dataset.splits['standard'].items())}}}  # from the end",
    ]
    return "\n".join(lines) + "\n"


def _format_lines(form: Format) -> list[str]:
    plain = Format()
    lines = []
    for key in (
        "layout", "kind", "time", "time_format", "channels", "ignore", "id", "value", "separator", "decimal",
        "thousands", "encoding", "skip_lines", "timezone", "ambiguous", "missing_marks",
    ):  # fmt: skip
        value = getattr(form, key)
        if value != getattr(plain, key) or key in ("time", "channels"):
            lines.append(f"{key}: {quoted(value)}")
    return lines


def benchmark_text(understanding: Understanding, name: str) -> str:
    """The benchmark's YAML."""
    return "\n".join(
        [
            f"dataset: {name}",
            "task: forecasting",
            f"window: {understanding.window}  # steps seen",
            f"horizon: {understanding.horizon}  # steps asked for",
            "splits: standard",
            "patch: {length: 16, stride: 8}",
            "scaler: standard",
            "",
        ]
    )
