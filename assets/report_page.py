"""The report: one HTML page that needs no network, no script and no font of its own.

Pictures are inline SVG in the page's colours, so that it reads in light, in dark, on a phone and on paper. Its content
security policy forbids every request. All text that comes from data or YAML is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from assets import figures, figures_budget, figures_wavelets, lineage_graph, report_online
from assets.report_data import BenchmarkReport, DatasetReport, ReportData, StageResult
from assets.report_html import (
    NONE,
    STYLE,
    duration,
    exact,
    figure,
    number,
    probability,
    signed,
    table,
    text,
)
from assets.report_pictures import pictures

GENERATED = '<span class="tag generated">generated data</span>'
_MARKS = {"better": "▼ better", "worse": "▲ worse", "no difference shown": "● no difference shown"}


def render(report: ReportData) -> str:
    """The whole page."""
    anchors = [(f"benchmark-{i}", b.name) for i, b in enumerate(report.benchmarks)]
    anchors += [("gains", "Gains")] if report.gains else []
    anchors += [("data", "Data"), ("lineage", "Lineage"), ("reproduce", "Reproduce")]
    links = "".join(f'<a href="#{anchor}">{text(name)}</a>' for anchor, name in anchors)
    body = [_benchmark(b, anchor) for b, (anchor, _) in zip(report.benchmarks, anchors, strict=False)]
    body += [_gains(report), _data(report.datasets), _lineage(report), _reproduce(report)]
    facts = " · ".join(f"{text(k)} {text(v)}" for k, v in report.facts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{text(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header id="top">
<h1>{text(report.title)}</h1>
<p class="lead">{text(report.about)}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{"".join(body)}
</main>
<footer>{facts}</footer>
</body>
</html>
"""


def _benchmark(b: BenchmarkReport, anchor: str) -> str:
    tag = f" {GENERATED}" if b.generated else ""
    return f"""<section id="{anchor}">
<h2>{text(b.name)}{tag}</h2>
<p class="sub">{text(b.title)}: {b.window:,} steps of {text(b.step)} in, {b.horizon:,} ahead.</p>
{_headline(b)}
<h3>Leaderboard</h3>
{_leaderboard(b)}
<p class="note">Errors on train-standardized channels over the whole test set, mean ± standard deviation over seeds.
Difference: mean test MSE minus that of the stage below, with its {100 * (1 - b.alpha):g}% block-bootstrap interval. p:
Diebold–Mariano with long-run variance, corrected by Holm for all pairs of the ladder, a stage's variants among
themselves. Detectable: the smallest true
difference that these data would have shown with power 80%; “no difference shown” says nothing about smaller ones.
A verdict is about the models at hand, their seeds averaged. How another training run would turn out only the spread
over seeds can tell, and of one seed there is none: add seeds before you believe that a stage helps.</p>
{_unlike(b)}
{pictures(b, anchor)}
{_beyond(b)}
{_channels(b)}
{_inside(b, anchor)}
{report_online.section(b.learned, b.memory, anchor)}
</section>
"""


def _unlike(b: BenchmarkReport) -> str:
    """What may not be read together, before anybody reads on; nothing where all is of one kind."""
    if not b.unlike:
        return ""
    lines = "".join(f"<li>{text(line)}</li>" for line in b.unlike)
    return f'<p class="note"><strong>Not of one kind:</strong></p><ul class="note">{lines}</ul>'


def _headline(b: BenchmarkReport) -> str:
    best = b.best
    if best is None:
        return '<p class="headline">No stage has been scored yet.</p>'
    words = (
        f"Smallest error: <strong>{text(best.stage)}</strong>, MSE {number(best.mean('mse'))} on "
        f"{best.n_series:,} test series."
    )
    c = best.comparison
    if c is not None and c.verdict != "no difference shown":
        share = f" by {abs(100 * c.relative):.0f}%" if math.isfinite(c.relative) else ""
        words += f" It is {c.verdict} than {text(c.other)}{share} (p {_p(c.p_holm)})."
    elif c is not None:
        words += f" No difference to {text(c.other)} is shown (p {_p(c.p_holm)})."
    return f'<p class="headline">{words}</p>'


def _p(value: float) -> str:
    shown = probability(value)
    return text(shown) if shown.startswith("<") else f"= {shown}"


