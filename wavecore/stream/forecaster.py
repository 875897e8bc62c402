"""Titan-Stream: a window's tokens, what a memory knows of their like, attention, pooling, forecast.

    x [S, T, C] → tokens h [S, L, D] → q, k, v
    chunk by chunk: what the memory gives for q, then the chunk's k and v are written
    h + that → core attention, with learned (persistent) pairs of key and value beside → pooling → head [S, H, C]

A token begins as raw values, p rows side by side, or (`input: language`) as what a frozen language model makes of a
patch that was re-expressed through its own words.

S series: with `channels: independent` every channel of every window (C = 1), with `joint` every window (C = N). Each
window is brought to mean 0 and deviation 1 and back, as in the Time-LLM model. A memory belongs to one series and goes
in and out as state, so a forecast depends neither on the batch nor on its order.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wavecore.errors import SettingsError
from wavecore.model.dlinear import TimeMap
from wavecore.model.groups import ParameterGroup
from wavecore.series.normalize import instance_denormalize, instance_normalize, instance_statistics
from wavecore.series.windows import Batch
from wavecore.stream.language import LanguageStates
from wavecore.stream.memory import MemoryState, read, started, update
from wavecore.stream.objective import losses_of
from wavecore.stream.pooling import AttentionPooling, Head
from wavecore.stream.reading import Reading, Written
from wavecore.stream.settings import MemorySettings, OnlineSettings, StreamSettings

START_STD = 0.02


class Core(nn.Module):
    """Attention of the tokens to themselves and to learned pairs of key and value, and a feed-forward layer.

    Args:
        d_model, heads: D and the number of heads.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between, self.after = (nn.LayerNorm(d_model) for _ in range(3))
        self.queries, self.keys, self.values, self.out = (nn.Linear(d_model, d_model) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model))

    def forward(self, h: Tensor, persistent: Tensor | None) -> Tensor:
        """h [S, L, D], persistent keys and values [2, P, D] → [S, L, D]."""
        z = self.before(h)
        k, v = self.keys(z), self.values(z)
        if persistent is not None:
            more = persistent[:, None].expand(-1, len(h), -1, -1)
            k, v = torch.cat([more[0], k], dim=1), torch.cat([more[1], v], dim=1)
        heads = [x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (self.queries(z), k, v)]
        seen = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        h = h + self.out(seen)
        return cast(Tensor, self.after(h + self.feed(self.between(h))))


