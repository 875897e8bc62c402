"""`wavecore premises` and `wavecore tokens`: whether what a token budget builds on holds for a model (B6), and what it
reads of a window (B5)."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from assets.project import Project, seed_folder


def premises(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str, typer.Option("--stage", "-s", help="A trained stage with a prompt.")] = "base",
    seed: Annotated[int, typer.Option(help="Of the model.", min=0)] = 0,
    windows: Annotated[int, typer.Option(help="Windows of `decide` that are looked at.", min=1)] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False,
) -> None:
    """Whether patches contribute unevenly and a prompt's influence falls with depth; numbers and a picture."""
    found = measure(Project.find(), benchmark, stage, seed, windows)
    if as_json:
        typer.echo(json.dumps(found))
        return
    patches = found["patches"]
    for part in (8, 4, 2):
        held = 100 * found["contribution"][max(0, patches // part - 1)]
        typer.echo(f"{patches // part} of {patches} patches hold {held:.1f}% of a window's whitened spectrum")
    for layer, (fixed, facts) in enumerate(found["influence"], start=1):
        cut = found["cut"][layer - 1]
        said = f"{100 * (fixed + facts):.1f}% of the attention goes to the prompt ({100 * facts:.1f}% to the facts)"
        change = f"without it from here on forecasts change by {100 * cut['change']:.1f}% of their spread"
        added = f"seeing it in this layer too changes them by {100 * found['cut'][layer]['added']:.1f}%"
        typer.echo(f"layer {layer}: {said}; {change}, error {cut['error']:.4f}; {added}")
    typer.echo(f"everything read: error {found['cut'][-1]['error']:.4f} on `decide`")
    typer.echo(f"picture: {found['picture']}")


def tokens(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    window: Annotated[int, typer.Option(help="The row of its first step.", min=0)],
    stage: Annotated[str, typer.Option("--stage", "-s", help="A trained stage that reads fewer patches.")] = "budget",
    channel: Annotated[str | None, typer.Option(help="One of the benchmark's; the first by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False,
) -> None:
    """Which patches of a window the language model reads and why, and what each layer reads; numbers and a picture."""
    found = read_tokens(Project.find(), benchmark, stage, seed, window, channel)
    if as_json:
        typer.echo(json.dumps(found))
        return
    kept = found["budget"]
    for place, evidence in zip(kept["kept"], kept["evidence"], strict=True):
        members = [i for i, owner in enumerate(kept["owner"]) if owner == place and i != place]
        measure, whole = ("evidence", "the spectrum") if kept["by"] == "distance" else (kept["by"], "all scores")
        why = "the last one" if evidence is None else f"{measure} {evidence:.3f}"
        stands = f"; stands for {', '.join(map(str, members))}" if members else ""
        typer.echo(f"patch {place}: {why}, {100 * kept['contribution'][place]:.1f}% of {whole}{stands}")
    for layer, (series, prompt) in enumerate(kept["layers"], start=1):
        typer.echo(f"layer {layer}: {series} series tokens, {prompt} prompt tokens")
    typer.echo(f"picture: {found['picture']}")


def read_tokens(
    project: Project, benchmark: str, stage: str, seed: int, window: int, channel: str | None
) -> dict[str, Any]:
    """What `wavecore.inside.stayed` says of one window, and where the picture of it lies.

    Raises:
        StorageError: the benchmark or the model is not made yet.
        SettingsError: the model does not choose among patches, or there is no such window or channel.
    """
    from assets.figures_budget import kept_tokens
    from wavecore.errors import SettingsError
    from wavecore.inside import stayed

    ground, found = loaded(project, benchmark, stage, seed)
    model = found.model
    names, length = list(ground.arrays.channels), ground.benchmark.window
    if not 0 <= window <= ground.arrays.rows - length:
        last = ground.arrays.rows - length
        raise SettingsError(f"--window {window}: {benchmark} has windows 0 to {last}", "choose one of them")
    if channel is not None and channel not in names:
        raise SettingsError(f"--channel {channel}: {benchmark} has no such channel", f"channels: {', '.join(names)}")
    place = names.index(channel) if channel is not None else 0
    x = ground.windows.values[window : window + length]
    kept = stayed(model, x, place) if hasattr(model, "budget") else None
    if kept is None:
        raise SettingsError(
            f"the stage {stage!r} does not choose among patches", "choose budget, sparse, or one of their variants"
        )
    patch = [ground.benchmark.patch.length, ground.benchmark.patch.stride]
    seen = {"window": window, "channel": names[place], "patch": patch, "budget": kept}
    drawn = kept_tokens(seen).png()
    return {**seen, "picture": _keep(project, "tokens", f"{benchmark}-{stage}-{seed}-{window}-{place}", drawn)}


def loaded(project: Project, benchmark: str, stage: str, seed: int) -> tuple[Any, Any]:
    """A benchmark's ground and a trained model of it with its manifest.

    Raises:
        StorageError: one of them is not made yet.
    """
    from pipelines.plan import ground_of
    from wavecore.errors import StorageError
    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config

    ground = ground_of(project, benchmark)
    folder = seed_folder(project.models(benchmark, stage), seed)
    if not folder.is_dir():
        raise StorageError(f"{folder}: there is no model", f"wavecore run --benchmark {benchmark} --stage {stage}")
    return ground, load_model(folder, from_config)


def _keep(project: Project, what: str, name: str, drawn: bytes) -> str:
    path = project.runs / what / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawn)
    return str(path)


def measure(project: Project, benchmark: str, stage: str, seed: int, windows: int) -> dict[str, Any]:
    """The numbers of `wavecore.premises.premises`, and where the picture of them lies.

    Raises:
        StorageError: the benchmark or the model is not made yet.
        SettingsError: the model has no prompt to cut.
    """
    from assets.figures_budget import premises as picture
    from wavecore.errors import SettingsError
    from wavecore.model.time_llm import TimeLLM
    from wavecore.premises import premises as measured

    ground, trained = loaded(project, benchmark, stage, seed)
    model = trained.model
    if not isinstance(model, TimeLLM):
        raise SettingsError(f"the stage {stage!r} reads no prompt", "choose base, prompt or budget")
    found = measured(model, ground.windows, ground.borders, windows)
    drawn = picture(found, f"{benchmark}, {stage}, seed {seed}").png()
    return {**found, "picture": _keep(project, "premises", f"{benchmark}-{stage}-{seed}", drawn)}
