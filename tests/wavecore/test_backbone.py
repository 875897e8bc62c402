"""What a reprogrammed forecaster refuses, where it looks for its language model, and windows that have no movement."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language import GEOMETRY, batch_of, made, save

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError
from wavecore.learn.forecast import predict
from wavecore.learn.manifest import frozen_hash
from wavecore.model import backbone as language


def test_refuses_what_does_not_fit(folders: dict[str, Path]) -> None:
    for more, match in (
        ({"d_ff": 33}, "d_ff: 33.*32 features wide"),
        ({"llm_layers": 4}, "llm_layers: 4.*3 layers"),
        ({"prompt": {"tokens": 1020}}, "1020 prompt tokens and 8 patches .* 1024 positions"),
        ({"prompt": {"tokens": 20}}, r"prompt\.tokens: 20"),
        ({"heads": 0}, "heads"),
        ({"dropout": 1.0}, "dropout"),
    ):
        with pytest.raises(SettingsError, match=match):
            made("base", folders["bert"], **more)
    for patch, match in (((65, 8), "patch.length: 65"), ((16, 17), "patch.stride: 17"), ((16, 0), "patch.stride: 0")):
        with pytest.raises(SettingsError, match=match):
            made("base", folders["bert"], dataclasses.replace(GEOMETRY, patch=patch))
    with pytest.raises(SettingsError, match="levels"):
        made("prompt", folders["bert"], dataclasses.replace(GEOMETRY, features=FeatureSettings(levels=9)))


def test_the_references_long_prompt_is_held_against_the_positions(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="positions"):
        made("reference", save(tmp_path / "short", "gpt2", positions=256))


def test_params_may_not_turn_a_stage_into_another(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"attention_mask: False, but the stage 'base' is defined by True"):
        made("base", folders["bert"], own={"attention_mask": False})
    with pytest.raises(SettingsError, match=r"prompt\.digits"):
        made("base", folders["bert"], own={"prompt": {"digits": 5}})
    with pytest.raises(SettingsError, match="stages of the family 'time_llm' are told apart by it"):
        made("base", folders["bert"], prompt={"digits": 5})
    for wrong in (5, "abc"):
        with pytest.raises(SettingsError, match=r"model\.prompt: expected keys and values"):
            made("base", folders["bert"], own={"prompt": wrong})
    # A variant's own switches win over what its stage has.
    assert made("base.long_numbers", folders["bert"]).settings.prompt.digits == 0


def test_refuses_folders_that_are_no_model(folders: dict[str, Path], tmp_path: Path) -> None:
    def copy(family: str = "bert") -> Path:
        target = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folders[family], target)
        return target

    bare = copy()
    (bare / "model.safetensors").unlink()
    with pytest.raises(SettingsError, match="there are no weights"):
        made("base", bare)
    torch.save({}, bare / "pytorch_model.bin")
    with pytest.raises(SettingsError, match="pickle form"):
        made("base", bare)
    other = copy()
    shutil.copy(folders["llama"] / "model.safetensors", other)
    with pytest.raises(SettingsError, match="another architecture"):
        made("base", other)
    cut = copy()
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(SettingsError, match="backbone"):
        made("base", cut)
    wide = copy()
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(SettingsError, match=r"do not fit|another architecture"):
        made("base", wide)
    (wide / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(SettingsError, match="not supported"):
        made("base", wide)
    (wide / "config.json").write_text("{")
    with pytest.raises(SettingsError, match=r"config\.json"):
        made("base", wide)
    dumb = copy()
    for file in dumb.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SettingsError, match="tokenizer"):
        made("base", dumb)
    with pytest.raises(SettingsError, match="there is no folder"):
        made("base", tmp_path / "nowhere")


def test_a_tokenizer_of_another_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    small = save(tmp_path / "small", "bert")
    tokenizer = json.loads((small / "tokenizer.json").read_text())
    for word in ("load", ":", "."):
        tokenizer["model"]["vocab"][word] += 5000
    (small / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SettingsError, match="its tokenizer gives the id"):
        made("base", small)
    (small / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(SettingsError, match="no usable tokenizer"):
        made("base", small)


def test_config_and_tokenizer_are_part_of_a_models_identity(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "here"
    shutil.copytree(folders["bert"], folder)
    model = made("base", folder)
    assert model.identity == made("base", folders["bert"]).identity  # wherever it lies
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 2}))
    other = made("base", folder)
    assert frozen_hash(other) == frozen_hash(model)  # the weights alone do not tell
    assert other.identity != model.identity


def test_a_folder_is_never_taken_for_a_hub_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(tmp_path / "gpt2", "bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVECORE_ROOT", str(tmp_path / "elsewhere"))
    with pytest.raises(SettingsError, match="gpt2 is not on this machine"):
        language.find("gpt2", fetch=False)  # what lies in the current directory plays no part
    monkeypatch.setenv("WAVECORE_ROOT", str(tmp_path))
    with pytest.raises(SettingsError, match="a folder here and may be a name on the hub"):
        language.find("gpt2")
    assert language.find("./gpt2").config.model_type == "bert"
    with pytest.raises(SettingsError, match="there is no folder"):
        language.find("./gpt3")
    with pytest.raises(SettingsError, match="is no name on the hub"):
        language.find("a/b/c")


def test_a_half_filled_hub_cache_is_completed_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An earlier look at its tokenizer leaves a snapshot without weights."""
    import huggingface_hub

    folder, asked = save(tmp_path / "snapshot", "gpt2"), []
    (folder / "model.safetensors").rename(tmp_path / "kept")

    def download(name: str, local_files_only: bool = False, **how: Any) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            (tmp_path / "kept").rename(folder / "model.safetensors")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(SettingsError, match="there are no weights"):
        language.check_weights(language.find("owner/name", fetch=False))
    assert asked == [True]
    language.check_weights(language.find("owner/name"))
    assert asked == [True, True, False]