class TitanStream(nn.Module):
    """The online forecaster.

    Args:
        window, horizon: T and H.
        channels: N.
        settings: see StreamSettings.
        language: of `input: language`.

    Raises:
        SettingsError: a window shorter than one chunk, a head above its limit.
    """

    def __init__(
        self,
        window: int,
        horizon: int,
        channels: int,
        settings: StreamSettings,
        language: LanguageStates | None = None,
    ) -> None:
        super().__init__()
        assert (language is not None) == (settings.input == "language")
        self.window, self.horizon, self.channels = window, horizon, channels
        self.settings = settings
        chosen, width = settings.memory, settings.d_model
        together = channels if settings.channels == "joint" else 1
        if language is None:
            self.tokens, self.stride, read_width = window // settings.patch, settings.patch, settings.patch * together
        else:
            self.tokens, self.stride, read_width = language.count, language.stride, language.width
        if self.tokens < chosen.chunk:
            raise SettingsError(
                f"model.memory.chunk: {chosen.chunk} tokens, but a window of {window} rows has {self.tokens}, one in "
                f"{self.stride} rows",
                "choose a smaller chunk or patch",
            )
        self.language = language
        # Of the language model, as in TimeLLM; goes into the manifest.
        self.identity = None if language is None else language.identity
        self.input = nn.Linear(read_width, width)
        self.position = nn.Parameter(START_STD * torch.randn(self.tokens, width))
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.read_out = nn.Linear(width, width)
        self.core = Core(width, settings.heads)
        # Keys and values, [2, P, D].
        pairs = START_STD * torch.randn(2, settings.persistent, width)
        self.persistent = nn.Parameter(pairs) if settings.persistent else None
        self.memory_init = nn.Parameter(START_STD * torch.randn(width, width))
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, float(torch.logit(torch.tensor(chosen.gate_start))))
        self.head = Head(self.tokens, width, settings.heads, horizon * together, settings.head)
        self.skip = TimeMap(window, horizon, None, "mean") if settings.skip == "linear" else None

    def start(self, windows: int) -> MemoryState:
        """The memories of `windows` windows before anything was read."""
        return started(self.memory_init, windows * (1 if self.settings.channels == "joint" else self.channels))

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N], with memories that begin anew."""
        return self.read(batch.x, self.start(len(batch.x))).forecast

    def read(self, x: Tensor, state: MemoryState) -> Reading:
        """Forecast from windows and the memories they meet.

        Args:
            x: [B, T, N], train-standardized.
            state: of S series, from `start` or from the reading one chunk before.
        """
        windows, joint = len(x), self.settings.channels == "joint"
        series = x if joint else x.transpose(1, 2).flatten(end_dim=1)[:, :, None]
        mean, std = instance_statistics(series, axis=1)
        series = instance_normalize(series, mean, std, axis=1)
        h = self._embed(x, series)
        q, k, v = self._keys(h)
        found, state, written = self._remember(q, k, v, h, state)
        pooled, weights = self.head(self.core(h + self.read_out(found), self.persistent))
        y = pooled.unflatten(1, (self.horizon, -1))
        if self.skip is not None:
            y = y + self.skip(series.transpose(1, 2)).transpose(1, 2)
        y = instance_denormalize(y, mean, std, axis=1)
        forecast = y if joint else y[:, :, 0].unflatten(0, (windows, -1)).transpose(1, 2)
        return Reading(forecast, state, written, weights)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted sum of the three losses, `loss`, and each of them, for windows whose memories begin anew."""
        found = losses_of(self.read(batch.x, self.start(len(batch.x))), batch.y, batch.mask, self.settings.loss)
        return {"loss": found.total, **{name: part for name, part in found._asdict().items() if name != "total"}}

    def chunk_rows(self) -> int:
        """Rows of a chunk: how far apart two windows lie of which the second goes on with the memory of the first."""
        return self.settings.memory.chunk * self.stride

    def _embed(self, x: Tensor, series: Tensor) -> Tensor:
        """Windows [B, T, N], and the same as normalized series [S, T, C] → [S, L, D]; the oldest rows that fill no
        patch are left out."""
        if self.language is not None:
            read = self.language(x)
        else:
            used = series[:, self.window - self.tokens * self.stride :]
            read = used.unflatten(1, (self.tokens, self.stride)).flatten(2)
        return cast(Tensor, self.input(read) + self.position)

    def _keys(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k of length one, and v: [S, L, D] each."""
        z = self.norm(h)
        return F.normalize(self.q(z), dim=2), F.normalize(self.k(z), dim=2), self.v(z)

    def _remember(
        self, q: Tensor, k: Tensor, v: Tensor, h: Tensor, state: MemoryState
    ) -> tuple[Tensor, MemoryState, Written]:
        """Read and write chunk by chunk: what was read [S, L, D], the state after the first chunk, and how the
        writing went. The last chunk is smaller where tokens do not make up whole ones."""
        chosen = self.settings.memory
        edges = [*range(0, self.tokens, chosen.chunk), self.tokens]
        found, losses, keys, gates = [], [], [], []
        after: MemoryState | None = None
        for number, (start, stop) in enumerate(pairwise(edges)):
            part = slice(start, stop)
            found.append(read(state, q[:, part], chosen))
            gate = torch.sigmoid(self.gate(h[:, part].mean(dim=1)))[:, 0]
            state, loss = self._write(state, k[:, part], v[:, part], gate, number)
            after = after or state
            losses.append(loss)
            keys.append(_alike(k[:, part]))
            gates.append(gate)
        assert after is not None
        associative, alike, gate = (torch.stack(each).mean(dim=0) for each in (losses, keys, gates))
        return torch.cat(found, dim=1), after, Written(associative, alike, gate, losses[-1], state.norms())

    def _write(self, state: MemoryState, k: Tensor, v: Tensor, gate: Tensor, number: int) -> tuple[MemoryState, Tensor]:
        chosen = self.settings.memory
        if not chosen.high_order:
            # The state is a constant to what reads it; the loss still moves keys and values.
            _, loss = update(state.detach(), k, v, gate, chosen)
            with torch.no_grad():
                state, _ = update(state, k, v, gate, chosen)
            return state, loss
        if number and number % chosen.chunks == 0:
            state = state.detach()
        if chosen.checkpointing and torch.is_grad_enabled():
            return cast("tuple[MemoryState, Tensor]", _recomputed(state, k, v, gate, chosen))
        return update(state, k, v, gate, chosen)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """What learns together; offline all at one speed, online as `online_groups` says."""
        backbone = (self.input, self.norm, self.q, self.k, self.v, self.read_out, self.core)
        told = () if self.language is None else tuple(p for p in self.language.parameters() if p.requires_grad)
        slow = (self.position, *told, *(p for module in backbone for p in module.parameters()))
        pooling = tuple(self.head.pooling.parameters())
        head = (*self.head.out.parameters(), *(self.skip.parameters() if self.skip is not None else ()))
        groups = [ParameterGroup("backbone", slow), ParameterGroup("head", head)]
        if isinstance(self.head.pooling, AttentionPooling):
            groups.append(ParameterGroup("pooling", pooling))
        groups.append(ParameterGroup("gate", tuple(self.gate.parameters())))
        groups.append(ParameterGroup("memory", (self.memory_init,)))
        if self.persistent is not None:
            groups.append(ParameterGroup("persistent", (self.persistent,)))
        return tuple(groups)

    def online_groups(self, online: OnlineSettings) -> tuple[ParameterGroup, ...]:
        """The same groups at the speeds of a session: backbone and persistent tokens slower."""
        speed = {"backbone": online.backbone_scale, "persistent": online.persistent_lr_scale}
        return tuple(ParameterGroup(g.name, g.parameters, speed.get(g.name, 1.0)) for g in self.parameter_groups())


def _alike(k: Tensor) -> Tensor:
    """Mean square of the products of different keys of a chunk [S, C, D], of length one: [S]; 0 of a single key."""
    count = k.shape[1]
    products = k @ k.transpose(1, 2)
    others = products.square().sum(dim=(1, 2)) - products.diagonal(dim1=1, dim2=2).square().sum(dim=1)
    return others / max(1, count * (count - 1))


def _recomputed(state: MemoryState, k: Tensor, v: Tensor, gate: Tensor, chosen: MemorySettings) -> object:
    """`update`, computed anew in the backward pass."""
    return checkpoint(update, state, k, v, gate, chosen, use_reentrant=False)
