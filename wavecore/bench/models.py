"""The sides of a benchmark: stages of the ladder at one geometry, on generated windows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from wavecore import stages
from wavecore.config import FeatureSettings, PipelineSettings, Settings, StageOverride, TrainSettings
from wavecore.learn.calibrate import hold
from wavecore.learn.curriculum import Loss
from wavecore.learn.device import Place, accelerator, place_of, threads
from wavecore.learn.loop import gradients, optimizer_of, update
from wavecore.model import backbone as language
from wavecore.model.build import Geometry, build, model_settings
from wavecore.model.groups import ParameterGroup, declared
from wavecore.model.layers import patch_count
from wavecore.model.scales import Scales, decompositions, key, measured
from wavecore.model.settings import Size, TimeLLMSettings
from wavecore.model.time_llm import TimeLLM, Use
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler
from wavecore.series.windows import Batch
from wavecore.strict import merged

CHANNELS = 7
DESCRIPTION = (
    "Electricity transformer in China, hourly: six loads and the oil temperature, with daily and weekly cycles."
)
# Sizes of the real models (GPT-2 small, Qwen2.5-0.5B), the first six layers of each.
GEOMETRIES: dict[str, dict[str, int]] = {
    "gpt2": {"n_embd": 768, "n_layer": 6, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
    "qwen2": {
        "hidden_size": 896, "num_hidden_layers": 6, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        stage: of the ladder.
        dtype: float32 or bf16.
        model: settings beside the stage's own.
        size: of a budget when forecasting, where the stage has one.
        fused: fused attention in a stage that asks for all attention weights and drops them, as the published code
            does: the same forecasts, faster.
    """

    stage: str
    dtype: Literal["float32", "bf16"] = "bf16"
    model: dict[str, Any] | None = None
    size: Size | None = None
    fused: bool = False


@contextmanager
def backbone_of(name: str) -> Iterator[str]:
    """What to set `backbone` to: `minilm` itself, or a folder with random weights at another model's geometry.

    The hub's models cannot be had everywhere; for the time that a step takes their numbers do not matter. Token ids
    come from MiniLM's tokenizer, which knows fewer words than any of them.
    """
    if name == language.MINILM:
        yield name
        return
    import transformers

    own: dict[str, Any] = GEOMETRIES[name]
    # Qwen2's layers are LLaMA's with a bias; a folder that says qwen2 would get a tokenizer of its own, without words.
    given: dict[str, Any] = {"attention_bias": True}
    config = transformers.GPT2Config(**own) if name == "gpt2" else transformers.LlamaConfig(**own, **given)
    with tempfile.TemporaryDirectory() as folder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            transformers.AutoModel.from_config(config).save_pretrained(folder)
        from wavecore.prompt.tokens import tokenizer_of

        tokenizer_of(language.find(language.MINILM).folder).save_pretrained(folder)
        yield folder


def geometry(window: int = 512, horizon: int = 96) -> Geometry:
    """ETTh1's: hourly, seven channels, patches of 16 every 8."""
    names = tuple(f"channel {i}" for i in range(CHANNELS))
    return Geometry(window, horizon, names, 24, "1h", (16, 8), DESCRIPTION, FeatureSettings())


