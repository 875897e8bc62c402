"""An adaptive token budget: which patches a language model reads, and how long it remembers the prompt (B1, B2).

Not a reproduction of a published method: the two ideas (series tokens compressed by their spectrum, prompt tokens that
fall with depth) are arXiv 2606.13624's, whose formulas are not public; what follows is a design of its own.

1. *Evidence.* Each patch is described by its spectrum, whitened: a frequency that the whole window is full of counts
   little, a rare one much. Where the spectrum of a window changes over time, a local one (Haar wavelets, whitened by
   their own neighbourhood) takes its place.
2. *Choice.* The last patch is kept first, then always the one farthest from all that are kept (Gonzalez, "Clustering to
   minimize the maximum intercluster distance", Theor. Comput. Sci. 38, 1985): its distance is the evidence that no
   other token has. Every other patch belongs to the nearest kept one, which it repeats.
3. *Merge.* A group is read as one token, the mean of its patches, at the place of the kept one. It is attended to as
   often as it has patches (Bolya et al., "Token Merging", ICLR 2023).
4. *Back.* The head gets for each patch its group's hidden state, and what a small network makes of the patch's
   difference from its group; nothing where there is none, so that with all patches kept the model is `base` itself.
5. *Prompt.* The first layers see all of it. Then the facts about the window fall away, which would have to be computed
   for each window and layer; then description and task, which are constants, by their influence.

Letters: M series, L patches, K kept ones.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.settings import BudgetSettings, Size
from wavecore.model.spectrum import spectra


def schedules(layers: int) -> tuple[tuple[int, int], ...]:
    """All pairs of facts and depth that a language model of so many layers can have, rising."""
    return tuple((facts, depth) for facts in range(1, layers + 1) for depth in range(facts, layers + 1))


class Groups(NamedTuple):
    """Which patches stay, and what stands for the others.

    Attributes:
        kept: [M, K] int64, places of the kept patches, rising.
        owner: [M, L] int64 in 0 … K-1, the kept patch that each patch belongs to.
        order: [M, K] int64, in which turn each was kept: 0 is the last patch of the window.
        evidence: [M, K], distance from all that were kept before; infinite for the first.
        away: [M, L], distance of each patch from the kept one that it belongs to.
        members: [M, K] float32, how many patches each kept one stands for, itself included.
    """

    kept: Tensor
    owner: Tensor
    order: Tensor
    evidence: Tensor
    away: Tensor
    members: Tensor

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
    # Distances of every patch to the kept ones.
    to_kept = distance.flip(1, 2).gather(2, places[:, None, :].expand(-1, total, -1))
    return grouped(places, order, evidence.gather(1, order), to_kept)


def grouped(places: Tensor, order: Tensor, evidence: Tensor, to_kept: Tensor) -> Groups:
    """Give every token to the nearest kept one; of equally near ones to the later.

    Args:
        places, order, evidence: [M, K], see Groups.
        to_kept: [M, L, K], distance of every token from the kept ones.
    """
    (series, count), device = places.shape, places.device
    near = to_kept.flip(-1).argmin(dim=-1)
    owner = count - 1 - near
    # A kept patch is its own, though another may be at distance 0 too.
    owner.scatter_(1, places, torch.arange(count, device=device).expand(series, -1))
    members = torch.zeros((series, count), device=device)
    members.scatter_add_(1, owner, torch.ones_like(owner, dtype=members.dtype))
    away = to_kept.gather(2, owner[..., None])[..., 0]
    return Groups(places, owner, order, evidence, away, members)


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


def joined(embedded: Tensor, groups: Groups, reduce: Literal["merge", "drop"]) -> Reduced:
    """Tokens [M, L, d] as their groups: each the mean of its members, or its kept one alone."""
    width = embedded.shape[-1]
    if reduce == "drop":
        fewer = embedded.gather(1, groups.kept[..., None].expand(-1, -1, width))
    else:
        # Summed in float32: bf16 cannot even count far.
        exact = embedded.float()
        into = groups.owner[..., None].expand(-1, -1, width)
        total = exact.new_zeros((len(exact), groups.kept.shape[1], width)).scatter_add(1, into, exact)
        fewer = (total / groups.members[..., None]).to(embedded.dtype)
    mine = fewer.gather(1, groups.owner[..., None].expand(-1, -1, width))
    return Reduced(fewer, groups, embedded - mine)


def spread(hidden: Tensor, groups: Groups) -> Tensor:
    """What each group has, [M, K, f], for each of its members, [M, L, f]."""
    return hidden.gather(1, groups.owner[..., None].expand(-1, -1, hidden.shape[-1]))


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
        return joined(embedded, groups, self.settings.reduce)

    def restore(self, hidden: Tensor, reduced: Reduced) -> Tensor:
        """Hidden states [M, K, features] → [M, L, features], one for each patch."""
        if reduced.groups is None or reduced.apart is None:
            return hidden
        found = spread(hidden, reduced.groups)
        if self.back is None:
            return found
        group = spread(reduced.embedded, reduced.groups)
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

    def size(self, fixed: int) -> Size:
        """What was chosen, where the first `fixed` prompt tokens are description and task."""
        facts, rest = self.told[:, fixed:].all(dim=1), self.told[:, :fixed].all(dim=1)
        return Size(int(self.tokens), int((facts & rest).sum()), int(rest.sum()))

    def drawn(self) -> Size:
        """What one training step uses. Where it reads less than all, description and task are seen in all layers in
        half of the steps, else up to a layer that is drawn too."""
        layers = len(self.told)
        if float(torch.rand(())) < self.settings.full:
            return Size(self.patches, layers, layers)
        tokens = self.sizes[int(torch.randint(len(self.sizes) - 1, ()))]
        if not self.settings.prompt:
            return Size(tokens, layers, layers)
        facts = 1 + int(torch.randint(layers, ()))
        whole = bool(torch.randint(2, ()))
        return Size(tokens, facts, layers if whole else facts + int(torch.randint(layers - facts + 1, ())))


def falling(influence: Tensor, fixed: int, facts: int, depth: int) -> Tensor:
    """Which prompt tokens each layer sees.

    All of them in the first `facts` layers; description and task up to layer `depth`; deeper layers see a quarter of
    these, a sixteenth, …: those of the most influence, and never one that the layer before did not see.

    Args:
        influence: [layers, P], of each prompt token in each layer.
        fixed: how many of the P are description and task; they come first.
        facts, depth: see Size; 1 ≤ facts ≤ depth.

    Returns:
        [layers, P] bool.

    Raises:
        ValueError: the facts are seen in no layer, or deeper than description and task.
    """
    if not 1 <= facts <= depth:
        raise ValueError(f"facts in {facts} layers, description and task in {depth}: need 1 ≤ facts ≤ depth")
    layers = len(influence)
    seen = torch.ones(influence.shape, dtype=torch.bool)
    candidates = torch.arange(influence.shape[1]) < fixed
    seen[facts:] = candidates
    for layer in range(depth, layers):
        count = fixed // 4 ** (layer - depth + 1)
        score = influence[layer].masked_fill(~candidates, -torch.inf)
        candidates = torch.zeros_like(candidates)
        candidates[score.argsort(descending=True, stable=True)[:count]] = True
        seen[layer] = candidates
    return seen
