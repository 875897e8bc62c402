"""`memory`: what training and forecasting take, and what a forward pass keeps for its backward pass.

A peak is the resident memory of a child process that does this one thing, libraries, weights and loading included: what
a user's own process would need.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from wavecore.bench import SIZE
from wavecore.bench.child import ask, peak_mb
from wavecore.bench.models import Side, Trainer, backbone_of, batch, fast, forecasts, geometry, make
from wavecore.bench.rows import Row
from wavecore.model.settings import Size

WORK = ("train", "infer")


def sides(size: Size | None, model: dict[str, Any] | None = None, also: Sequence[str] = ()) -> dict[str, Side]:
    """The three that are held against each other, `reference` first; `model` are settings that all of them share.
    Without a size of the budget it is as it is trained. `also`: further stages, by their names."""
    dtype = fast()
    return {
        "reference": Side("reference", "float32", model),
        "exact": Side("base", dtype, model),
        "budget": Side("budget", dtype, model, size),
        **{name: Side(name, dtype, model) for name in also},
    }


def memory(
    backbone: str = "minilm",
    series: int = 28,
    steps: int = 50,
    threads: int = 2,
    size: Size = SIZE,
    window: int = 512,
    model: dict[str, Any] | None = None,
    work: Sequence[str] = WORK,
    paths: Sequence[str] = ("reference", "exact", "budget"),
) -> Iterator[Row]:
    """Peak memory of training and of forecasting, a row per work and side, `reference` first.

    Args:
        backbone: minilm, gpt2 or qwen2.
        series: windows × channels at once.
        steps: of training; a budget draws its sizes anew in each, and what that does to the heap shows only after tens
            of them.
        threads: of the CPU.
        size: of the budget when forecasting.
        window: T.
        model: settings that all sides share.
        work: of `train` and `infer`.
        paths: which sides.
    """
    with backbone_of(backbone) as name:
        for task in work:
            other: float | None = None
            for path, side in sides(size if task == "infer" else None, model).items():
                if path not in paths:
                    continue
                more: dict[str, Any] = {"work": task, "window": window, "threads": threads}
                more |= {"steps": steps} if task == "train" else {}
                more |= ask(task, **given(name, side, series, window, threads), steps=steps)
                yield _row(path, side, backbone, series, more, "peak", other)
                other = more.get("peak_mb") if path == "reference" else other


def backward(
    backbone: str = "minilm",
    series: int = 28,
    steps: int = 12,
    threads: int = 2,
    window: int = 512,
    model: dict[str, Any] | None = None,
) -> Iterator[Row]:
    """What a forward pass of training keeps for its backward pass, a row per side: counted, not timed.

    Mean and most over `steps` steps, since a budget differs from step to step.
    """
    with backbone_of(backbone) as name:
        shape, data = geometry(window), batch(series, window)
        other: float | None = None
        for path, side in sides(None, model).items():
            trainer = Trainer(make(side, name, shape), data, side.dtype, threads)
            # One step that is not counted makes what stays.
            trainer()
            kept = [saved(lambda t=trainer, i=i: t(i)) / 2**20 for i in range(steps)]  # type: ignore[misc]
            more: dict[str, Any] = {"work": "backward", "window": window, "steps": steps}
            more |= {"saved_mb": statistics.mean(kept), "saved_most_mb": max(kept)}
            yield _row(path, side, backbone, series, more, "saved", other)
            other = more["saved_mb"] if path == "reference" else other


def saved(step: Callable[[], Any]) -> int:
    """Bytes that a training step keeps from forward to backward.

    A storage counts once, however many views of it are kept, and not at all where it was there before the step: weights
    and their bf16 copies, inputs, a prompt that is the same in all steps.
    """
    # Storages are held until the step is over, so that no other can come to lie where one of them lay.
    there = [o.untyped_storage() for o in gc.get_objects() if issubclass(type(o), Tensor)]
    before = {storage.data_ptr() for storage in there}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in before:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in kept.values())


def train(
    backbone: str, side: dict[str, Any], series: int, window: int, threads: int, steps: int = 1
) -> dict[str, Any]:
    """Steps of training in a child process; returns the peak before the first of them."""
    chosen = Side(**side)
    trainer = Trainer(make(chosen, backbone, geometry(window)), batch(series, window), chosen.dtype, threads, steps)
    before = peak_mb()
    trainer()
    return {"loaded_mb": before}


def infer(
    backbone: str, side: dict[str, Any], series: int, window: int, threads: int, steps: int = 1
) -> dict[str, Any]:
    """One forecast of a batch in a child process; returns the peak before it."""
    chosen = Side(**side)
    model, data = make(chosen, backbone, geometry(window)), batch(series, window)
    before = peak_mb()
    forecasts(model, data, chosen.dtype, threads)
    return {"loaded_mb": before}


def given(backbone: str, side: Side, series: int, window: int, threads: int) -> dict[str, Any]:
    """The arguments of `train` and `infer` as JSON can hold them; `backbone` as `backbone_of` gave it."""
    return {"backbone": backbone, "side": asdict(side), "series": series, "window": window, "threads": threads}


def _row(
    path: str, side: Side, backbone: str, series: int, more: dict[str, Any], what: str, other: float | None
) -> Row:
    """A row, held against the reference's MiB where there are both."""
    mine = more.get(f"{what}_mb")
    if other is None or mine is None:
        return Row("memory", path, backbone=backbone, series=series, dtype=side.dtype, more=more)
    more = {**more, f"other_{what}_mb": other, f"{what}_ratio": other / mine}
    return Row("memory", path, "reference", backbone, series, side.dtype, "float32", more=more)
