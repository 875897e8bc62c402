"""What Titan-Stream can read in place of raw values: the states of a frozen language model for patches that were
re-expressed through its own words, as in the Time-LLM model. Patch embedding, prototypes and reprogramming learn with
the rest; the language model does not.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavecore.model.time_llm import TimeLLM


class LanguageStates(nn.Module):
    """The Time-LLM side, up to the states from which it would forecast.

    Args:
        model: all but its head, which is taken off: nothing would train it.

    Attributes:
        count: L, tokens of a window.
        stride: rows from one token to the next.
        width: features of a state.
        identity: hash of the language model's config and tokenizer, where it comes from a folder.
    """

    def __init__(self, model: TimeLLM) -> None:
        super().__init__()
        del model.head
        self.model = model
        self.count = model.patches
        self.stride = model.patch[1]
        self.width = model.settings.d_ff
        self.identity = model.identity

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N] → [B·N, L, d_ff], window first, then channel."""
        return self.model.states(x)
