"""The wavelet transform of `transform`, as operators that gradients flow through, on any device.

One level is a convolution with PyWavelets' own filters, two steps at a time, over a window that is continued at its
ends as PyWavelets continues it. Each continuation, whatever the border mode, is a linear function of the window; its
matrix is read off by having PyWavelets continue unit impulses, so no rule is written here a second time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pywt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavecore.config import FeatureSettings
from wavecore.wavelet.transform import bands, check, filters


class Level(nn.Module):
    """One level of a decomposition: a row of n steps becomes its slow and its fast half.

    Args:
        wavelet, mode: of PyWavelets, known to be good.
        length: n.

    Attributes:
        halves: steps of either half.
    """

    taps: Tensor
    before: Tensor
    after: Tensor

    def __init__(self, wavelet: str, mode: str, length: int) -> None:
        super().__init__()
        bank = filters(wavelet)
        size = bank.dec_len
        self.halves = pywt.dwt_coeff_len(length, size, mode)
        # Output k is the sum of tap j times step 2k + shift - j, as pywt counts.
        left, right = (size // 2 - 1, size // 2 - 1) if mode == "periodization" else (size - 2, size - 1)
        before, after = _continued(length, left, right, mode)
        # Turned round: step by step as they meet the window.
        taps = np.stack([bank.dec_lo[::-1], bank.dec_hi[::-1]], axis=1)
        for name, array in (("taps", taps), ("before", before), ("after", after)):
            # Constants: they follow the module to a device and are no part of what is saved.
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., n] → slow and fast half, [..., halves] each."""
        before, after, taps = (t.to(x.dtype) for t in (self.before, self.after, self.taps))
        longer = torch.cat([x @ before, x, x @ after], dim=-1)
        # A product and no convolution, which a GPU would round to ten bits (TF32).
        slow, fast = (longer.unfold(-1, len(taps), 2) @ taps)[..., : self.halves, :].unbind(dim=-1)
        return slow, fast


def _continued(length: int, left: int, right: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """What stands before and behind a row of n steps, as matrices [n, left] and [n, right] to multiply it by."""
    if mode == "periodization":
        # An odd row is made even by its last step, once more, and then goes round.
        extra = length % 2
        around = length + extra
        which = (np.arange(-left, 0) % around, np.arange(length, around + right) % around)
        before, after = (np.equal.outer(np.arange(length), np.minimum(steps, length - 1)) for steps in which)
        return before.astype(np.float64), after.astype(np.float64)
    before, after = np.zeros((length, left)), np.zeros((length, right))
    impulse = np.zeros(length)
    # One at a time: of all impulses at once the square of a long window would have to be held.
    for step in range(length):
        impulse[step] = 1.0
        longer = pywt.pad(impulse, (left, right), mode)
        before[step], after[step] = longer[:left], longer[left + length :]
        impulse[step] = 0.0
    return before, after


def _levels(settings: FeatureSettings, length: int) -> nn.ModuleList:
    """One level after another, each of the halves of the one before; checked first."""
    check(settings.wavelet, settings.mode, settings.levels, length)
    found = nn.ModuleList()
    for _ in range(settings.levels):
        level = Level(settings.wavelet, settings.mode, length)
        found.append(level)
        length = level.halves
    return found


class Analysis(nn.Module):
    """The bands of a window, as `wavecore.wavelet.transform.decompose` gives them.

    Args:
        settings: wavelet, mode, levels.
        length: T.

    Raises:
        SettingsError: see `wavecore.wavelet.transform.check`.
    """

    def __init__(self, settings: FeatureSettings, length: int) -> None:
        super().__init__()
        self.levels = _levels(settings, length)
        self.bands = bands(settings.levels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[..., T] → {band: [..., n_band]}, slow to fast."""
        found = []
        for level in self.levels:
            x, fast = level(x)
            found.append(fast)
        return dict(zip(self.bands, (x, *reversed(found)), strict=True))


class Packets(nn.Module):
    """The wavelet packets of a window: both halves of every level are split again, into 2^J bands of equal width
    (Coifman and Wickerhauser, IEEE Trans. Inf. Theory 38(2), 1992).

    Args:
        settings: wavelet, mode, levels.
        length: T.

    Raises:
        SettingsError: see `wavecore.wavelet.transform.check`.
    """

    def __init__(self, settings: FeatureSettings, length: int) -> None:
        super().__init__()
        self.levels = _levels(settings, length)

    def forward(self, x: Tensor) -> Tensor:
        """[..., T] → [..., 2^J, n], from slow to fast."""
        nodes = x.unsqueeze(-2)
        for level in self.levels:
            halves = torch.stack(level(nodes), dim=-2)
            # Halving turns the order of what was the upper half of a band round: there the fast half is the slower.
            odd = torch.arange(halves.shape[-3], device=x.device) % 2 == 1
            halves = torch.where(odd[:, None, None], halves.flip(-2), halves)
            nodes = halves.flatten(-3, -2)
        return nodes


class Components(nn.Module):
    """Each band of a window as a series of its own, at the place where it happens; together they are the window.

    The window is continued symmetrically at its ends, whatever the border mode of `settings`: one that goes round would
    put the window's beginning into its end, where a forecast begins.

    Args:
        settings: wavelet and levels.
        length: T.

    Raises:
        SettingsError: see `wavecore.wavelet.transform.check`.
    """

    taps: Tensor

    def __init__(self, settings: FeatureSettings, length: int) -> None:
        super().__init__()
        self.levels = _levels(replace(settings, mode="symmetric"), length)
        # Steps of the row that each level splits.
        self.lengths = [length]
        for _ in range(settings.levels - 1):
            self.lengths.append(pywt.dwt_coeff_len(self.lengths[-1], filters(settings.wavelet).dec_len, "symmetric"))
        bank = filters(settings.wavelet)
        # [slow or fast, taps / 2, even or odd step], turned round as they meet the coefficients.
        taps = np.stack([np.reshape(rec, (-1, 2))[::-1] for rec in (bank.rec_lo, bank.rec_hi)])
        self.register_buffer("taps", torch.from_numpy(taps.copy()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., T] → [..., J+1, T], slow to fast."""
        halves = []
        for level in self.levels:
            x, fast = level(x)
            halves.append(fast)
        # From the slowest level up: what is there already is all slow there, and one fast band joins it.
        found = x.unsqueeze(-2)
        for length, fast in zip(reversed(self.lengths), reversed(halves), strict=True):
            found = torch.cat([self._up(found, 0, length), self._up(fast.unsqueeze(-2), 1, length)], dim=-2)
        return found

    def _up(self, half: Tensor, which: int, length: int) -> Tensor:
        """Coefficients [..., n] of the slow (0) or the fast half (1), back as a row of `length` steps."""
        taps = self.taps[which].to(half.dtype)
        reach = len(taps) - 1
        # An even and an odd step for each place, in turn; the first ones only reach into what stood before the window.
        whole = (F.pad(half, (reach, reach)).unfold(-1, len(taps), 1) @ taps).flatten(start_dim=-2)
        return whole[..., 2 * reach :][..., :length]
