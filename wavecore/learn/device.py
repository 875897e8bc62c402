"""Where a run takes place: device, precision and CPU threads."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from wavecore.config import TrainSettings
from wavecore.errors import SettingsError

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Device and precision of a run, `auto` resolved.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `float32`, or `bf16`: trained weights, optimizer and head stay float32, products and frozen layers
            are bf16.
    """

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bf16"]


def place_of(settings: TrainSettings) -> Place:
    """Resolve `device` and `precision`: CUDA where there is one, bf16 where the device has instructions for it; float32
    elsewhere, which is said once.

    Raises:
        SettingsError: CUDA is asked for and missing.
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError(
            "train.device: cuda, but torch finds no CUDA device", "set it to auto or cpu, or install torch with CUDA"
        )
    device: Literal["cpu", "cuda"] = "cuda" if available and settings.device != "cpu" else "cpu"
    if settings.precision != "auto":
        return Place(device, settings.precision)
    if native_bf16(device):
        return Place(device, "bf16")
    _say_once(device)
    return Place(device, "float32")


def native_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 by instructions of its own; emulated, it is slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@functools.cache
def _say_once(device: str) -> None:
    log.warning("%s has no bf16 of its own: computing in float32 (train.precision: auto)", device)


@contextmanager
def accelerator(place: Place) -> Iterator[Accelerator]:
    """An accelerate `Accelerator` for this stretch of code alone.

    accelerate keeps device and precision in a singleton of the process and refuses a second choice; one process here
    trains several stages, so the singleton is dropped before and after. The first of several processes owns its
    process group, which is then left alone.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    def forget() -> None:
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            AcceleratorState._reset_state(reset_partial_state=True)

    forget()
    try:
        yield Accelerator(
            cpu=place.device == "cpu",
            mixed_precision="bf16" if place.precision == "bf16" else "no",
        )
    finally:
        forget()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` CPU threads, then as many as before. Part of a result: sums are split by it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
