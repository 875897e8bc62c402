"""How the project draws: colours, type, layout, and a finished picture as PNG or as SVG for a page.

Okabe and Ito's colours, which the colour-blind tell apart; no box around a chart, a light grid where values are read
off. An SVG keeps its text as text and takes its colours from the page (CSS variables), so that the same picture serves
light and dark. Equal input gives equal bytes.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2328", "#656d76", "#d8dee4"
# Bottom rung first; a ladder longer than the list starts again at blue.
STAGE_COLOURS = (
    *("#80868d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a51a3", "#8c5a2b"),
    *("#c1121f", "#3d5a80", "#7a9e1f", "#e58fb8", "#5f0f40", "#20a8a0", "#8d8df0", "#444b54", "#00441b", "#a8a000"),
    *("#ff7f6b", "#b4b9bf"),
)
SPLIT_COLOURS = {"train": None, "select": "#56b4e9", "decide": "#0072b2", "test": "#e69f00"}
# From the slow bands to the fast ones, dark to light in grey print too (after the cividis map).
BAND_COLOURS = ("#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffe945")
CSS_NAMES = {
    INK: "ink", MUTED: "muted", GRID: "grid",
    **{colour: f"c{i}" for i, colour in enumerate(STAGE_COLOURS)},
    **{colour: f"b{i}" for i, colour in enumerate(BAND_COLOURS)},
}  # fmt: skip
POINTS = 600  # a longer line is drawn as its envelope: the smallest and largest value of each bin
PNG_LIMIT = 60_000


@dataclass(frozen=True)
class Drawing:
    """A finished picture."""

    figure: Figure

    def png(self, dpi: int = 110) -> bytes:
        """PNG with at most 64 colours: enough for lines on white, a third of the bytes."""
        from PIL import Image

        raw = io.BytesIO()
        with style():
            self.figure.savefig(raw, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
        image = Image.open(raw).convert("RGB").quantize(64, dither=Image.Dither.NONE)
        out = io.BytesIO()
        image.save(out, format="png", optimize=True)
        return out.getvalue()

    def svg(self, salt: str) -> str:
        """One `<svg>` element for a page. `salt` must differ between the pictures of a page: ids are made from it."""
        out = io.StringIO()
        with style(**{"svg.hashsalt": salt}):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _inline(out.getvalue())

    def markdown(self, alt: str, limit: int = PNG_LIMIT) -> str:
        """A Markdown image below `limit` bytes, for metadata in the UI; a larger picture is drawn coarser."""
        for dpi in (110, 90, 72, 56, 40, 28):
            data = self.png(dpi)
            if len(data) <= limit:
                break
        return as_markdown(data, alt)


def as_markdown(png: bytes, alt: str) -> str:
    """`![alt](data:…)`: a picture that needs no file."""
    safe = re.sub(r"[\[\]()\n\\<>]", " ", alt)
    return f"![{safe}](data:image/png;base64,{base64.b64encode(png).decode()})"


@contextmanager
def style(**more: Any) -> Iterator[None]:
    """matplotlib's settings for all pictures, while in it."""
    import matplotlib as mpl

    settings = {
        "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5,
        "axes.titlelocation": "left", "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
        "text.color": INK, "axes.labelcolor": MUTED, "axes.titlecolor": INK, "xtick.color": MUTED,
        "ytick.color": MUTED, "axes.edgecolor": GRID, "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "xtick.major.size": 0,
        "ytick.major.size": 0, "legend.frameon": False, "lines.solid_joinstyle": "round", "svg.fonttype": "none",
        "path.simplify": True, "path.simplify_threshold": 0.5, "axes.unicode_minus": True,
        "axes.formatter.useoffset": False, "figure.constrained_layout.use": True,
    }  # fmt: skip
    with mpl.rc_context(settings | more):  # type: ignore[arg-type]
        yield


def panels(rows: int, columns: int, width: float, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    """A figure (inches) and its axes, row by row. Not from pyplot: no window system, no global list of figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(axes.ravel())


def finished(figure: Figure) -> Drawing:
    """Solve the layout once and hold it: solved anew at each rendering it would drift by fractions of a point."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Drawing(figure)


def line(axis: Axes, x: np.ndarray, y: np.ndarray, **how: Any) -> None:
    """A line, or beyond POINTS its envelope, so that no peak is lost and the picture stays small."""
    if len(y) <= POINTS:
        axis.plot(x, y, **how)
        return
    edges = np.linspace(0, len(y), POINTS // 2 + 1).astype(int)
    low = np.full(len(edges) - 1, np.nan)
    high = low.copy()
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        part = y[a:b][np.isfinite(y[a:b])]
        if part.size:
            low[i], high[i] = part.min(), part.max()
    axis.fill_between(x[edges[:-1]], low, high, **how)


def legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """The legend of `axis`, above all panels, where it covers no data."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=min(columns, len(labels)), handlelength=1.4, columnspacing=1.2
    )


def date_axis(axis: Axes) -> None:
    """Few, short dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def ticks(count: int) -> Any:
    """About `count` round ticks."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count)


def shades(count: int) -> list[str]:
    """`count` colours from dark to light."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [to_hex(mpl.colormaps["cividis"](i / max(1, count - 1))) for i in range(count)]


def drawable(text: str) -> str:
    """`text` with what the pictures' font may lack (a token can be of any script) written as U+82B1."""
    return "".join(c if c.isprintable() and ord(c) < 0x250 else f"U+{ord(c):04X}" for c in text)


def shortened(name: str, limit: int = 18) -> str:
    """At most `limit` characters."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def literal(text: str) -> str:
    """The text as it is: matplotlib would read $…$ as a formula."""
    return text.replace("$", r"\$")


def _inline(svg: str) -> str:
    """Only the `<svg>` element, without metadata, namespaces of other languages and ids that nothing refers to."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)}

    def tidy(match: re.Match[str]) -> str:
        tag = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", match[0]).replace("xlink:href", "href")
        tag = re.sub(r'\sid="([^"]+)"', lambda m: m[0] if m[1] in used else "", tag)
        # A twentieth of a point is finer than any screen shows.
        tag = re.sub(r"-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), tag)
        if tag.startswith("<svg"):
            tag = re.sub(r'\sheight="[^"]*"', "", tag.replace('pt"', '"'))
        for colour, name in CSS_NAMES.items():
            tag = tag.replace(colour, f"var(--{name}, {colour})")
        return " ".join(tag.split())

    # Tags alone: what stands between them are labels, which may look like anything.
    return re.sub(r"<[^>]*>", tidy, svg)
