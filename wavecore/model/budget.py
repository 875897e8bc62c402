"""An adaptive token budget: which patches a language model reads, and how long it remembers the prompt (B1, B2).

Not a reproduction of a published method: the two ideas (series tokens compressed by their spectrum, prompt tokens that
fall with depth) are arXiv 2606.13624's, whose formulas are not public; what follows is a design of its own.

1. *Evidence.* Each patch is described by its spectrum, whitened: a frequency that the whole window is full of counts
   little, a rare one much. Where the spectrum of a window changes over time, a local one (Haar wavelets, whitened by
   their own neighbourhood) takes its place.
2. *Choice.* The last patch is kept first, then always the one farthest from all that are kept (Gonzalez, "Clustering to
   minimize the maximum intercluster distance", Theor. Comput. Sci. 38, 1985): its distance is the evidence that no
   other token has. Every other patch belongs to the nearest kept one, which it repeats.
3. *Merge.* A group is read as one token, the mean of its patches, at the place of the kept one.
4. *Back.* The head gets for each patch its group's hidden state, and what a small network makes of the patch's
   difference from its group; nothing where there is none, so that with all patches kept the model is `base` itself.

Letters: M series, L patches, K kept ones, F features of a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError

# A frequency's weight is bounded as if each held at least this share of a window's mean power: noise is no evidence.
FLOOR = 0.25
# Patches on either side that make up the neighbourhood of a local spectrum.
NEIGHBOURS = 4


@dataclass(frozen=True)
class BudgetSettings:
    """The token budget.

    Attributes:
        enabled: whether there is one.
        tolerance: how much more error on `decide` a smaller budget may cost, as a share: 0.01 is one percent.
        shares: of the patches that are tried, beside all of them.
        reduce: `merge`: a group is the mean of its patches; `drop`: the kept patch alone.
        spectrum: `fourier`; `wavelet`: local; `auto`: local in windows whose spectrum changes.
        change: where `auto` begins to speak of change: distance of the spectra of a window's halves, 0 to 1.
        counted: a token is attended to as often as it has patches, so that fewer tokens divide attention between
            prompt and patches as all of them would.
        give_back: what sets a patch apart from its group goes to the head.
        per_window: as many tokens as a window needs, not one number for all.
        prompt: let prompt tokens fall with depth.
        shared: patches and prompt tokens share one total, instead of first one and then the other: of all pairs within
            the tolerance the one that reads the fewest tokens.
        full: share of training steps with all tokens.
        windows: of `decide`, on which each choice is scored; 0: all.
    """

    enabled: bool = False
    tolerance: float = 0.01
    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    reduce: Literal["merge", "drop"] = "merge"
    spectrum: Literal["fourier", "wavelet", "auto"] = "auto"
    change: float = 0.3
    counted: bool = True
    give_back: bool = True
    per_window: bool = False
    prompt: bool = True
    shared: bool = False
    full: float = 0.2
    windows: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError("tolerance: must be above 0 and below 1; 0.01 allows one percent more error")
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ValueError("shares: each must be above 0 and below 1 (all tokens are always tried)")
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares: must rise")
        if self.shared and self.per_window:
            raise ValueError("shared: not together with per_window")
        if not 0 <= self.change <= 1:
            raise ValueError("change: must lie between 0 and 1")
        if self.windows < 0:
            raise ValueError("windows: must be 0 or more")
        if not 0 < self.full <= 1:
            raise ValueError("full: must be above 0 and at most 1; the budget is held against all tokens")


class Groups(NamedTuple):
    """Which patches stay, and what stands for the others.

    Attributes:
        kept: [M, K] int64, places of the kept patches, rising.
        owner: [M, L] int64 in 0 … K-1, the kept patch that each patch belongs to.
        order: [M, K] int64, in which turn each was kept: 0 is the last patch of the window.
        evidence: [M, K], distance from all that were kept before; infinite for the first.
        away: [M, L], distance of each patch from the kept one that it belongs to.
    """

    kept: Tensor
    owner: Tensor
    order: Tensor
    evidence: Tensor
    away: Tensor

    def members(self) -> Tensor:
        """How many patches each kept one stands for, itself included: [M, K] float32."""
        found = torch.zeros(self.kept.shape, device=self.owner.device)
        return found.scatter_add(1, self.owner, torch.ones_like(self.owner, dtype=found.dtype))

    def in_turn(self) -> Tensor:
        """The evidence in the order of choice, falling: [M, K]."""
        return self.evidence.gather(1, self.order.argsort(dim=-1))


def sizes(settings: BudgetSettings, patches: int) -> tuple[int, ...]:
    """The numbers of tokens that are tried, rising, L at the end.

    Raises:
        SettingsError: a share is less than one token.
    """
    least = settings.shares[0] * patches
    if least < 1:
        raise SettingsError(
            f"budget.shares: {settings.shares[0]:g} of {patches} patches is less than one token",
            f"leave out shares below {1 / patches:.4f}",
        )
    return (*dict.fromkeys(math.floor(share * patches) for share in settings.shares), patches)


def spectra(cut: Tensor, settings: BudgetSettings) -> Tensor:
    """Whitened spectra of normalized patches: [M, L, P] → [M, L, F]; Euclidean distances between them are evidence.

    A patch has a mean power of 1 in every window and either description, so that evidence can be compared.
    """
    cut = cut.float()
    if settings.spectrum == "fourier":
        return _of_power_one(_fourier(cut))
    if settings.spectrum == "wavelet":
        return _of_power_one(_wavelet(cut))
    local = changing(cut) > settings.change
    fourier, wavelet = _of_power_one(_fourier(cut)), _of_power_one(_wavelet(cut))
    width = max(fourier.shape[-1], wavelet.shape[-1])
    fourier, wavelet = (nn.functional.pad(t, (0, width - t.shape[-1])) for t in (fourier, wavelet))
    return torch.where(local[:, None, None], wavelet, fourier)


def _of_power_one(features: Tensor) -> Tensor:
    power = features.square().sum(dim=-1).mean(dim=-1)
    return features / power.clamp_min(1e-12).sqrt()[:, None, None]


def changing(cut: Tensor) -> Tensor:
    """How much a window's spectrum changes, [M, L, P] → [M]: half the summed difference between the power shares of its
    two halves, 0 (the same) to 1 (no frequency in common)."""
    power = torch.fft.rfft(cut.float(), norm="ortho").abs().square()
    half = cut.shape[1] // 2
    shares = []
    for part in (power[:, :half], power[:, half:]):
        total = part.mean(dim=1)
        shares.append(total / total.sum(dim=-1, keepdim=True).clamp_min(1e-12))
    return (shares[0] - shares[1]).abs().sum(dim=-1) / 2


def contribution(cut: Tensor, settings: BudgetSettings) -> Tensor:
    """Each patch's share of its window's whitened spectral power, [M, L, P] → [M, L], summing to 1 (B6)."""
    power = spectra(cut, settings).square().sum(dim=-1)
    total = power.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, power / total.clamp_min(1e-12), torch.full_like(power, 1 / power.shape[-1]))


def _fourier(cut: Tensor) -> Tensor:
    """Real and imaginary part of each frequency, divided by the root of its mean power over the window."""
    length = cut.shape[-1]
    found = torch.fft.rfft(cut, norm="ortho")
    # Frequencies between the first and the last stand for two.
    twice = torch.full((found.shape[-1],), 2.0, device=cut.device)
    twice[0] = 1.0
    if length % 2 == 0:
        twice[-1] = 1.0
    parts = torch.view_as_real(found) * twice.sqrt()[:, None]
    power = parts.square().sum(dim=-1)
    weight = _whitening(power.mean(dim=1, keepdim=True))
    return (parts * weight.unsqueeze(-1)).flatten(start_dim=2)


def _wavelet(cut: Tensor) -> Tensor:
    """Haar coefficients of each patch, divided band by band by the root of their mean power nearby."""
    bands = _haar(cut)
    power = torch.stack([band.square().sum(dim=-1) for band in bands], dim=-1)
    near = nn.functional.avg_pool1d(
        power.transpose(1, 2), 2 * NEIGHBOURS + 1, stride=1, padding=NEIGHBOURS, count_include_pad=False
    ).transpose(1, 2)
    weight = _whitening(near)
    return torch.cat([band * weight[..., i : i + 1] for i, band in enumerate(bands)], dim=-1)


def _haar(cut: Tensor) -> list[Tensor]:
    """Orthonormal Haar bands, fine to coarse; an odd rest of a level is passed on as it is."""
    bands, rest = [], cut
    while rest.shape[-1] > 1:
        even = rest.shape[-1] // 2 * 2
        left, right = rest[..., 0:even:2], rest[..., 1:even:2]
        bands.append((left - right) / math.sqrt(2))
        rest = torch.cat([(left + right) / math.sqrt(2), rest[..., even:]], dim=-1)
    return [*bands, rest]


def _whitening(power: Tensor) -> Tensor:
    floor = FLOOR * power.mean(dim=-1, keepdim=True)
    return (power + floor).clamp_min(1e-12).rsqrt()


def group(features: Tensor, count: int) -> Groups:
    """Keep `count` patches and give the others to them: [M, L, F] → Groups. Equal distances: the later patch."""
    series, total, _ = features.shape
    # Later patches come first, so that `argmax` and `argmin`, which take the first of equals, prefer them.
    turned = features.flip(1)
    distance = torch.cdist(turned, turned, compute_mode="donot_use_mm_for_euclid_dist")
    every = torch.arange(series, device=features.device)
    chosen = torch.zeros((series, count), dtype=torch.int64, device=features.device)
    evidence = torch.full((series, count), torch.inf, device=features.device)
    away = distance[:, 0]
    taken = torch.zeros((series, total), dtype=torch.bool, device=features.device)
    taken[:, 0] = True
    for k in range(1, count):
        # A patch that is kept stays at distance 0 and so behind every other, even where all are equal.
        best = away.masked_fill(taken, -1.0).argmax(dim=-1)
        chosen[:, k], evidence[:, k] = best, away[every, best]
        taken[every, best] = True
        away = torch.minimum(away, distance[every, best])
    places, order = (total - 1 - chosen).sort(dim=-1)
    # Distances of every patch to the kept ones; of equals the later one.
    to_kept = distance.flip(1, 2).gather(2, places[:, None, :].expand(-1, total, -1))
    near = to_kept.flip(-1).argmin(dim=-1)
    owner = count - 1 - near
    # A kept patch is its own, though another may be at distance 0 too.
    owner.scatter_(1, places, torch.arange(count, device=features.device).expand(series, -1))
    return Groups(places, owner, order, evidence.gather(1, order), to_kept.gather(2, owner[..., None])[..., 0])


class Reduced(NamedTuple):
    """Patches as fewer tokens.

    Attributes:
        embedded: [M, K, d_model].
        groups: see Groups; None where all are kept.
        apart: [M, L, d_model], each patch less its group; None where all are kept.
    """

    embedded: Tensor
    groups: Groups | None
    apart: Tensor | None


class GiveBack(nn.Module):
    """What a patch's difference from its group adds to the group's features; nothing where there is no difference.

    Args:
        width: d_model; features: of a hidden state that go to the head.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * width, 2 * features)
        self.outer = nn.Linear(2 * features, features, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, apart: Tensor, group: Tensor) -> Tensor:
        """Differences [M, L, d] from groups [M, L, d] → [M, L, features]: f(apart, group) - f(0, group)."""
        bare = torch.cat([torch.zeros_like(apart), group], dim=-1)
        whole = torch.cat([apart, group], dim=-1)
        found: Tensor = self.outer(nn.functional.gelu(self.inner(whole)) - nn.functional.gelu(self.inner(bare)))
        return found