def test_a_hub_name_out_of_reach_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def refuse(name: str, **how: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SettingsError, match=r"Qwen/Qwen2\.5-3B is not on this machine") as error:
        made("base", "Qwen/Qwen2.5-3B")
    assert "hf download Qwen/Qwen2.5-3B" in error.value.fix


def test_a_tokenizer_without_a_pad_token(folders: dict[str, Path], tmp_path: Path) -> None:
    """With a mask padding is never seen and none is needed; without one the end token fills up, or it is an error."""
    bare = save(tmp_path / "bare", "gpt2", pad=False, end=False)
    model = made("base", bare)
    assert np.isfinite(predict(model, batch_of(3))).all()
    with pytest.raises(SettingsError, match="neither a pad nor an end token"):
        made("base.unmasked", bare)
    ended = save(tmp_path / "ended", "gpt2", pad=False, positions=1024)
    assert made("base.unmasked", ended).reader.padding == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_window_with_a_value_that_is_not_finite_is_an_error(value: float, folders: dict[str, Path]) -> None:
    model, batch = made("base", folders["bert"]).eval(), batch_of(2)
    batch.x[1, 5, 2] = value
    with pytest.raises(DataError, match=r"window 1 of the batch .* at step 5, channel 2"):
        model(batch)


@pytest.mark.parametrize("stage", ["reference", "base", "prompt", "prompt.replace", "no_llm"])
def test_a_constant_window_has_a_defined_result(stage: str, folders: dict[str, Path]) -> None:
    model, batch = made(stage, folders["bert"]), batch_of(2)
    batch.x[0, :, 1] = 3.25
    ahead = predict(model, batch)
    assert np.isfinite(ahead).all()
    # Deviation 0 becomes √1e-5 (R1), so whatever the head says is within a few hundredths of the window's value.
    assert np.abs(ahead[0, :, 1] - 3.25).max() < 0.1


def test_word_embeddings_alone(folders: dict[str, Path]) -> None:
    source = language.find(str(folders["gpt2"]))
    assert torch.equal(language.word_embeddings(source), language.pretrained(source, 3).get_input_embeddings().weight)
    assert (source.vocabulary, source.width) == tuple(language.word_embeddings(source).shape)
