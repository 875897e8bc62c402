"""`wavecore premises`: whether what a token budget builds on holds for a trained model (B6)."""

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
        typer.echo(f"layer {layer}: {said}; {change}, error {cut['error']:.4f}")
    typer.echo(f"everything read: error {found['cut'][-1]['error']:.4f} on `decide`")
    typer.echo(f"picture: {found['picture']}")


def measure(project: Project, benchmark: str, stage: str, seed: int, windows: int) -> dict[str, Any]:
    """The numbers of `wavecore.premises.premises`, and where the picture of them lies.

    Raises:
        StorageError: the benchmark or the model is not made yet.
        SettingsError: the model has no prompt to cut.
    """
    from assets.figures_budget import premises as picture
    from assets.storage import to_json, write_text
    from assets.training import make_model
    from pipelines.plan import ground_of
    from wavecore.errors import StorageError
    from wavecore.learn.checkpoint import load_model
    from wavecore.premises import premises as measured

    ground = ground_of(project, benchmark)
    folder = seed_folder(project.models(benchmark, stage), seed)
    if not folder.is_dir():
        raise StorageError(f"{folder}: there is no model", f"wavecore run --benchmark {benchmark} --stage {stage}")
    model: Any = load_model(folder, make_model).model
    found = measured(model, ground.windows, ground.borders, windows)
    path = project.runs / "premises" / f"{benchmark}-{stage}-{seed}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".json"), to_json(found))
    path.write_bytes(picture(found, f"{benchmark}, {stage}, seed {seed}").png())
    return {**found, "picture": str(path)}
