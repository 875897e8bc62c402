"""`train` and `infer`: seconds of a step against the reference, the peer, and the plain computation of the same."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from wavecore.bench.models import (
    Drawn,
    Side,
    Trainer,
    backbone_of,
    batch,
    fast,
    forecasts,
    geometry,
    make,
    plain_twin,
    prompt_tokens,
)
from wavecore.bench.rows import Row, alternate
from wavecore.model.settings import Size

REFERENCE = Side("reference", "float32")
# The peer does not ask for attention weights that nobody reads, which the published code does.
FUSED = Side("reference", "float32", fused=True)


def speed(
    bench: str,
    backbone: str,
    series: int,
    repeats: int,
    threads: int,
    size: Size,
    peer: bool,
    window: int = 512,
    model: dict[str, Any] | None = None,
) -> Iterator[Row]:
    """Rows of `train` or `infer` at one size.

    Args:
        bench: `train` or `infer`.
        backbone: minilm, gpt2 or qwen2.
        series: windows × channels a step.
        repeats: pairs that are timed.
        threads: of the CPU.
        size: of the budget when forecasting; in training all that can be drawn has its turn.
        peer: also against neuralforecast, which must be installed.
        window: T.
        model: settings that all sides but the peer share.
    """
    shape, data = geometry(window), batch(series, window)
    with backbone_of(backbone) as name:
        reference = make(replace(REFERENCE, model=model), name, shape)
        told = {"reference_" + key: value for key, value in prompt_tokens(reference, data).items()}
        dtype = fast()
        sides = {"exact": Side("base", dtype, model)}
        if dtype != "float32":
            sides["exact, float32"] = Side("base", "float32", model)
        sides["exact, static prompt"] = Side("base.static_prompt", dtype, model)
        sides["budget"] = Side("budget", dtype, model, size if bench == "infer" else None)
        for path, side in sides.items():
            own = make(side, name, shape)
            mine = prompt_tokens(own, data)
            budget = side.stage == "budget"
            extra: dict[str, Any] = {**mine, **told, "threads": threads}
            if bench == "train":
                steps, step = 1, Trainer(own, data, side.dtype, threads)
                if budget:
                    drawn = Drawn(own)
                    steps = len(drawn.sizes)
                    step = Trainer(drawn, data, side.dtype, threads, steps)
                    extra |= {"tokens_mean": statistics.mean(size.tokens for size in drawn.sizes)}
                    extra |= {"facts_mean": statistics.mean(size.facts for size in drawn.sizes)}
                times = _each(alternate(step, Trainer(reference, data, "float32", threads), repeats), steps)
                extra["steps_counted"] = steps
            else:
                times = alternate(
                    lambda m=own, s=side: forecasts(m, data, s.dtype, threads),  # type: ignore[misc]
                    lambda: forecasts(reference, data, "float32", threads),
                    repeats,
                )
                extra |= side.size._asdict() if side.size else {}
            yield Row(bench, path, "reference", backbone, series, side.dtype, "float32", **times, more=extra)
            if path in ("exact", "exact, float32"):
                yield _against_plain(bench, own, side, name, backbone, series, repeats, threads, shape, data)
        if peer:
            peered = {
                "reference": replace(REFERENCE, model=model),
                "reference, fused attention": replace(FUSED, model=model),
                "exact": sides["exact"],
            }
            if bench == "infer":
                peered["budget"] = sides["budget"]
            yield from _against_peer(bench, peered, reference, name, backbone, series, repeats, threads, shape, data)


def _each(times: dict[str, float], steps: int) -> dict[str, float]:
    """Where one side's time is of `steps` steps: per step."""
    scaled = {key: value * steps for key, value in times.items() if key.startswith("ratio")}
    return {**times, **scaled, "seconds": times["seconds"] / steps}


def _against_plain(
    bench: str, model: Any, side: Side, name: str, backbone: str, series: int, repeats: int, threads: int,
    shape: Any, data: Any,
) -> Row:  # fmt: skip
    twin = plain_twin(model, name, shape)
    if bench == "train":
        times = alternate(Trainer(model, data, side.dtype, threads), Trainer(twin, data, side.dtype, threads), repeats)
        twin = plain_twin(model, name, shape)
    else:
        times = alternate(
            lambda: forecasts(model, data, side.dtype, threads), lambda: forecasts(twin, data, side.dtype, threads),
            repeats,
        )  # fmt: skip
    exact = forecasts(twin, data, "float32", threads)
    error = difference(forecasts(model, data, "float32", threads), exact)
    low = {}
    if fast() == "bf16":
        low = {
            "error_bf16": difference(forecasts(model, data, "bf16", threads), exact),
            "other_error_bf16": difference(forecasts(twin, data, "bf16", threads), exact),
        }
    return Row(
        bench, "exact", "plain", backbone, series, side.dtype, side.dtype, **times, error=error,
        more={"threads": threads, "error_dtype": "float32", **low},
    )  # fmt: skip


def _against_peer(
    bench: str, sides: dict[str, Side], reference: Any, name: str, backbone: str, series: int, repeats: int,
    threads: int, shape: Any, data: Any,
) -> Iterator[Row]:  # fmt: skip
    from wavecore.bench.peer import PeerTrainer, neuralforecast_model, peer_prompt_tokens
    from wavecore.model import backbone as language

    x = data.x.transpose(1, 2).flatten(end_dim=1)
    y = data.y.transpose(1, 2).flatten(end_dim=1)
    settings = reference.settings
    found = neuralforecast_model(
        language.find(name).folder, shape.window, shape.horizon, shape.patch, settings.d_model, settings.d_ff,
        settings.heads, settings.prototypes, settings.llm_layers,
    )  # fmt: skip
    theirs = {"other_prompt_tokens": peer_prompt_tokens(found, x)}
    for path, side in sides.items():
        model = make(side, name, shape)
        if bench == "train":
            times = alternate(Trainer(model, data, side.dtype, threads), PeerTrainer(found, x, y, threads), repeats)
        else:
            times = alternate(
                lambda m=model, s=side: forecasts(m, data, s.dtype, threads),  # type: ignore[misc]
                lambda: PeerTrainer.infer(found, x, threads),
                repeats,
            )
        more = {**prompt_tokens(model, data), **theirs, "threads": threads}
        more |= side.size._asdict() if side.size else {}
        yield Row(bench, path, "neuralforecast", backbone, series, side.dtype, "float32", **times, more=more)


def difference(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the standard deviation of the other side's results."""
    return float((mine - theirs).abs().max() / theirs.std())
