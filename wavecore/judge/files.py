"""What judging one model leaves behind, as files: the same wherever it took place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS, LOSSES, MANIFEST = "metrics.json", "losses.json", "manifest.json"
# The key of the hash of the results in manifest.json.
RESULTS = "results"
COLUMNS = ("metric", "group", "key", "value", "n")


def identity(model: Mapping[str, Any], data_hash: str, settings: str, code_hash: str) -> dict[str, Any]:
    """What an evaluation follows from; a seed whose evaluation says the same is not scored again.

    Args:
        model: the manifest of the model.
        data_hash: of series and splits.
        settings: hash of the settings of judging.
        code_hash: of the rooms that judge.
    """
    return {
        "model": model["manifest_hash"],
        # What the model follows from: a clone that has the results alone can tell whether they are of its settings.
        "config_hash": model["config_hash"],
        "backbone_hash": model["backbone_hash"],
        "trained_by": model["code_hash"],
        "device": model["device"],
        "data_hash": data_hash,
        "settings": settings,
        "code_hash": code_hash,
    }


def texts(
    benchmark: str, stage: str, seed: int, rows: list[dict[str, Any]], losses: dict[str, list[Any]]
) -> dict[str, str]:
    """metrics.json and losses.json of one seed, by name."""
    long = {
        "benchmark": benchmark,
        "stage": stage,
        "seed": seed,
        "split": "test",
        "columns": list(COLUMNS),
        "rows": [[row[column] for column in COLUMNS] for row in rows],
    }
    return {METRICS: rows_json(long), LOSSES: rows_json(losses)}


def results_hash(files: Mapping[str, str]) -> str:
    """SHA-256 over metrics.json and losses.json; stands in manifest.json, so that a changed result is seen."""
    whole = "".join(f"{name} {len(files[name])} {files[name]}" for name in (METRICS, LOSSES))
    return hashlib.sha256(whole.encode()).hexdigest()


def intact(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the results in `folder` are those that its manifest was written with."""
    try:
        found = {name: (folder / name).read_text(encoding="utf-8") for name in (METRICS, LOSSES)}
    except (OSError, UnicodeDecodeError):
        return False
    return bool(manifest.get(RESULTS) == results_hash(found))


def rows_json(value: Mapping[str, Any]) -> str:
    """JSON with one row (or one column) per line: small, and a change shows as a change of lines in git."""
    lines = []
    for key, part in sorted(value.items()):
        if key == "rows":
            body = ",\n  ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in part)
            lines.append(f' "rows": [\n  {body}\n ]')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(part, ensure_ascii=False, allow_nan=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
