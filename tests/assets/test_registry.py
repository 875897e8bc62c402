"""The registry: entries that never change, a pointer that moves atomically, and a way back."""

from pathlib import Path

import pytest
from conftest import CHECKOUT

from assets import registry
from assets.project import Project, seed_folder
from wavecore.config import PipelineSettings, Settings
from wavecore.errors import StorageError
from wavecore.learn.checkpoint import save_model
from wavecore.learn.manifest import manifest
from wavecore.model.build import Geometry, build
from wavecore.stages import get


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "data_contracts").symlink_to(CHECKOUT / "data_contracts")
    (tmp_path / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text())
    return Project(tmp_path)


def _save(project: Project, seed: int, steps: int = 5) -> None:
    """A model as the `model` asset writes it, untrained."""
    settings = Settings(pipeline=PipelineSettings(("tiny",), ("dlinear",)))
    geometry = Geometry(32, 8, ("a", "b"), 24)
    model = build(get("dlinear"), geometry, settings, "tiny", seed)
    config = {
        "benchmark": "tiny",
        "stage": "dlinear",
        "seed": seed,
        "window": 32,
        "horizon": 8,
        "season": 24,
        "channels": ["a", "b"],
        "model": {"kernel": 25, "individual": False, "start": "mean"},
    }
    found = manifest(
        model,
        config=config,
        data_hash="0",
        rooms=["wavecore/model"],
        seed=seed,
        threads=1,
        dtype="float32",
        device="cpu",
        steps=steps,
        best_step=steps,
    )
    save_model(seed_folder(project.models("tiny", "dlinear"), seed), model, config, [], found)


def test_promote_and_roll_back(project: Project) -> None:
    _save(project, 0)
    _save(project, 1)
    assert registry.champion(project, "tiny") is None
    first = registry.promote(project, "tiny", "dlinear", 0)
    second = registry.promote(project, "tiny", "dlinear", 1)
    assert (first.seed, second.seed, second.before) == (0, 1, (first.entry,))
    assert registry.promote(project, "tiny", "dlinear", 1) == second  # once more changes nothing
    assert registry.roll_back(project, "tiny") == first
    with pytest.raises(StorageError, match="no champion served before"):
        registry.roll_back(project, "tiny")


def test_training_again_does_not_touch_what_serves(project: Project) -> None:
    _save(project, 0)
    served = registry.promote(project, "tiny", "dlinear", 0)
    folder = registry.registry(project) / "tiny" / served.entry
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    _save(project, 0, steps=9)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert registry.promote(project, "tiny", "dlinear", 0).entry != served.entry


def test_a_changed_entry_is_refused(project: Project) -> None:
    _save(project, 0)
    served = registry.promote(project, "tiny", "dlinear", 0)
    weights = registry.registry(project) / "tiny" / served.entry / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StorageError, match=r"model\.safetensors"):
        registry.verify(project, "tiny", served.entry)


def test_a_model_that_is_not_there_is_named(project: Project) -> None:
    with pytest.raises(StorageError, match="no model of seed 3"):
        registry.promote(project, "tiny", "dlinear", 3)