def _seeds(seeds: Sequence[int]) -> str:
    """`0–2` where none between is missing."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _leaderboard(b: BenchmarkReport) -> str:
    head = (
        "stage", "MSE", "MAE", "MASE", "verdict", "difference to the stage below", "p (Holm)", "detectable",
        "seeds", "test series", "training",
    )  # fmt: skip
    best = b.best
    rows = []
    for s in b.stages:
        mse = _mean(s, "mse")
        rows.append(
            (
                text(s.stage),
                f"<strong>{mse}</strong>" if s is best else mse,
                _mean(s, "mae"),
                _mean(s, "mase"),
                *_against(s),
                _seeds([r.seed for r in s.seeds]),
                f"{s.n_series:,}",
                duration(s.mean("train_seconds")),
            )
        )
    said = "".join(
        f"<dt>{text(s.stage)}</dt><dd>{text(s.description.replace('`', ''))}</dd>" for s in b.stages if s.description
    )
    said = f"<dl>{said}</dl>" if said else ""
    if said and len(b.stages) > figures.FEW:
        said = f"<details><summary>What each stage is</summary>{said}</details>"
    return table(head, rows, numeric=(1, 2, 3, 5, 6, 7, 9, 10), css="stick") + said


def _mean(s: StageResult, metric: str) -> str:
    mean, spread = s.mean(metric), s.spread(metric)
    shown = exact(number(mean), mean)
    return shown if spread is None else f"{shown}<small>± {exact(number(spread), spread)}</small>"


def _against(s: StageResult) -> tuple[str, str, str, str]:
    c = s.comparison
    if c is None:
        return '<span class="note">bottom of the ladder</span>', NONE, NONE, NONE
    between = f"<small>[{signed(c.low)}, {signed(c.high)}]</small>" if math.isfinite(c.low) else ""
    mark = f'<span class="tag {text(c.verdict.split()[0])}">{text(_MARKS[c.verdict])}</span>'
    why = f"<small>{text(c.reason)}</small>" if c.reason else f"<small>than {text(c.other)}</small>"
    if c.verdict == "no difference shown" and not c.reason:
        why = f"<small>to {text(c.other)}</small>"
    return (
        mark + why,
        f"{exact(signed(c.effect), c.effect)}{between}",
        exact(probability(c.p_holm), c.p_holm),
        exact(number(c.detectable), c.detectable),
    )


def _beyond(b: BenchmarkReport) -> str:
    """What an MSE does not say, one column per stage that has it."""
    having = [s for s in b.stages if any(v is not None for v in s.beyond.values())]
    # A dataset without declared segments has nothing to say of them.
    names = list(dict.fromkeys(name for s in having for name, value in s.beyond.items() if value is not None))
    rows = [(text(name), *(exact(number(v), v) for v in (s.beyond.get(name) for s in having))) for name in names]
    if not rows:
        return ""
    note = (
        "Movement: mean over the horizon removed; divergence in nats, 0 where energy is spread over the scales as in "
        "the truth. Events: within eight steps of the strongest bursts in the truth; segments by name: as the dataset "
        "declares them. Disturbed: some test windows; their truth stays."
    )
    inner = table(("", *(text(s.stage) for s in having)), rows, numeric=tuple(range(1, len(having) + 1)))
    return f'<h3>Beyond the mean squared error</h3><p class="note">{note}</p>{inner}'


def _channels(b: BenchmarkReport) -> str:
    rows = [
        (text(e.channel), text(s.stage), *(exact(number(v), v) for v in (e.mse_original, e.mae_original, e.mse, e.mae)))
        for s in b.stages
        for e in s.channels
    ]
    # One block per channel reads better than one per stage.
    names = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: names.index(row[0]))
    head = ("channel", "stage", "MSE, original unit²", "MAE, original unit", "MSE, standardized", "MAE, standardized")
    inner = table(head, rows, numeric=(2, 3, 4, 5)) if rows else '<p class="note">Nothing to show yet.</p>'
    opened = " open" if len(rows) <= 16 else ""
    return (
        f"<h3>Errors in original units</h3><details{opened}><summary>Per channel and stage</summary>{inner}</details>"
    )


def _inside(b: BenchmarkReport, anchor: str) -> str:
    """The reprogrammed forecasters from inside: prompt, prototypes and their words, attention, weights."""
    shown = []
    for i, s in enumerate(b.stages):
        if s.inside is None:
            continue
        seen = s.inside
        drawn = figures.prototype_attention(seen).svg(f"{anchor}-inside-{i}")
        note = f"One test window of {text(seen['channel'])}, mean over heads. {_spread(seen, seen['rows'])}"
        columns = [key for key in ("words by mapping weight", "nearest words") if seen[key]]
        shown_first = seen["prototypes"][: figures.TOP]
        words = [(str(p), *(_words(seen[key][k]) for key in columns)) for k, p in enumerate(shown_first)]
        weights = [(text(name), f"{a:,}", f"{b:,}") for name, a, b in seen["parts"]]
        trainable, frozen = (sum(part[k] for part in seen["parts"]) for k in (1, 2))
        weights.append(("all", f"{trainable:,}", f"{frozen:,}"))
        tokens = ", ".join(str(n) for n in seen["prompt tokens"])
        told = f"<blockquote>{text(seen['prompt'])}</blockquote>" if seen["prompt"] else "<p>No prompt.</p>"
        counted = f'<p class="note">Tokens of the prompt, per channel: {tokens}.</p>' if tokens else ""
        shown.append(
            f"<details><summary>{text(s.stage)}</summary>{told}{counted}"
            f'<div class="grid">{figure(drawn, "Which prototypes the patches attend to", note, "wide")}</div>'
            + _streams(seen, f"{anchor}-streams-{i}")
            + _budget(seen, f"{anchor}-budget-{i}")
            + table(("prototype", *columns), words)
            + table(("part", "trainable weights", "frozen weights"), weights, numeric=(1, 2))
            + "</details>"
        )
    return f"<h3>Inside the reprogrammed models</h3>{''.join(shown)}" if shown else ""


def _spread(look: Mapping[str, Any], rows: Sequence[Sequence[float]]) -> str:
    """How attention [patches, prototypes] is spread, in words."""
    most = min(figures.TOP, len(look["prototypes"]))
    mass = sum(sum(row[:most]) for row in rows) / len(rows)
    return (
        f"Entropy of the attention {number(look['entropy'])} of its most (1: all prototypes count the same); these "
        f"{most} hold {100 * mass:.1f}% of it."
    )


def _streams(seen: Mapping[str, Any], anchor: str) -> str:
    """What is slow and fast in the window, the gate, and the fast stream's prototypes; nothing with one stream."""
    if "streams" not in seen:
        return ""
    fast = seen["streams"]["look"]
    note = f"The picture above is of the slow stream. {_spread(fast, fast['attention'])}"
    gate = figures_wavelets.gate(seen).svg(f"{anchor}-gate")
    heat = figures_wavelets.fast_attention(seen).svg(f"{anchor}-fast")
    return (
        f'<div class="grid">{figure(heat, "Which prototypes the fast stream attends to", note, "wide")}</div>'
        f'<div class="grid">{figure(gate, "Slow and fast, and the gate between them", "", "wide")}</div>'
    )


