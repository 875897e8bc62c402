"""Tiny language models of every family, made and saved by the tests (what the hub would give, with random weights), and
forecasters on top of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavecore import stages
from wavecore.config import FeatureSettings, PipelineSettings, Settings, StageOverride
from wavecore.model.build import Geometry, build
from wavecore.model.time_llm import TimeLLM
from wavecore.series.windows import Batch, WindowData
from wavecore.strict import merged

WORDS = (
    *("dataset", "task", "forecast", "the", "next", "last", "hour", "hours", "window", "minimum", "maximum", "median"),
    *("trend", "upward", "downward", "flat", "repeats", "after", "steps", "energy", "slower", "wavelet", "entropy"),
    *("bursts", "main", "period", "movement", "load", "centre", "of", "to", "in", "at", "from", "than", "no"),
)
FAMILIES = ("bert", "roberta", "gpt2", "llama", "qwen2")
WIDTH, LAYERS, POSITIONS = 32, 3, 1024


def config_of(
    family: str, vocabulary: int, width: int = WIDTH, layers: int = LAYERS, positions: int = POSITIONS
) -> Any:
    import transformers as t

    common = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    own = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * width,
        "max_position_embeddings": positions,
    }
    if family == "bert":
        return t.BertConfig(**common, **own)
    if family == "roberta":
        return t.RobertaConfig(**common, **own | {"max_position_embeddings": positions + 1}, type_vocab_size=1)
    if family == "gpt2":
        return t.GPT2Config(**common, n_embd=width, n_layer=layers, n_head=4, n_positions=positions)
    if family == "llama":
        return t.LlamaConfig(**common, **own, num_key_value_heads=2)
    if family == "qwen2":
        return t.Qwen2Config(**common, **own, num_key_value_heads=2)
    raise ValueError(family)


def tokenizer_of(family: str, pad: bool = True, end: bool = True) -> Any:
    """A tokenizer of letters, digits and some words; BERT's kind puts [CLS] and [SEP] around a text, LLaMA's a mark
    before each word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    if family in ("bert", "roberta"):
        names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *dict.fromkeys([*WORDS, *letters]), *(f"##{c}" for c in letters)]
        raw = Tokenizer(models.WordPiece({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.WordPiece()
        raw.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
        return PreTrainedTokenizerFast(
            tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
        )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<pad>", "<s>", "</s>", *alphabet]
    if family == "llama":
        names = ["<pad>", "<s>", "</s>", "\u2581", *letters]
        raw = Tokenizer(models.BPE({w: i for i, w in enumerate(names)}, []))
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
    else:
        raw = Tokenizer(models.BPE({w: i for i, w in enumerate(names)}, []))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
    given = {"pad_token": "<pad>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **given, **({"eos_token": "</s>"} if end else {}))


def save(folder: Path, family: str, pad: bool = True, end: bool = True, seed: int = 0, **size: int) -> Path:
    """A whole model folder: config, safetensors, tokenizer. Returns the folder."""
    from transformers import AutoModel

    tokenizer = tokenizer_of(family, pad, end)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config_of(family, len(tokenizer), **size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SMALL = {"llm_layers": 2, "d_model": 8, "d_ff": 8, "heads": 2, "prototypes": 16, "prompt": {"tokens": 192}}
GEOMETRY = Geometry(
    window=64, horizon=12, channels=("a", "b", "c"), season=24, step="1h", patch=(16, 8),
    description="Hourly load.", features=FeatureSettings(wavelet="db2", levels=3),
    energy={"dwt3": (0.4, 0.35, 0.2, 0.05), "packet3": (0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.0)},
)  # fmt: skip


def made(
    stage: str,
    backbone: Path | str,
    geometry: Geometry = GEOMETRY,
    seed: int = 0,
    own: dict[str, Any] | None = None,
    **model: Any,
) -> TimeLLM:
    chosen = merged(SMALL, {"backbone": str(backbone), **model})
    settings = Settings(
        pipeline=PipelineSettings(benchmarks=("x",), stages=(stage,)),
        families={"time_llm": StageOverride(model=chosen)},
        stages={stage: StageOverride(model=own or {})},
    )
    found = build(stages.get(stage), geometry, settings, "x", seed)
    assert isinstance(found, TimeLLM)
    return found


def budgeted(folder: Path | str, stage: str = "budget", **more: Any) -> TimeLLM:
    """A forecaster with a token budget of a quarter, a half or all of its patches."""
    own = {"shares": [0.25, 0.5], "windows": 3, **more.pop("budget", {})}
    return made(stage, folder, budget=own, **more)


def batch_of(windows: int, geometry: Geometry = GEOMETRY, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    t = np.arange(geometry.window + geometry.horizon)
    level = random.normal(size=(windows, 1, len(geometry.channels)))
    period = random.choice([6, 12, 24, 30], size=(windows, 1, len(geometry.channels)))
    series = level + np.sin(2 * np.pi * t[None, :, None] / period) + 0.3 * random.normal(size=(windows, len(t), 1))
    values = torch.tensor(series, dtype=torch.float32)
    x, y = values[:, : geometry.window], values[:, geometry.window :]
    return Batch(x, y, torch.ones_like(y, dtype=torch.bool), torch.arange(windows) + geometry.window)


def at(batch: Batch, *windows: int) -> Batch:
    """Some windows of a batch, in that order."""
    return Batch(*(None if part is None else part[list(windows)] for part in batch))  # type: ignore[arg-type]


def window_data() -> WindowData:
    random = np.random.default_rng(0)
    values = torch.tensor(np.sin(np.arange(400)[:, None] / 4) + 0.1 * random.normal(size=(400, 3)), dtype=torch.float32)
    return WindowData(values, torch.ones_like(values, dtype=torch.bool), 64, 12)
