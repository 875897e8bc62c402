"""Saved models: the way there and back, tampering, atomic replacement, manifests and hashes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wavecore.config import TrainSettings
from wavecore.errors import StorageError
from wavecore.learn.checkpoint import CONFIG, CURVE, MANIFEST, WEIGHTS, load_model, read_manifest, save_model
from wavecore.learn.forecast import predict
from wavecore.learn.manifest import code_hash, frozen_hash, hash_of, manifest, tensors_hash
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.model.seasonal import SeasonalNaive
from wavecore.series.windows import WindowData

CURVE_ROWS = [{"step": 5, "loss": 0.1 + 0.2, "select": 1 / 3, "learning_rate": 1e-3}]


def config_of(seed: int = 0) -> dict[str, Any]:
    return {"window": 8, "horizon": 3, "seed": seed, "train": asdict(TrainSettings())}


def model_of(config: Mapping[str, Any], frozen: float | None = None) -> nn.Module:
    model = DLinear(config["window"], config["horizon"], 2, DLinearSettings(kernel=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(config["seed"])))
    if frozen is not None:
        model.register_parameter("base", nn.Parameter(torch.full((2, 2), frozen, dtype=torch.bfloat16), False))
    return model


def manifest_of(model: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    return manifest(
        model, config=config, data_hash="d" * 64, rooms=["wavecore/model"], seed=0, threads=2,
        dtype="float32", device="cpu", steps=10, best_step=5,
    )  # fmt: skip


def saved(folder: Path, seed: int = 0, frozen: float | None = None) -> nn.Module:
    config = config_of(seed)
    model = model_of(config, frozen)
    save_model(folder, model, config, CURVE_ROWS, manifest_of(model, config))
    return model


def make(config: dict[str, Any]) -> nn.Module:
    """A module of the right shape with other weights."""
    return DLinear(config["window"], config["horizon"], 2, DLinearSettings(kernel=3))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_there_and_back(tmp_path: Path) -> None:
    model = saved(tmp_path / "deep" / "seed=0")
    loaded = load_model(tmp_path / "deep" / "seed=0", make)
    for (name, a), b in zip(model.named_parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert loaded.config == json.loads(json.dumps(config_of()))
    assert loaded.curve == CURVE_ROWS
    assert not loaded.model.training
    data = WindowData(torch.randn(20, 2), torch.ones(20, 2, dtype=torch.bool), 8, 3)
    batch = data.batch(np.array([8, 12]))
    np.testing.assert_array_equal(predict(model, batch), predict(loaded.model, batch))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["seed=0"]
    assert sorted(content(tmp_path / "deep" / "seed=0")) == sorted([WEIGHTS, CONFIG, CURVE, MANIFEST])


def test_equal_models_are_equal_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_model_without_weights(tmp_path: Path) -> None:
    model = SeasonalNaive(8, 3, 4)
    save_model(tmp_path / "m", model, {"season": 4}, [], manifest_of(model, {"season": 4}))
    loaded = load_model(tmp_path / "m", lambda config: SeasonalNaive(8, 3, config["season"]))
    assert loaded.curve == []
    assert isinstance(loaded.model, SeasonalNaive)


def test_only_trainable_weights_are_saved_and_frozen_ones_are_verified(tmp_path: Path) -> None:
    saved(tmp_path / "m", frozen=0.5)
    assert "base" not in load_file(tmp_path / "m" / WEIGHTS)
    load_model(tmp_path / "m", lambda config: model_of(config, frozen=0.5))
    with pytest.raises(StorageError, match="other frozen weights"):
        load_model(tmp_path / "m", lambda config: model_of(config, frozen=0.25))
    with pytest.raises(StorageError, match="other frozen weights"):
        load_model(tmp_path / "m", make)


def test_the_manifest_names_everything_and_no_place_or_time(tmp_path: Path) -> None:
    model = saved(tmp_path / "m")
    found = read_manifest(tmp_path / "m")
    assert set(found) == {
        "config_hash", "data_hash", "code_hash", "frozen_hash", "backbone_hash",
        "seed", "threads", "dtype", "device", "versions",
        "weights_sha256", "steps", "best_step", "calibration", "curve_hash", "manifest_hash",
    }  # fmt: skip
    libraries = {"torch", "numpy", "pywavelets", "safetensors", "accelerate", "transformers", "tokenizers"}
    assert set(found["versions"]) == {"python", *libraries}
    assert found["frozen_hash"] is found["backbone_hash"] is None
    assert found["config_hash"] == hash_of(config_of())
    assert str(Path.home()) not in json.dumps(found)
    assert "/" not in json.dumps(found)
    assert found["weights_sha256"] == manifest_of(model, config_of())["weights_sha256"]


def test_a_manifest_of_something_else_is_not_saved(tmp_path: Path) -> None:
    config = config_of()
    model = model_of(config)
    right = manifest_of(model, config)
    with pytest.raises(ValueError, match="config_hash"):
        save_model(tmp_path / "m", model, config_of(1), [], right)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(ValueError, match="weights_sha256"):
        save_model(tmp_path / "m", model, config, [], right)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CURVE, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "changed"])
def test_damage_to_any_file_is_one_error_that_names_it(tmp_path: Path, name: str, damage: str) -> None:
    saved(tmp_path / "m")
    file = tmp_path / "m" / name
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        # The last digit or weight byte of the file becomes another one.
        whole = bytearray(file.read_bytes())
        at = len(whole) - 1 if name == WEIGHTS else max(i for i, c in enumerate(whole) if chr(c).isdigit())
        whole[at] = whole[at] ^ 1
        file.write_bytes(whole)
    with pytest.raises(StorageError) as caught:
        load_model(tmp_path / "m", make)
    assert str(file) in caught.value.problem
    assert caught.value.fix


def test_every_single_changed_byte_of_the_weights_is_seen(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    file = tmp_path / "m" / WEIGHTS
    whole = file.read_bytes()
    for at in range(0, len(whole), 11):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(StorageError, match=r"model\.safetensors"):
            load_model(tmp_path / "m", make)
    file.write_bytes(whole)
    load_model(tmp_path / "m", make)


def rewritten(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other weights under a manifest that is in order, as another version of the program would leave them."""
    save_file(tensors, folder / WEIGHTS)
    found = json.loads((folder / MANIFEST).read_text())
    import hashlib

    found["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    del found["manifest_hash"]
    (folder / MANIFEST).write_text(json.dumps({**found, "manifest_hash": hash_of(found)}))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    tensors = load_file(tmp_path / "m" / WEIGHTS)
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({k: t for k, t in tensors.items() if k != "trend.bias"}, "'trend.bias' is missing"),
        ({**tensors, "extra": torch.ones(1)}, "'extra' is unknown"),
        ({**tensors, "trend.bias": torch.ones(4)}, r"'trend.bias' is torch.float32 \(4,\), this model needs"),
        ({**tensors, "trend.bias": torch.ones(3, dtype=torch.float64)}, "'trend.bias' is torch.float64"),
    ]
    for changed, message in cases:
        rewritten(tmp_path / "m", changed)
        with pytest.raises(StorageError, match=message) as caught:
            load_model(tmp_path / "m", make)
        assert WEIGHTS in caught.value.problem


