"""What the options of `wavecore bench` are called, and what their texts mean."""

from __future__ import annotations

from typing import Annotated

import typer

from wavecore.errors import SettingsError

Json = Annotated[bool, typer.Option("--json", help="One JSON object per row.")]
Backbone = Annotated[str, typer.Option(help="Geometry of the language model: minilm, gpt2 or qwen2.")]
Series = Annotated[str, typer.Option(help="Windows × channels at once; several with commas.")]
Repeats = Annotated[int, typer.Option(help="Pairs that are timed, one side after the other.", min=1)]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Tokens = Annotated[int, typer.Option(help="Of the budget: patches that are read.", min=1)]
Facts = Annotated[int, typer.Option(help="Of the budget: layers that see the prompt's facts about the window.", min=1)]
Depth = Annotated[int, typer.Option(help="Of the budget: layers that see all of description and task.", min=1)]
Also = Annotated[
    str | None, typer.Option("--stage", "-s", help="Also these stages of the Time-LLM family, with commas.")
]
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


def fractions(text: str, what: str) -> tuple[float, ...]:
    """`0.25,0.5` as numbers.

    Raises:
        SettingsError: one does not lie between 0 and 1.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (0.0,)
    if not all(0 < share <= 1 for share in found):
        raise SettingsError(f"{what} {text!r}: expected numbers above 0, at most 1", f"write {what} 0.25,0.5")
    return found


def further(text: str | None) -> tuple[str, ...]:
    """Stages of the Time-LLM family that are measured beside `exact` and `budget`, from `only_sparse,tokens`.

    Raises:
        SettingsError: one does not exist, is of another family, or is measured already.
    """
    from wavecore import stages as ladder
    from wavecore.bench.stages import BELOW

    names = tuple(part.strip() for part in text.split(",")) if text else ()
    for name in names:
        stage = ladder.get(name)
        if stage.family != ladder.get(BELOW).family:
            raise SettingsError(f"--stage {name}: no stage of the Time-LLM family", "leave it out")
        if name in ("reference", BELOW) or stage.switches["budget"]["enabled"]:
            raise SettingsError(f"--stage {name}: `exact` is base, `budget` is measured too", "leave it out")
    return names


def known_backbone(name: str) -> str:
    """One of the geometries.

    Raises:
        SettingsError: there is none of that name.
    """
    names = ("minilm", "gpt2", "qwen2")
    if name not in names:
        raise SettingsError(f"--backbone {name}: not one of {', '.join(names)}", "choose one of them")
    return name
