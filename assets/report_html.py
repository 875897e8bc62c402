"""Small pieces of HTML: escaping, numbers, tables, and the page's one style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

NONE = "–"


def text(value: object) -> str:
    """Any value as text that cannot be read as markup, in content and in attributes alike."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int = 4) -> str:
    """Four decimals for errors of ordinary size, four significant digits for larger ones, two for smaller ones, so that
    they take no more room; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.{digits}f}".replace("-", "−")
    return f"{value:.{digits if abs(value) > 1 else 2}g}".replace("-", "−")


def signed(value: float | None) -> str:
    """As `number`, with a plus where it is above zero."""
    shown = number(value)
    return f"+{shown}" if value is not None and value > 0 and shown != NONE else shown


def probability(value: float | None) -> str:
    """A p value: three decimals, or `< 0.001`."""
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def exact(shown: str, value: float | None) -> str:
    """A number whose unrounded value shows when pointed at."""
    if value is None or not math.isfinite(value):
        return text(shown)
    return f'<span title="{value!r}">{text(shown)}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = (), css: str = "") -> str:
    """A table in a box of its own, so that a wide one scrolls and the page does not.

    Args:
        head: text of the column heads.
        rows: cells as HTML, already escaped.
        numeric: columns set flush right.
    """
    right = set(numeric)

    def row(cells: Sequence[str], tag: str) -> str:
        parts = (f"<{tag}{' class=n' if i in right else ''}>{c}</{tag}>" for i, c in enumerate(cells))
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return (
        f'<div class="scroll"><table class="{css}"><thead>{row([text(h) for h in head], "th")}</thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(picture: str, title: str, note: str = "", css: str = "") -> str:
    """A picture with its heading and a line on how to read it."""
    below = f"<p>{note}</p>" if note else ""
    return f'<figure class="{css}"><figcaption><h4>{text(title)}</h4>{below}</figcaption>{picture}</figure>'


STYLE = """
:root { color-scheme: light dark;
  --page:#ffffff; --card:#ffffff; --soft:#f6f8fa; --line:#d8dee4; --ink:#1f2328; --muted:#59636e; --grid:#d8dee4;
  --link:#0550ae; --good:#006e50; --goodsoft:#e3f6ee; --bad:#a64200; --badsoft:#fdeee2; --flag:#7a5200;
  --flagsoft:#fff4d6;
  --c0:#80868d; --c1:#0072b2; --c2:#d55e00; --c3:#009e73; --c4:#cc79a7; --c5:#e69f00; --c6:#56b4e9;
  --c7:#6a51a3; --c8:#8c5a2b; --c9:#c1121f; --c10:#3d5a80; --c11:#7a9e1f; --c12:#e58fb8; --c13:#5f0f40;
  --c14:#20a8a0; --c15:#8d8df0; --c16:#444b54; --c17:#00441b; --c18:#a8a000; --c19:#ff7f6b; --c20:#b4b9bf;
  --b0:#00204d; --b1:#31446b; --b2:#666970; --b3:#958f78; --b4:#cbba69; --b5:#ffe945; }
@media (prefers-color-scheme: dark) { :root {
  --page:#0d1117; --card:#11161d; --soft:#161c24; --line:#2d343d; --ink:#e6edf3; --muted:#9aa4af; --grid:#2d343d;
  --link:#79b8ff; --good:#4fd1a1; --goodsoft:#0f2d24; --bad:#ff9d5c; --badsoft:#34200f; --flag:#f2c14e;
  --flagsoft:#332a0e;
  --c0:#8f979f; --c1:#4ba9e8; --c2:#ff8a47; --c3:#35c89b; --c4:#e59bc6; --c5:#f2b84b; --c6:#8fd0f7;
  --c7:#a995e0; --c8:#d0a06e; --c9:#f2646f; --c10:#7fa3cf; --c11:#a9cf4a; --c12:#f2b3d0; --c13:#c46a9c;
  --c14:#5fd6ce; --c15:#b4b4ff; --c16:#9aa3ad; --c17:#6f9e6a; --c18:#d6cf4a; --c19:#ff9d8c; --c20:#5b626b;
  --b0:#3d6bb3; --b1:#5f7fb5; --b2:#8d929b; --b3:#b0a98d; --b4:#d6c675; --b5:#ffec5c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 1200px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 44px; }
h1 { font-size: 2rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 10px; text-wrap: balance; }
h2 { font-size: 1.4rem; letter-spacing: -.01em; margin: 0 0 4px; }
h3 { font-size: 1.05rem; margin: 34px 0 8px; }
h4 { font-size: .92rem; margin: 0; font-weight: 600; }
p { margin: 0 0 10px; max-width: 76ch; }
a { color: var(--link); text-underline-offset: 2px; }
.lead { font-size: 1.08rem; color: var(--muted); max-width: 84ch; text-wrap: pretty; }
p.note { max-width: 130ch; }
td .tag, td small { white-space: nowrap; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 20px 0 0; padding: 10px 0;
  border-top: 1px solid var(--line);
  border-bottom: 1px solid var(--line); font-size: .92rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { padding: 40px 0 0; }
.sub { color: var(--muted); margin: 0 0 14px; }
.headline { font-size: 1.06rem; margin: 10px 0 18px; padding: 12px 16px; border-left: 3px solid var(--c1);
  background: var(--soft); max-width: none; }
.tag { display: inline-block; padding: 1px 8px; border-radius: 99px; font-size: .76rem; font-weight: 600;
  line-height: 1.6;
  vertical-align: .12em; white-space: nowrap; background: var(--soft); color: var(--muted);
  border: 1px solid var(--line); }
.tag.generated { background: var(--flagsoft); color: var(--flag); border-color: transparent; }
.tag.better { background: var(--goodsoft); color: var(--good); border-color: transparent; }
.tag.worse { background: var(--badsoft); color: var(--bad); border-color: transparent; }
.scroll { overflow-x: auto; margin: 0 0 6px; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 8px 9px; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; background: var(--soft); color: var(--muted); font-weight: 600; font-size: .78rem;
  vertical-align: bottom; }
td.n { white-space: nowrap; }
.n { text-align: right; }
td:first-child { font-weight: 600; }
td small, .note { color: var(--muted); font-size: .8rem; font-weight: 400; }
td small { display: block; }
.plain td:first-child { font-weight: 400; }
tr.best td { background: color-mix(in srgb, var(--c1) 7%, transparent); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px;
  margin: 18px 0; }
figure { margin: 0; padding: 14px 16px 10px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card);
  min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure.tall { grid-row: span 3; }
figure figcaption { margin-bottom: 8px; }
figure figcaption p { color: var(--muted); font-size: .82rem; margin: 2px 0 0; }
figure svg { display: block; width: 100%; height: auto; max-width: 640px; }
figure.wide svg { max-width: none; }
figure svg text { font-family: inherit !important; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 8px 20px; }
.graph { overflow-x: auto; }
.graph svg { min-width: 960px; max-width: none; }
svg .mono { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace !important; }
code, .hash { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .86em; }
.hash { overflow-wrap: anywhere; font-weight: 400; }
pre { margin: 0; padding: 14px 16px; overflow-x: auto; background: var(--soft); border: 1px solid var(--line);
  border-radius: 8px;
  line-height: 1.7; }
pre .c { color: var(--muted); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 8px 0 14px; font-size: .92rem; }
dt { color: var(--muted); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { margin: 14px 0; }
summary { cursor: pointer; font-weight: 600; font-size: .94rem; padding: 4px 0; }
details[open] summary { margin-bottom: 8px; }
footer { color: var(--muted); font-size: .84rem; padding-top: 48px; padding-bottom: 48px; }
@media (max-width: 640px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 28px; }
  h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
  figure { padding: 12px 10px 8px; }
  .stick td:first-child, .stick th:first-child { position: sticky; left: 0; background: var(--card); }
  .stick th:first-child { background: var(--soft); }
}
@media print { nav { display: none; } figure, .scroll { break-inside: avoid; } }
"""