def test_an_expected_hash_that_differs_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    load_model(tmp_path / "m", make, expect={"data_hash": "d" * 64, "seed": 0})
    with pytest.raises(StorageError, match=r"manifest\.json: data_hash is 'dddd"):
        load_model(tmp_path / "m", make, expect={"data_hash": "e" * 64})


def test_a_number_that_json_does_not_know_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    (tmp_path / "m" / CURVE).write_text('[{"step": NaN}]')
    with pytest.raises(StorageError, match=r"curve\.json: not valid JSON"):
        load_model(tmp_path / "m", make)


def test_saving_replaces_the_whole_folder(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    (tmp_path / "m" / "leftover.txt").write_text("old")
    model = saved(tmp_path / "m", seed=1)
    assert sorted(content(tmp_path / "m")) == sorted([WEIGHTS, CONFIG, CURVE, MANIFEST])
    loaded = load_model(tmp_path / "m", make)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.model.parameters(), strict=True))


@pytest.mark.parametrize("at", range(1, 10))
def test_a_full_disk_leaves_the_model_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    saved(tmp_path / "m")
    before = content(tmp_path)
    plain, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(1)
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        plain(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"m[/:].*No space left on device") as caught:
        saved(tmp_path / "m", seed=1)
    assert ".new" not in caught.value.problem
    monkeypatch.undo()
    # The ninth is the folder's own, when the new model is in place already: both are whole.
    if at < 9:
        assert content(tmp_path) == before
    load_model(tmp_path / "m", make)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("moment", ["writing", "between", "after"])
