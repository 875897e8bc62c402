"""Weights on disk: safetensors and JSON, never pickle; written whole or not at all, and verified when read.

Two kinds. A saved model is a folder of four files (`model.safetensors`, `config.json`, `curve.json`, `manifest.json`)
that replaces the folder before it in one move. A resume checkpoint is a tensor file per step and a `state.json` that
names it and its hash: the small file is replaced last, so that a kill at any moment leaves the old state or the new.
Frozen weights are in neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wavecore.errors import StorageError
from wavecore.learn.manifest import frozen_hash, hash_of

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CURVE = "curve.json"
MANIFEST = "manifest.json"
STATE = "state.json"
RETRAIN = "restore it with `dvc checkout`, or train the model again"


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are learned, by name; a weight used in two places appears once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def saved(model: nn.Module) -> dict[str, Tensor]:
    """What a saved model's weights file holds: the weights that are learned, and what was chosen after training (the
    persistent buffers, such as a token budget's sizes)."""
    kept = model.state_dict().keys()
    return {**trainable(model), **{name: b for name, b in model.named_buffers() if name in kept}}


def _bytes_of(tensors: Mapping[str, Tensor]) -> bytes:
    # Clones: safetensors refuses tensors that share memory or are not contiguous.
    copies = {k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()}
    return safetensors.torch.save(copies)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the safetensors file that `save_model` would write for `model`."""
    return hashlib.sha256(_bytes_of(saved(model))).hexdigest()


def _json_bytes(obj: Any) -> bytes:
    return (json.dumps(obj, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a write into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}", "free space or correct the permissions, then run again"
        ) from error


def _sync(folder: Path) -> None:
    # A rename is durable only once the folder that holds the name is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all: temporary name, fsync, rename."""
    temporary = path.with_name(path.name + ".part")
    with _refusals(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _recover(folder: Path) -> None:
    """Finish or undo a replacement that was cut short: what is whole stays, leftovers go."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)


def save_model(
    folder: Path,
    model: nn.Module,
    config: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a model's folder; the one before it is replaced in one move and stays whole if this fails.

    Args:
        folder: where; parents are made.
        model: its trainable weights are written; there may be none.
        config: all that the model is built from, plain JSON values.
        curve: rows of the training curve; empty where nothing is learned.
        manifest: from `wavecore.learn.manifest.manifest`, for these weights and this config.

    Returns:
        the manifest as written, with the hashes of the curve and of the manifest itself.

    Raises:
        StorageError: the disk refused; the message names the file.
        ValueError: the manifest is of other weights or of another config.
    """
    weights = _bytes_of(saved(model))
    for key, value in (("weights_sha256", hashlib.sha256(weights).hexdigest()), ("config_hash", hash_of(config))):
        if manifest.get(key) != value:
            raise ValueError(f"the manifest's {key} is not of what is to be saved")
    full = {**manifest, "curve_hash": hash_of(list(curve))}
    full["manifest_hash"] = hash_of(full)
    new, old = _beside(folder, "new"), _beside(folder, "old")
    with _refusals(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _recover(folder)
        new.mkdir()
    try:
        write_file(new / WEIGHTS, weights)
        write_file(new / CONFIG, _json_bytes(config))
        write_file(new / CURVE, _json_bytes(list(curve)))
        write_file(new / MANIFEST, _json_bytes(full))
        with _refusals(folder):
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
            _sync(folder.parent)
    except StorageError as error:
        _recover(folder)
        # The temporary folder is gone by now: name the file by where it was to be.
        raise StorageError(error.problem.replace(str(new), str(folder)), error.fix) from error
    except BaseException:
        _recover(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return full


class Loaded(NamedTuple):
    """A model read from disk, every byte of it verified.

    Attributes:
        model: with its weights, on the CPU, in eval mode.
        config, curve, manifest: the three JSON files.
    """

    model: nn.Module
    config: dict[str, Any]
    curve: list[dict[str, Any]]
    manifest: dict[str, Any]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StorageError(f"{path}: the file is missing", RETRAIN) from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", "correct the permissions, then run again") from error


def _read_json(path: Path, kind: type) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    content = _read(path)
    try:
        value = json.loads(content, parse_constant=refuse)
    except ValueError as error:
        raise StorageError(f"{path}: not valid JSON ({error})", RETRAIN) from error
    if not isinstance(value, kind):
        raise StorageError(f"{path}: expected a JSON {kind.__name__}, found {type(value).__name__}", RETRAIN)
    return value


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a saved model, checked against the hash of itself.

    Raises:
        StorageError: missing, not JSON, or changed since it was written.
    """
    path = folder / MANIFEST
    found = _read_json(path, dict)
    claimed = found.get("manifest_hash")
    if claimed != hash_of({k: v for k, v in found.items() if k != "manifest_hash"}):
        raise StorageError(f"{path}: changed since it was written", RETRAIN)
    return found


def load_model(
    folder: Path, make: Callable[[dict[str, Any]], nn.Module], expect: Mapping[str, Any] | None = None
) -> Loaded:
    """Read a saved model strictly.

    Args:
        folder: as given to `save_model`.
        make: builds the module, with frozen weights if any, from config.json.
        expect: keys of the manifest that must have these values, such as `config_hash`.

    Raises:
        StorageError: a missing, truncated or changed file; weights that do not fit the module; frozen weights or an
            expected value that differ. The message names the file.
    """
    with _refusals(folder):
        # Only the loss of the folder itself is mended here: a `.new` may belong to a run at work.
        if not folder.exists() and _beside(folder, "old").exists():
            os.replace(_beside(folder, "old"), folder)
    manifest = read_manifest(folder)
    for key, value in (expect or {}).items():
        if manifest.get(key) != value:
            raise StorageError(
                f"{folder / MANIFEST}: {key} is {manifest.get(key)!r}, expected {value!r}",
                "train the model again with the present settings, data and code",
            )
    config = _read_json(folder / CONFIG, dict)
    if hash_of(config) != manifest.get("config_hash"):
        raise StorageError(f"{folder / CONFIG}: not the config that the manifest names", RETRAIN)
    curve = _read_json(folder / CURVE, list)
    if hash_of(curve) != manifest.get("curve_hash"):
        raise StorageError(f"{folder / CURVE}: not the curve that the manifest names", RETRAIN)
    path = folder / WEIGHTS
    content = _read(path)
    tensors = _tensors(path, content)
    if hashlib.sha256(content).hexdigest() != manifest.get("weights_sha256"):
        raise StorageError(f"{path}: not the weights that the manifest names", RETRAIN)
    model = make(config)
    if getattr(model, "identity", None) != manifest.get("backbone_hash"):
        raise StorageError(
            f"{folder / MANIFEST}: the language model's config or tokenizer is not the one it was trained with",
            "point the settings to the language model it was trained with, or train it again",
        )
    if frozen_hash(model) != manifest.get("frozen_hash"):
        raise StorageError(
            f"{folder / MANIFEST}: the model was trained on other frozen weights",
            "point the settings to the frozen model it was trained on, or train it again",
        )
    fill(saved(model), tensors, path)
    return Loaded(model.eval(), config, curve, manifest)


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise StorageError(f"{path}: truncated, or not a safetensors file ({error})", RETRAIN) from error


def fill(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy `tensors` into a model's `own`: the same names, shapes and dtypes, or nothing at all.

    Raises:
        StorageError: a missing or surplus name, a shape or dtype that differs; the message names file and weight.
    """
    fix = "train the model again with the present settings"
    for name in own.keys() - tensors.keys():
        raise StorageError(f"{where}: the weight {name!r} is missing", fix)
    for name in tensors.keys() - own.keys():
        raise StorageError(f"{where}: the weight {name!r} is unknown to this model", fix)
    for name, parameter in own.items():
        found = tensors[name]
        if found.shape != parameter.shape or found.dtype != parameter.dtype:
            raise StorageError(
                f"{where}: the weight {name!r} is {found.dtype} {tuple(found.shape)}, this model needs "
                f"{parameter.dtype} {tuple(parameter.shape)}",
                fix,
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def write_resume(
    folder: Path, run_hash: str, step: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write the resume checkpoint of one step; the one before it stays until this one is complete.

    Args:
        folder: of this run alone; made if needed.
        run_hash: what the checkpoint belongs to.
        step: steps done.
        state: plain JSON values.
        tensors: by name.

    Raises:
        StorageError: the disk refused; the checkpoint before it is untouched.
    """
    with _refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = _bytes_of(tensors)
    name = f"step-{step:09d}.safetensors"
    record: dict[str, Any] = {
        "run_hash": run_hash,
        "step": step,
        "tensors": name,
        "tensors_sha256": hashlib.sha256(content).hexdigest(),
        "state": state,
    }
    record["record_hash"] = hash_of(record)
    write_file(folder / name, content)
    write_file(folder / STATE, _json_bytes(record))
    for stale in folder.glob("step-*"):
        if stale.name != name:
            with suppress(OSError):
                stale.unlink()


class Resume(NamedTuple):
    """A resume checkpoint: steps done, JSON state, tensors by name."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]


def read_resume(folder: Path, run_hash: str) -> Resume | None:
    """The resume checkpoint in `folder`; None where there is none.

    Raises:
        StorageError: it is damaged or belongs to another run; the message names the file.
    """
    path = folder / STATE
    if not path.exists():
        return None
    fix = "nothing to do: training starts anew"
    record = _read_json(path, dict)
    if record.get("record_hash") != hash_of({k: v for k, v in record.items() if k != "record_hash"}):
        raise StorageError(f"{path}: changed since it was written", fix)
    if record["run_hash"] != run_hash:
        raise StorageError(f"{path}: belongs to a run with other settings, data or code", fix)
    file = folder / record["tensors"]
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != record["tensors_sha256"]:
        raise StorageError(f"{file}: truncated or changed since it was written", fix)
    return Resume(record["step"], record["state"], _tensors(file, content))


def discard_resume(folder: Path) -> None:
    """Remove a resume checkpoint, once its model is saved or when it is of no use."""
    with _refusals(folder):
        # The state first: without it the rest counts for nothing.
        (folder / STATE).unlink(missing_ok=True)
        for leftover in (*folder.glob("step-*"), *folder.glob("*.part")):
            leftover.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
