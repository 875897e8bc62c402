"""Is this the published model? One recorded forward pass of the reference, repeated with its own weights (R9).

    python -m wavecore.parity FOLDER NAME

reads `NAME.json` (geometry), `NAME.weights.safetensors` (weights under the reference's names) and `NAME.recorded.npz`
(inputs and what came out at each step), and prints one JSON object: recorded tensor → largest absolute difference. For
`stat_lags`, whose order among ties is noise, it is the difference of the autocorrelation at the chosen lags.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavecore import stages
from wavecore.errors import StorageError, WavecoreError
from wavecore.model import backbone as language
from wavecore.model.frozen import Backbone
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.time_llm import TimeLLM
from wavecore.prompt.statistics import circular_autocorrelation, circular_lags, statistics
from wavecore.strict import build, merged

# The reference's name of each trainable weight → ours.
NAMES = {
    "patch_embedding.value_embedding.tokenConv.weight": "patch_embedding.convolution.weight",
    "mapping_layer": "mapping",
    "reprogramming_layer.query_projection": "reprogramming.query",
    "reprogramming_layer.key_projection": "reprogramming.key",
    "reprogramming_layer.value_projection": "reprogramming.value",
    "reprogramming_layer.out_projection": "reprogramming.out",
    "output_projection.linear": "head.linear",
}
LLM = "llm_model."
LAGS = 5


def differences(folder: Path, name: str) -> dict[str, float]:
    """Largest absolute difference of each recorded tensor.

    Raises:
        StorageError: a file of the recording is missing or damaged, or its weights do not fit its geometry.
    """
    geometry, weights, recorded = _read(folder, name)
    model = _model(geometry, weights, f"{folder / name}.weights.safetensors")
    x, ids = torch.from_numpy(recorded["input"]), torch.from_numpy(recorded["prompt_ids"])
    with torch.no_grad():
        trace = model.trace(x, ids)
        series = model.normalized(x)[0].numpy()
        found: dict[str, Any] = {
            "patch_embedding": trace.patch_embedding,
            "prototypes": model.prototypes(),
            "reprogrammed": trace.reprogrammed,
            "llm_last_hidden": trace.hidden,
            "forecast": trace.forecast,
        }
    told = statistics(series, LAGS)
    found |= {f"stat_{key}": told[key] for key in ("min", "max", "median")}
    found["stat_trend_up"] = told["trend"] > 0
    correlation = circular_autocorrelation(series)
    found["stat_lags"] = np.take_along_axis(correlation, circular_lags(series, LAGS).astype(int), axis=-1)
    recorded["stat_lags"] = np.take_along_axis(correlation, recorded["stat_lags"], axis=-1)
    result = {}
    for key, value in recorded.items():
        if key in ("input", "prompt_ids"):
            continue
        mine = np.asarray(found[key], dtype=np.float64)
        if mine.shape != value.shape:
            raise StorageError(
                f"{folder / name}.recorded.npz: {key} is {value.shape}, the model gives {mine.shape}",
                "record it again with the geometry that the JSON file states",
            )
        result[key] = float(np.abs(mine - value.astype(np.float64)).max())
    return result


def _read(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = [folder / f"{name}.{end}" for end in ("json", "weights.safetensors", "recorded.npz")]
    for path in paths:
        if not path.is_file():
            raise StorageError(
                f"{path}: the file is missing", "a recording is NAME.json, .weights.safetensors and .npz"
            )
    try:
        geometry = json.loads(paths[0].read_text(encoding="utf-8"))
        weights = load_file(paths[1])
        with np.load(paths[2], allow_pickle=False) as file:
            recorded = {key: file[key] for key in file.files}
    except (ValueError, OSError, SafetensorError) as error:
        raise StorageError(f"{folder / name}: the recording is damaged ({error})", "copy it again") from error
    return geometry, weights, recorded


def _model(geometry: dict[str, Any], weights: dict[str, Tensor], where: str) -> TimeLLM:
    backbone = _backbone(geometry, weights)
    sizes = {"d_model": "d_model", "d_ff": "d_ff", "heads": "n_heads", "prototypes": "prototypes"}
    given = {ours: geometry[theirs] for ours, theirs in sizes.items()} | {"backbone": str(geometry["backbone"])}
    # The stage itself, not a copy of what it is meant to be.
    settings = build(TimeLLMSettings, merged(given, stages.get("reference").switches), "reference")
    patch = (geometry["patch_len"], geometry["stride"])
    model = TimeLLM(geometry["T"], geometry["H"], patch, settings, backbone.words, backbone, None).eval()
    own = {}
    for theirs, tensor in weights.items():
        if theirs.startswith(LLM):
            continue
        name = next((theirs.replace(a, b) for a, b in NAMES.items() if theirs.startswith(a)), None)
        if name is None:
            raise StorageError(f"{where}: the weight {theirs!r} is unknown", "record the published model's weights")
        own[name] = tensor
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in trainable.items():
        if name not in own or own[name].shape != parameter.shape:
            raise StorageError(
                f"{where}: no weight of shape {tuple(parameter.shape)} for {name!r}",
                "record the published model's weights with the geometry that the JSON file states",
            )
        with torch.no_grad():
            parameter.copy_(own[name])
    return model


def _backbone(geometry: dict[str, Any], weights: dict[str, Tensor]) -> Backbone:
    """The recording's language model: its own weights where it has them, else the first layers of MiniLM."""
    stated = geometry["backbone"]
    if isinstance(stated, str):
        layers = next((int(word) for word in stated.split() if word.isdigit()), 0)
        if not stated.startswith("MiniLM") or not layers:
            raise StorageError(f"backbone: {stated!r} is not known here", 'write "MiniLM, first 2 layers", or a GPT-2')
        return Backbone(language.pretrained(language.find(language.MINILM), layers), "train", True).eval()
    from transformers import GPT2Config, GPT2Model

    if stated["type"] != "gpt2":
        raise StorageError(f"backbone: {stated['type']!r} is not known here", "record a GPT-2, or MiniLM")
    config = GPT2Config(
        vocab_size=stated["vocab"],
        n_embd=stated["width"],
        n_layer=stated["layers"],
        n_head=stated["heads"],
        n_positions=stated["positions"],
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2Model(config)
    own = {key.removeprefix(LLM): tensor for key, tensor in weights.items() if key.startswith(LLM)}
    lost, surplus = model.load_state_dict(own, strict=False)
    if [key for key in lost if not key.endswith(("attn.bias", "attn.masked_bias"))] or surplus:
        raise StorageError(f"the language model's weights do not fit: {[*lost, *surplus][:3]}", "record it again")
    return Backbone(model, "train", True).eval()


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 where the recording could be repeated, however far off."""
    parser = argparse.ArgumentParser(prog="python -m wavecore.parity", description="Repeat a recorded forward pass.")
    parser.add_argument("folder", type=Path, help="where the recording lies")
    parser.add_argument("name", help="its name, such as gpt2_tiny")
    chosen = parser.parse_args(arguments)
    try:
        print(json.dumps(differences(chosen.folder, chosen.name), indent=1))
    except WavecoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