def test_a_kill_at_any_moment_is_mended(tmp_path: Path, moment: str) -> None:
    saved(tmp_path / "m")
    saved(tmp_path / "other", seed=1)
    before, after = content(tmp_path / "m"), content(tmp_path / "other")
    if moment == "writing":
        (tmp_path / ".m.new").mkdir()
        shutil.copy(tmp_path / "other" / WEIGHTS, tmp_path / ".m.new" / WEIGHTS)
    elif moment == "between":
        (tmp_path / "m").rename(tmp_path / ".m.old")
        shutil.copytree(tmp_path / "other", tmp_path / ".m.new")
    else:
        (tmp_path / "m").rename(tmp_path / ".m.old")
        shutil.copytree(tmp_path / "other", tmp_path / "m")
    load_model(tmp_path / "m", make)
    assert content(tmp_path / "m") == (after if moment == "after" else before)
    saved(tmp_path / "m", seed=1)
    assert content(tmp_path / "m") == after
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "other"]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none/manifest\.json: the file is missing"):
        load_model(tmp_path / "none", make)


# --- hashes ---------------------------------------------------------------------------------------------------------


def test_the_hash_of_an_object_is_of_its_canonical_json() -> None:
    import hashlib

    want = hashlib.sha256(b'{"a":[1,2.5,null,true],"b":"\\u00d7"}').hexdigest()
    assert hash_of({"b": "×", "a": (1, 2.5, None, True)}) == want
    assert hash_of({"a": np.array([1, 2])}) == hash_of({"a": [np.int64(1), 2]})
    assert hash_of(TrainSettings()) == hash_of(asdict(TrainSettings()))
    assert hash_of(1) != hash_of(1.0) != hash_of("1.0")


@pytest.mark.parametrize("obj", [{1, 2}, Path("x"), {1: 2}, object(), TrainSettings])
def test_what_has_no_one_form_has_no_hash(obj: object) -> None:
    with pytest.raises(TypeError):
        hash_of(obj)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_outside_json_have_no_hash(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        hash_of([value])


def test_the_hash_of_code_is_of_relative_names_and_bytes(tmp_path: Path) -> None:
    for root in ("a", "b"):
        (tmp_path / root / "room" / "inner").mkdir(parents=True)
        (tmp_path / root / "room" / "one.py").write_text("1")
        (tmp_path / root / "room" / "inner" / "two.py").write_text("2")
        (tmp_path / root / "single.py").write_text("3")
    base = tmp_path / "a"

    def now(*rooms: str) -> str:
        return code_hash(rooms or ("room", "single.py"), base)

    first = now()
    assert first == code_hash(["single.py", "room", "room/inner"], tmp_path / "b")
    assert first == code_hash([base / "room", base / "single.py"], base)
    (base / "room" / "data.json").write_text("{}")
    (base / "room" / "one.pyc").write_text("x")
    assert now() == first
    (base / "room" / "one.py").write_text("1 ")
    assert now() != first
    (base / "room" / "one.py").write_text("1")
    (base / "room" / "one.py").rename(base / "room" / "uno.py")
    assert now() != first
    with pytest.raises(StorageError, match="nowhere: no Python file"):
        now("nowhere")
    with pytest.raises(StorageError, match="lies outside"):
        now("../b/room")


def test_the_hash_of_this_code() -> None:
    assert code_hash(["wavecore/model"]) != code_hash(["wavecore/learn"])
    assert len(code_hash(["wavecore"])) == 64


def test_the_hash_of_tensors_sees_names_types_shapes_and_bits() -> None:
    one = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    assert tensors_hash(one) == tensors_hash(dict(reversed(one.items())))
    others = [
        {**one, "a": torch.arange(4.0).reshape(2, 2)},
        {**one, "a": torch.arange(4)},
        {**one, "b": torch.tensor([1, -1], dtype=torch.bfloat16)},
        {"c": one["a"], "b": one["b"]},
    ]
    assert len({tensors_hash(t) for t in (one, *others)}) == 5


def test_the_hash_of_frozen_weights() -> None:
    model = nn.Linear(2, 2)
    assert frozen_hash(model) is None
    model.bias.requires_grad_(False)
    first = frozen_hash(model)
    with torch.no_grad():
        model.weight.add_(1)
    assert frozen_hash(model) == first
    with torch.no_grad():
        model.bias.add_(1)
    assert frozen_hash(model) != first
