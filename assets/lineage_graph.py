"""The asset graph as SVG: one box per asset with its DVC hashes, raw data on the left, the report on the right."""

from __future__ import annotations

from collections.abc import Sequence

from assets.report_data import Artifact
from assets.report_html import text

WIDTH, GAP, LINE, SPACE = 176, 34, 16, 22  # of a box, between layers, of a line of text, between boxes
SHOWN = 3  # artifacts named in a box; the table below the graph has them all


def layers(assets: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Assets by their longest distance from a source; inside a layer near the ones they come from.

    Raises:
        ValueError: the edges go round in a circle.
    """
    depth = dict.fromkeys(assets, 0)
    known = [(a, b) for a, b in edges if a in depth and b in depth]
    for turn in range(len(depth) + 1):
        moved = False
        for a, b in known:
            if depth[b] < depth[a] + 1:
                depth[b], moved = depth[a] + 1, True
        if not moved:
            break
        if turn == len(depth):
            raise ValueError("the edges go round in a circle")
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    place: dict[str, float] = {}
    for level, layer in enumerate(found):
        members = [a for a in assets if depth[a] == level]
        near = {a: [place[u] for u, d in known if d == a and u in place] for a in members}
        layer.extend(sorted(members, key=lambda a: sum(near[a]) / len(near[a]) if near[a] else 0.0))
        place |= {a: i - (len(layer) - 1) / 2 for i, a in enumerate(layer)}
    return found


def shortest(assets: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges that no longer way implies: what is drawn."""
    follows: dict[str, set[str]] = {a: {d for u, d in edges if u == a} for a in assets}

    def reaches(start: str, goal: str) -> bool:
        return any(n == goal or reaches(n, goal) for n in follows.get(start, ()))

    return [(a, b) for a, b in dict.fromkeys(edges) if not any(n != b and reaches(n, b) for n in follows.get(a, ()))]


def graph(artifacts: Sequence[Artifact], edges: Sequence[tuple[str, str]]) -> str:
    """One `<svg>`; colours come from the page. An asset that only edges name gets a box without hashes."""
    held: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        held.setdefault(artifact.asset, []).append(artifact)
    for edge in edges:
        for name in edge:
            held.setdefault(name, [])
    columns = layers(list(held), edges)
    boxes = {name: _lines(found) for name, found in held.items()}
    heights = {name: 30 + LINE * len(lines) + (6 if lines else 0) for name, lines in boxes.items()}
    tall = max((sum(heights[n] + SPACE for n in layer) - SPACE for layer in columns), default=0)
    at: dict[str, tuple[float, float]] = {}
    for i, layer in enumerate(columns):
        y = (tall - (sum(heights[n] + SPACE for n in layer) - SPACE)) / 2 + 2
        for name in layer:
            at[name] = (2 + i * (WIDTH + GAP), y)
            y += heights[name] + SPACE
    parts = [_arrow(at[a], heights[a], at[b], heights[b]) for a, b in shortest(list(held), edges)]
    parts += [_box(name, *at[name], heights[name], boxes[name]) for name in held]
    wide = max(1, len(columns)) * (WIDTH + GAP) - GAP + 4
    return (
        f'<svg viewBox="0 0 {wide} {tall + 4:g}" role="img" aria-label="Lineage of the assets">'
        '<defs><marker id="lineage-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill: var(--muted)"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def _lines(artifacts: Sequence[Artifact]) -> list[tuple[str, str]]:
    lines = [(a.partition, a.hash[:7] if a.hash else "none") for a in artifacts[:SHOWN]]
    more = len(artifacts) - SHOWN
    return [*lines, (f"and {more} more", "")] if more > 0 else lines


def _arrow(source: tuple[float, float], tall: float, target: tuple[float, float], target_tall: float) -> str:
    x, y = source[0] + WIDTH, source[1] + tall / 2
    end_x, end_y = target[0] - 2, target[1] + target_tall / 2
    bend = (end_x - x) / 2
    return (
        f'<path d="M{x:g} {y:g} C{x + bend:g} {y:g} {end_x - bend:g} {end_y:g} {end_x:g} {end_y:g}" '
        'style="fill: none; stroke: var(--muted); stroke-width: 1.2" marker-end="url(#lineage-arrow)"/>'
    )


def _box(name: str, x: float, y: float, tall: float, lines: Sequence[tuple[str, str]]) -> str:
    found = [
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{tall:g}" rx="6" '
        'style="fill: var(--soft); stroke: var(--line)"/>',
        f'<text x="{x + 10:g}" y="{y + 20:g}" style="font-size: 12.5px; font-weight: 600; fill: var(--ink)">'
        f"{text(_cut(name, 22))}</text>",
    ]
    for i, (partition, short) in enumerate(lines):
        base = y + 37 + LINE * i
        found.append(
            f'<text x="{x + 10:g}" y="{base:g}" style="font-size: 10.5px; fill: var(--muted)">'
            f"{text(_cut(partition, 17 if short else 26))}</text>"
        )
        if short:
            found.append(
                f'<text class="mono" x="{x + WIDTH - 10:g}" y="{base:g}" '
                f'style="font-size: 10.5px; text-anchor: end; fill: var(--link)">{text(short)}</text>'
            )
    return "".join(found)


def _cut(name: str, limit: int) -> str:
    # Out of the middle: `etth1_96|seasonal_naive` and `etth1_96|dlinear` differ at the end.
    keep = limit - 1
    return name if len(name) <= limit else f"{name[: keep - keep // 2]}…{name[-(keep // 2) :]}"