def batch(series: int, window: int = 512, horizon: int = 96, seed: int = 0) -> Batch:
    """Generated windows: daily and weekly cycles of random phase and noise. [series / 7, T, 7] or [1, T, series]."""
    channels = CHANNELS if series % CHANNELS == 0 else series
    draw = torch.Generator().manual_seed(seed)
    t = torch.arange(window + horizon)[None, :, None]
    shape = (series // channels, 1, channels)
    phase, other = (torch.rand(shape, generator=draw) * 24 for _ in range(2))
    x = torch.sin(2 * torch.pi * (t + phase) / 24) + 0.5 * torch.sin(2 * torch.pi * (t + 7 * other) / 168)
    x = x + 0.3 * torch.randn(x.shape, generator=draw)
    y = x[:, window:]
    return Batch(x[:, :window], y, torch.ones_like(y, dtype=torch.bool), torch.arange(len(x)) + window)


def make(side: Side, backbone: str, shape: Geometry, seed: int = 0) -> TimeLLM:
    """The side's model."""
    chosen = merged({"backbone": backbone}, side.model or {})
    settings = Settings(
        pipeline=PipelineSettings(benchmarks=("bench",), stages=(side.stage,)),
        families={"time_llm": StageOverride(model=chosen)},
    )
    size = side.size and Size(*side.size)
    if size:
        patches = patch_count(shape.window, *shape.patch)
        # A share that gives just this number; the smallest that is tried by default may be larger.
        share = {"budget": {"shares": [(size.tokens + 0.5) / patches]}} if size.tokens < patches else {}
        chosen = merged(chosen, share)
        settings = replace(settings, families={"time_llm": StageOverride(model=chosen)})
    stage = stages.get(side.stage)
    shape = replace(shape, energy=_energy(cast(TimeLLMSettings, model_settings(stage, settings, "bench")), shape))
    model = cast(TimeLLM, build(stage, shape, settings, "bench", seed))
    if side.fused:
        assert model.backbone is not None
        model.backbone.attention_outputs = False
        model.backbone.transformer.set_attn_implementation("sdpa")
    if size:
        assert model.budget is not None
        # Without a trained model the first prompt tokens count as the most influential.
        layers, width = model.budget.told.shape
        hold(model, size, torch.arange(width, 0, -1).float().expand(layers, -1))
    return model


def _energy(model: TimeLLMSettings, shape: Geometry) -> dict[str, tuple[float, ...]]:
    """What the bands of generated windows hold, of the decompositions that a wavelet stage chooses bands by."""
    wanted, scales = decompositions(model.tokens, model.streams), Scales(shape.features)
    if not wanted:
        return {}
    values = batch(len(shape.channels), 4 * shape.window, 1).x[0].double().numpy()
    times = np.datetime64("2024-01-01", "us") + np.arange(len(values)) * np.timedelta64(1, "h")
    arrays, span = from_values(times, shape.channels, values), (0, len(values))
    scaler = Scaler.fit(arrays, span)
    return {
        key(transform, scales.at(levels).levels): measured(
            arrays, scaler, span, shape.window, scales.at(levels), transform
        )
        for transform, levels in wanted
    }


def plain_twin(model: TimeLLM, backbone: str, shape: Geometry) -> TimeLLM:
    """The same weights and options computed in one pass over prompt and patches."""
    settings = replace(model.settings, computation="plain", budget=replace(model.settings.budget, enabled=False))
    from wavecore.model.frozen import Backbone

    frozen = Backbone(language.pretrained(language.find(backbone), settings.llm_layers))
    twin = TimeLLM(shape.window, shape.horizon, shape.patch, settings, frozen.words, frozen, model.prompter)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(own[name])
    return twin


def fast() -> Literal["float32", "bf16"]:
    """What `precision: auto` is here: bf16, or float32 where the device has no bf16 of its own, which is said once."""
    return place_of(TrainSettings(precision="auto")).precision


def device() -> torch.device:
    """Where everything is measured: CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Drawn(nn.Module):
    """A model with a token budget whose training steps go through what can be drawn.

    Steps of a budget differ up to tenfold in cost, so a few random ones would say little about the mean. Description
    and task are seen in all layers, as in most of the steps drawn: being constants they add next to nothing.

    Args:
        model: with a token budget.
    """

    def __init__(self, model: TimeLLM) -> None:
        super().__init__()
        assert model.budget is not None
        self.model = model
        layers, full = len(model.budget.told), Fraction(str(model.budget.settings.full))
        facts = range(1, layers + 1)
        sizes = [Size(tokens, seen, layers) for tokens in model.budget.sizes[:-1] for seen in facts]
        if full == 1:
            sizes = []
        # Each size as often as makes the steps that read everything just their share of all.
        whole = len(sizes) * full / (1 - full) if sizes else Fraction(1)
        self.sizes = [Size(model.patches, layers, layers)] * whole.numerator + sizes * whole.denominator
        self.step = 0

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N]."""
        size = self.sizes[self.step % len(self.sizes)]
        self.step += 1
        return self.model.trace(batch.x, use=Use(size.tokens, self.model.falling(size.facts, size.depth))).forecast

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The model's own."""
        return self.model.parameter_groups()


class Trainer:
    """Training steps of one model: forward, backward, Adam; each with its own seed.

    Args:
        steps: at a call, from the first on: the same ones each time unless told otherwise.
    """

    def __init__(
        self, model: nn.Module, data: Batch, dtype: Literal["float32", "bf16"], count: int = 2, steps: int = 1
    ) -> None:
        self.model = model.to(device()).train()
        self.data = data.to(device())
        self.dtype, self.count, self.steps = dtype, count, steps
        self.settings = TrainSettings(threads=count)
        self.optimizer = optimizer_of(declared(model), self.settings)
        self.loss = Loss(self.settings, data.y.shape[1]).to(device())

    def __call__(self, first: int = 0) -> float:
        loss = 0.0
        with threads(self.count), accelerator(Place(cast(Any, device().type), self.dtype)) as engine:
            self.model.train()
            for step in range(first, first + self.steps):
                self.optimizer.zero_grad()
                loss = gradients(self.model, self.data, engine, self.loss, step)["loss"]
                update(self.optimizer, engine, self.settings, 1e-4)
        return loss


def forecasts(model: nn.Module, data: Batch, dtype: Literal["float32", "bf16"], count: int = 2) -> Tensor:
    """[B, H, N] without gradients, one more batch of a pass: what a model computes from its weights alone is kept from
    the first call on (which `alternate` does not count). The model stays in eval mode."""
    place = device()
    model.to(place)
    if model.training:
        model.eval()
    mixed = torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == "bf16")
    with threads(count), torch.inference_mode(), mixed:
        return cast(Tensor, model(data.to(place))).float()


def prompt_tokens(model: TimeLLM, data: Batch) -> dict[str, float]:
    """Mean length of the windows' prompts, and how many of these tokens are the same for all."""
    told = [len(p.ids) for p in model.prompts(data.x)]
    fixed = len(model.prompter.fixed_ids) if model.prompter is not None else 0
    return {"prompt_tokens": sum(told) / len(told), "prompt_fixed": fixed}
