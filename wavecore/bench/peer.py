"""neuralforecast's TimeLLM at the caller's geometry: the peer that the reference stage is held against.

What it computes is its own, unchanged. What its constructor cannot be told, or does not heed, is set around it: the
number of prototypes (1024 in its code; the mapping layer is made anew at another width). Building it seeds Python,
numpy and torch for the whole process (pytorch_lightning.seed_everything).
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.learn.device import threads

SEED = 1  # its default


def neuralforecast_model(
    folder: Path,
    window: int,
    horizon: int,
    patch: tuple[int, int],
    d_model: int,
    d_ff: int,
    heads: int,
    prototypes: int,
    layers: int,
) -> nn.Module:
    """The peer in float32, in training mode; called with {"insample_y": [M, T, 1]}.

    Args:
        folder: of the language model, weights and tokenizer.
        window: T; horizon: H; patch: length and stride; d_model, d_ff, heads, prototypes: as in TimeLLMSettings.
        layers: all that the language model has (fewer it does not heed).

    Raises:
        SettingsError: it is not installed, or the language model has another number of layers.
    """
    need_peer()
    from neuralforecast.models import TimeLLM
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.num_hidden_layers != layers:
        raise SettingsError(
            f"neuralforecast reads all {config.num_hidden_layers} layers of the language model, not {layers}",
            "compare at its own depth",
        )
    with contextlib.redirect_stdout(io.StringIO()):
        model = TimeLLM(
            h=horizon, input_size=window, patch_len=patch[0], stride=patch[1], d_ff=d_ff, d_llm=config.hidden_size,
            d_model=d_model, n_heads=heads, enc_in=1, llm=str(folder), random_seed=SEED,
        )  # fmt: skip
    # Where a folder cannot be read it takes GPT-2 instead and says nothing.
    if model.llm.config.name_or_path != str(folder) or model.llm.dtype != torch.float32:
        raise SettingsError(f"neuralforecast took {model.llm.config.name_or_path} in place of {folder}", "see above")
    model.num_tokens = prototypes
    model.mapping_layer = nn.Linear(model.vocab_size, prototypes)
    trained: nn.Module = model.train()
    return trained


def need_peer() -> None:
    """Make sure that neuralforecast is there.

    Raises:
        SettingsError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("neuralforecast") is None:
        raise SettingsError("neuralforecast is not installed", "`make bench` installs it (the extra `bench`)")


def peer_prompt_tokens(model: Any, x: Tensor) -> float:
    """Mean length of the prompts that it makes for windows [M, T], padding left out."""
    counts: list[float] = []

    class Counting:
        """Its tokenizer, which notes how long each text was."""

        def __init__(self, own: Any) -> None:
            self.own = own

        def __call__(self, texts: Any, **given: Any) -> Any:
            found = self.own(texts, **given)
            counts.append(float(found["attention_mask"].float().sum(dim=1).mean()))
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.own, name)

    own = model.llm_tokenizer
    model.llm_tokenizer = Counting(own)
    try:
        PeerTrainer.infer(model, x, torch.get_num_threads())
    finally:
        model.llm_tokenizer = own
    return sum(counts) / len(counts)


class PeerTrainer:
    """Training steps of the peer: forward, backward, Adam on the squared error."""

    def __init__(self, model: Any, x: Tensor, y: Tensor, count: int) -> None:
        self.model, self.x, self.y, self.count = model.train(), x, y, count
        self.optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def __call__(self) -> float:
        with threads(self.count):
            self.model.train()
            self.optimizer.zero_grad()
            ahead = self.model({"insample_y": self.x.unsqueeze(-1)}).squeeze(-1)
            loss = (ahead - self.y).square().mean()
            loss.backward()
            self.optimizer.step()
        return float(loss)

    @staticmethod
    def infer(model: Any, x: Tensor, count: int) -> Tensor:
        """[M, H] in eval mode without gradients."""
        with threads(count), torch.inference_mode():
            model.eval()
            ahead: Tensor = model({"insample_y": x.unsqueeze(-1)}).squeeze(-1)
            return ahead