class TokenBudget(nn.Module):
    """What is kept, and the state that `calibrate` fills in.

    Args:
        settings: see BudgetSettings.
        patches: L.
        width: d_model.
        features: how many features of a hidden state go to the head.
        layers: of the language model.
        prompt: the most tokens of a prompt.
    """

    tokens: Tensor
    told: Tensor
    threshold: Tensor

    def __init__(
        self, settings: BudgetSettings, patches: int, width: int, features: int, layers: int, prompt: int
    ) -> None:
        super().__init__()
        self.settings = settings
        self.patches = patches
        self.sizes = sizes(settings, patches)
        self.back = GiveBack(width, features) if settings.give_back else None
        # What was chosen on `decide`; all of both until then. They are saved with the weights.
        self.register_buffer("tokens", torch.tensor(patches))
        self.register_buffer("told", torch.ones((layers, max(prompt, 1)), dtype=torch.bool))
        # Per window: keep on while a patch has more evidence than this.
        self.register_buffer("threshold", torch.tensor(0.0))

    def reduce(self, cut: Tensor, embedded: Tensor, count: int) -> Reduced:
        """Patches [M, L, P] and their embeddings [M, L, d] → `count` tokens each."""
        if count >= embedded.shape[1]:
            return Reduced(embedded, None, None)
        with torch.no_grad(), torch.autocast(cut.device.type, enabled=False):
            groups = group(spectra(cut, self.settings), count)
        width = embedded.shape[-1]
        if self.settings.reduce == "drop":
            fewer = embedded.gather(1, groups.kept[..., None].expand(-1, -1, width))
        else:
            # Summed in float32: bf16 cannot even count far.
            exact = embedded.float()
            into = groups.owner[..., None].expand(-1, -1, width)
            total = exact.new_zeros((len(exact), count, width)).scatter_add(1, into, exact)
            fewer = (total / groups.members()[..., None]).to(embedded.dtype)
        mine = fewer.gather(1, groups.owner[..., None].expand(-1, -1, width))
        return Reduced(fewer, groups, embedded - mine)

    def restore(self, hidden: Tensor, reduced: Reduced) -> Tensor:
        """Hidden states [M, K, features] → [M, L, features], one for each patch."""
        if reduced.groups is None or reduced.apart is None:
            return hidden
        index = reduced.groups.owner[..., None]
        found = hidden.gather(1, index.expand(-1, -1, hidden.shape[-1]))
        if self.back is None:
            return found
        group = reduced.embedded.gather(1, index.expand(-1, -1, reduced.embedded.shape[-1]))
        return found + self.back(reduced.apart.to(found.dtype), group.to(found.dtype))

    def needed(self, cut: Tensor) -> Tensor:
        """How many tokens each window needs, [M, L, P] → [M] int64: the least size beyond which no patch has more
        evidence than the threshold."""
        most = int(self.tokens)
        tried = [size for size in self.sizes if size <= most]
        if len(tried) < 2:
            return torch.full((len(cut),), most, device=cut.device)
        with torch.no_grad(), torch.autocast(cut.device.type, enabled=False):
            evidence = group(spectra(cut, self.settings), tried[-1]).in_turn()
        wanted = (evidence > self.threshold).sum(dim=-1)
        steps = torch.tensor(tried, device=cut.device)
        return steps[torch.searchsorted(steps, wanted).clamp(max=len(tried) - 1)]

    def drawn(self) -> tuple[int, int]:
        """What one training step uses: a size, and the depth up to which the prompt is seen."""
        layers = len(self.told)
        if float(torch.rand(())) < self.settings.full:
            return self.patches, layers
        size = self.sizes[int(torch.randint(len(self.sizes) - 1, ()))]
        depth = 1 + int(torch.randint(layers, ())) if self.settings.prompt else layers
        return size, depth


def falling(influence: Tensor, depth: int, fixed: int) -> Tensor:
    """Which prompt tokens each layer sees.

    All of them in the first `depth` layers. Deeper ones see none of the facts about the window, which would have to be
    computed for each window and layer, and of description and task, which are constants, a quarter, a sixteenth, …:
    those of the most influence, and never one that the layer before did not see.

    Args:
        influence: [layers, P], of each prompt token in each layer.
        depth: layers that see all of them; 1 or more.
        fixed: how many of the P are description and task; they come first.

    Returns:
        [layers, P] bool.
    """
    layers = len(influence)
    seen = torch.ones(influence.shape, dtype=torch.bool)
    candidates = torch.arange(influence.shape[1]) < fixed
    for layer in range(depth, layers):
        count = fixed // 4 ** (layer - depth + 1)
        score = influence[layer].masked_fill(~candidates, -torch.inf)
        candidates = torch.zeros_like(candidates)
        candidates[score.argsort(descending=True, stable=True)[:count]] = True
        seen[layer] = candidates
    return seen