def _budget(seen: Mapping[str, Any], anchor: str) -> str:
    """Which patches were read, as a picture, and what each layer reads, as a table; nothing where all are read."""
    if "budget" not in seen:
        return ""
    kept = seen["budget"]
    by = kept.get("by", "distance")
    why = "evidence of its own" if by == "distance" else by
    note = (
        f"{len(kept['kept'])} of {len(kept['owner'])} patches are read (shaded, stronger with more {why}; marked "
        "below). Every other patch is read as the one of its colour."
    )
    layers = [(str(i), str(series), str(prompt)) for i, (series, prompt) in enumerate(kept["layers"], start=1)]
    drawn = figures_budget.kept_tokens(seen).svg(anchor)
    return f'<div class="grid">{figure(drawn, "Which patches are read", note, "wide")}</div>' + table(
        ("layer", "series tokens read", "prompt tokens seen"), layers, numeric=(1, 2)
    )


def _words(pairs: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"<code>{text(word)}</code> {signed(value)}" for word, value in pairs)


def _gains(report: ReportData) -> str:
    """On which channels the wavelet stages gain; nothing where none was run beside `base`."""
    if not report.gains:
        return ""
    note = (
        "One dot per channel, seeds averaged, gain in percent of the squared error of base. Volatility: standard "
        "deviation of the change from step to step, in standard deviations of the channel (white noise: 1.41). "
        "Periods: peaks of the power spectrum that a window can see. Both of the train rows. Channels of one benchmark "
        "are no independent witnesses, and many correlations are looked at: take a small p for a hint."
    )
    rows = [
        (
            *(text(part) for part in (g.benchmark, g.channel, g.stage)),
            exact(number(g.volatility), g.volatility),
            str(g.periods),
            exact(f"{g.gain:+.1f}", g.gain),
        )
        for g in report.gains
    ]
    inner = table(("benchmark", "channel", "stage", "volatility", "periods", "gain, %"), rows, numeric=(3, 4, 5))
    drawn = figure(figures_wavelets.gains(report.gains).svg("gains"), "Where a stage gains", note, "wide")
    return (
        f'<section id="gains"><h2>Gains by what a channel is like</h2><div class="grid">{drawn}</div>'
        f"<details><summary>Per channel and stage</summary>{inner}</details></section>"
    )


