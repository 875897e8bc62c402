"""What a model is made of, as hashes: settings, data, code, frozen and learned weights, and the libraries.

Equal manifests mean equal models on CPU. Nothing in a manifest depends on when or where a run took place: no dates,
run ids or absolute paths.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import wavecore
from wavecore.errors import StorageError

# The names of the distributions whose version can change a weight.
LIBRARIES = {
    "torch": "torch",
    "numpy": "numpy",
    "pywavelets": "PyWavelets",
    "safetensors": "safetensors",
    "accelerate": "accelerate",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
}


def canonical(obj: Any) -> Any:
    """`obj` as plain JSON values: dataclasses and mappings as objects, sequences as lists, numpy scalars as numbers.

    Raises:
        TypeError: something without one plain form (a set, a path, an arbitrary object), or a key that is not text.
    """
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: canonical(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
        return {key: canonical(value) for key, value in obj.items()}
    if isinstance(obj, np.generic):
        return canonical(obj.item())
    if isinstance(obj, np.ndarray):
        return canonical(obj.tolist())
    if isinstance(obj, (list, tuple)):
        return [canonical(value) for value in obj]
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    raise TypeError(f"{type(obj).__name__} has no canonical JSON form: {obj!r}")


def hash_of(obj: Any) -> str:
    """SHA-256 of the canonical JSON of `obj`: sorted keys, no spaces, NaN and infinities refused (ValueError)."""
    text = json.dumps(canonical(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def code_hash(rooms: Iterable[str | Path], root: Path | None = None) -> str:
    """SHA-256 over the relative path and the bytes of every `*.py` file of some rooms, in sorted order.

    Args:
        rooms: folders or single files, relative to `root` or below it.
        root: what paths are relative to, so that the hash is the same wherever the checkout lies; by default the
            folder that holds `wavecore`.

    Raises:
        StorageError: a room that does not exist, holds no code, or lies outside `root`.
    """
    base = (root or Path(wavecore.__file__).parent.parent).resolve()
    files: dict[str, Path] = {}
    for room in rooms:
        path = (base / room).resolve()
        if not path.is_relative_to(base):
            raise StorageError(f"{room}: lies outside {base.name}", "name rooms below the project's root")
        found = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not found:
            raise StorageError(f"{room}: no Python file there", "name an existing room of the code")
        files |= {f.relative_to(base).as_posix(): f for f in found}
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        # Lengths keep "a" + "bc" and "ab" + "c" apart.
        digest.update(f"{len(name)} {len(content)} {name} ".encode())
        digest.update(content)
    return digest.hexdigest()


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        # Bytes, since numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frozen_hash(model: nn.Module) -> str | None:
    """Hash of the weights that are never trained; None where there are none."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return tensors_hash(frozen) if frozen else None


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries whose change can change a weight."""
    return {"python": platform.python_version(), **{key: version(name) for key, name in LIBRARIES.items()}}


def manifest(
    model: nn.Module,
    *,
    config: Mapping[str, Any],
    data_hash: str,
    rooms: Sequence[str | Path],
    seed: int,
    threads: int,
    dtype: str,
    device: str,
    steps: int,
    best_step: int,
    calibration: Sequence[Mapping[str, Any]] = (),
    root: Path | None = None,
) -> dict[str, Any]:
    """The manifest of a trained model.

    Args:
        model: with its final weights.
        config: all that the model was built and trained from; what `save_model` writes as config.json.
        data_hash: of the series the model was trained on.
        rooms: the rooms of code that made it, see `code_hash`.
        seed, threads: of the run.
        dtype: the precision of the run, `float32` or `bf16`.
        device: `cpu` or `cuda`.
        steps: optimizer steps taken; best_step: the step whose weights these are; 0 and 0 where nothing is learned.
        calibration: what was tried and chosen after training, see `wavecore.learn.finishing`.
        root: see `code_hash`.
    """
    from wavecore.learn.checkpoint import weights_hash

    return {
        "config_hash": hash_of(config),
        "data_hash": data_hash,
        "code_hash": code_hash(rooms, root),
        "frozen_hash": frozen_hash(model),
        "backbone_hash": getattr(model, "identity", None),
        "seed": seed,
        "threads": threads,
        "dtype": dtype,
        "device": device,
        "versions": versions(),
        "weights_sha256": weights_hash(model),
        "steps": steps,
        "best_step": best_step,
        "calibration": list(calibration),
    }
