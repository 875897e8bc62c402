"""`wavecore bench`: what it costs, as ratios of two sides measured in turn by `wavecore.bench`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavecore.errors import SettingsError

if TYPE_CHECKING:
    from wavecore.bench.rows import Row

app = typer.Typer(help="Speed and memory, measured here and now.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object per row.")]
Backbone = Annotated[str, typer.Option(help="Geometry of the language model: minilm, gpt2 or qwen2.")]
Series = Annotated[str, typer.Option(help="Windows × channels at once; several with commas.")]
Repeats = Annotated[int, typer.Option(help="Pairs that are timed, one side after the other.", min=1)]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Tokens = Annotated[int, typer.Option(help="Of the budget: patches that are read.", min=1)]
Depth = Annotated[int, typer.Option(help="Of the budget: layers that see the whole prompt.", min=1)]
Peer = Annotated[bool, typer.Option("--peer", help="Also against neuralforecast (the extra `bench`).")]


def numbers(text: str, what: str) -> tuple[int, ...]:
    """`28,112` as numbers.

    Raises:
        SettingsError: one is no whole number above 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SettingsError(f"{what} {text!r}: expected whole numbers above 0", f"write {what} 28,112")
    return tuple(int(part) for part in parts)


def known_backbone(name: str) -> str:
    """One of the geometries.

    Raises:
        SettingsError: there is none of that name.
    """
    names = ("minilm", "gpt2", "qwen2")
    if name not in names:
        raise SettingsError(f"--backbone {name}: not one of {', '.join(names)}", "choose one of them")
    return name


def show(rows: Iterable[Row], as_json: bool) -> None:
    """Each row as soon as it is there."""
    for row in rows:
        typer.echo(json.dumps(row.plain()) if as_json else _line(row))


def _line(row: Row) -> str:
    parts = [f"{row.bench:<8} {row.backbone or '-':<7} {row.series or '-':>5} {row.dtype or '-':<8} {row.path}"]
    if row.ratio_median is not None:
        parts.append(
            f"{row.ratio_median:.2f}× ({row.ratio_min:.2f} to {row.ratio_max:.2f}) against {row.other}"
            f"{', ' + row.other_dtype if row.other_dtype else ''}"
        )
    if row.seconds is not None:
        other = f" against {row.other_seconds:.4g} s" if row.other_seconds is not None else ""
        parts.append(f"{row.seconds:.4g} s{other}")
    if row.error is not None:
        parts.append(f"difference {row.error:.2g}")
    parts += [f"{key} {_short(value)}" for key, value in row.more.items()]
    return "; ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _speed(
    bench: str, backbone: str, series: str, repeats: int, threads: int, tokens: int, depth: int, peer: bool, json_: bool
) -> None:
    from wavecore.bench.speed import speed

    name = known_backbone(backbone)
    for count in numbers(series, "--series"):
        show(speed(bench, name, count, repeats, threads, tokens, depth, peer), json_)


@app.command()
def train(
    backbone: Backbone = "minilm",
    series: Series = "28,112",
    repeats: Repeats = 5,
    threads: Threads = 2,
    tokens: Tokens = 8,
    depth: Depth = 1,
    peer: Peer = False,
    as_json: Json = False,
) -> None:
    """A training step: forward, backward, Adam."""
    _speed("train", backbone, series, repeats, threads, tokens, depth, peer, as_json)


@app.command()
def infer(
    backbone: Backbone = "minilm",
    series: Series = "28,112",
    repeats: Repeats = 5,
    threads: Threads = 2,
    tokens: Tokens = 8,
    depth: Depth = 1,
    peer: Peer = False,
    as_json: Json = False,
) -> None:
    """Forecasts of a batch, prompts included."""
    _speed("infer", backbone, series, repeats, threads, tokens, depth, peer, as_json)