def _data(datasets: Iterable[DatasetReport]) -> str:
    parts = []
    for i, d in enumerate(datasets):
        tag = f" {GENERATED}" if d.generated else ""
        url = text(d.url or "")
        # A link only where a browser would open a page: YAML could hold any scheme.
        link = (
            f' (<a href="{url}" rel="noreferrer">{url}</a>)' if url.startswith(("https://", "http://")) else f" {url}"
        )
        facts = {
            "source": ("generated: " if d.generated else "") + text(d.source) + (link if d.url else ""),
            "licence": text(d.licence)
            + (f' <span class="note">{text(d.licence_note)}</span>' if d.licence_note else ""),
            "size": f"{d.rows:,} steps of {text(d.step)} × {d.channels:,} channels, {d.missing:,} values missing",
            "time": f"{text(d.first)} to {text(d.last)}",
            "sha256": f'<span class="hash">{text(d.sha256)}</span>',
        }
        listed = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items())
        picture = ""
        if d.series is not None:
            values = np.where(d.series.observed, d.series.values, np.nan)
            drawn = figures.series_overview(d.series.timestamps, d.series.channels, values, d.splits).svg(f"series-{i}")
            note = "Smallest to largest value per stretch of time; validation blue, test orange."
            picture = f'<div class="grid">{figure(drawn, "Every channel", note, "wide")}</div>'
        parts.append(f"<h3>{text(d.title)}{tag}</h3><p>{text(d.description)}</p><dl>{listed}</dl>{picture}")
    return f'<section id="data"><h2>Data</h2>{"".join(parts)}</section>'


def _lineage(report: ReportData) -> str:
    picture = lineage_graph.graph(report.artifacts, report.edges)
    note = "Each box is an asset with its partitions and the first digits of their DVC hashes."
    rows = [
        (text(a.asset), text(a.partition), f'<span class="hash">{text(a.hash)}</span>' if a.hash else "not committed")
        for a in report.artifacts
    ]
    columns = [
        (text(c.asset), text(c.column), text(", ".join(f"{a}.{column}" for a, column in c.made_from)))
        for c in report.columns
    ]
    return f"""<section id="lineage"><h2>Lineage</h2>
<p class="sub">From the raw file to this page. Equal hashes are equal bytes: <code>dvc status</code> compares them with
what lies on disk.</p>
<div class="grid">{figure(f'<div class="graph">{picture}</div>', "Assets", note, "wide")}</div>
<details><summary>All hashes ({len(rows)})</summary>{table(("asset", "partition", "DVC hash"), rows)}</details>
<details><summary>Column lineage ({len(columns)} columns)</summary>
{table(("asset", "column", "made from"), columns)}</details>
</section>
"""


def _reproduce(report: ReportData) -> str:
    wide = max((len(command) for command, _ in report.commands), default=0)
    lines = [
        f'{text(command)}{" " * (wide - len(command))}  <span class="c"># {text(what)}</span>'
        for command, what in report.commands
    ]
    return f"""<section id="reproduce"><h2>How to make this again</h2>
<p class="sub">From the root of a checkout. Equal data, settings and seeds give equal hashes on CPU.</p>
<pre><code>{chr(10).join(lines)}</code></pre></section>
"""
