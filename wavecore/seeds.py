"""Every random number is a pure function of a seed and of what it is for.

`derive(seed, "epoch", 3)` names one stream of numbers. A run that is killed and resumed needs no generator state: step
7 of seed 0 draws the same noise whether or not steps 0 to 6 were taken in the same process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run: the head of SHA-256 over `seed` and `purpose`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator of its own for one purpose of one run."""
    return np.random.default_rng(derive(seed, *purpose))


def reseed(device: torch.device, seed: int) -> None:
    """Set torch's global generator of the CPU and, on CUDA, of `device`. Only to be called inside `isolated`."""
    # torch.manual_seed would also touch every other accelerator, which `isolated` does not put back.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """A stretch of code whose random numbers leave torch's global generators as they were, also when it raises.

    Layers take their weights and dropout its noise from the global generators; here they draw from `seed`.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            reseed(device, seed)
        yield
