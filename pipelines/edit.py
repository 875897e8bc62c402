"""Edits of params.yaml and the catalog that a command makes for the user: a new seed, a new dataset. Comments stay."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from assets.project import Project
from assets.storage import write_text
from wavecore import stages
from wavecore.config import settings_from
from wavecore.errors import WavecoreError


def _edit(project: Project, change: Any) -> None:
    """Apply `change` to the parsed params.yaml and write it back, if the result is valid."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = project.root / "params.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    change(document)
    stream = io.StringIO()
    yaml.dump(document, stream)
    from data_contracts.catalog import parse_yaml

    settings_from(parse_yaml(stream.getvalue(), "params.yaml"))
    write_text(path, stream.getvalue())


def ask_for_seed(project: Project, benchmark: str, stage: str, seed: int) -> bool:
    """Make sure that params.yaml asks for `seed` of benchmark × stage. Returns whether it had to be added."""
    settings = project.settings()
    project.catalog().benchmark(benchmark)
    if not stages.get(stage).seeded or seed in settings.seeds_of(benchmark, stage):
        return False

    def change(document: Any) -> None:
        at = document
        for key in ("overrides", "benchmarks", benchmark, stage):
            if at.get(key) is None:
                at[key] = {}
            at = at[key]
        at["seeds"] = sorted({*(at.get("seeds") or []), seed})

    _edit(project, change)
    return True


def add_own(
    project: Project,
    file: Path,
    *,
    name: str | None = None,
    timezone: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
    missing: tuple[str, ...] = (),
) -> list[str]:
    """Take up a user's file: dataset and benchmark YAML, and a place on the default matrix.

    Returns:
        What was understood and written, line by line.

    Raises:
        WavecoreError: the file cannot be read, or a name is taken; nothing is written then.
    """
    from assets.ingest.sniff import understand, write_yaml
    from pipelines.dvc import write_files

    understood = understand(file, timezone=timezone, window=window, horizon=horizon, missing=missing, name=name)
    written = write_yaml(understood, name, project.catalog_folder, project.root)
    try:
        project.catalog()
    except WavecoreError:
        for path in written.paths:
            path.unlink(missing_ok=True)
        raise
    lines = [*understood.sentences, *(f"wrote {path.relative_to(project.root)}" for path in written.paths)]

    def change(document: Any) -> None:
        benchmarks = document["pipeline"]["benchmarks"]
        if written.name not in benchmarks:
            benchmarks.append(written.name)
        if understood.levels is not None:  # the window is too short for the default depth
            at = document
            for key in ("overrides", "datasets", written.name, "features"):
                if at.get(key) is None:
                    at[key] = {}
                at = at[key]
            at["levels"] = understood.levels

    _edit(project, change)
    write_files(project)
    lines.append(f"params.yaml: {written.name} is on the default matrix (pipeline.benchmarks)")
    lines.append(f"next: wavecore run --benchmark {written.name}")
    return lines
