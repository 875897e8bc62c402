"""Edits of params.yaml and the catalog that a command makes for the user: a new seed, a new dataset. Comments stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assets.project import Project
from assets.storage import write_text
from wavecore import stages
from wavecore.config import settings_from
from wavecore.errors import SettingsError, WavecoreError


def _edited(project: Project, change: Callable[[Any], None]) -> str:
    """The text of params.yaml after `change`; it is checked, and not written yet."""
    from ruamel.yaml import YAML

    from data_contracts.catalog import parse_yaml

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load((project.root / "params.yaml").read_text(encoding="utf-8"))
    change(document)
    stream = io.StringIO()
    yaml.dump(document, stream)
    settings_from(parse_yaml(stream.getvalue(), "params.yaml"))
    return stream.getvalue()


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

    write_text(project.root / "params.yaml", _edited(project, change))
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
    from pipelines.dvc_files import write_files

    project.settings()  # a broken params.yaml or catalog is found before anything is written
    understood = understand(file, timezone=timezone, window=window, horizon=horizon, missing=missing, name=name)
    folders = [project.catalog_folder / kind for kind in ("datasets", "benchmarks")]
    for folder in folders:
        path = folder / f"{understood.name}.yaml"
        if path.exists():
            raise SettingsError(
                f"{path.relative_to(project.root)} is there already; nothing was written",
                f"edit it, or delete it and run this again, or give another --name; "
                f"`wavecore run --benchmark {understood.name}` takes new rows of the file up",
            )

    def change(document: Any) -> None:
        benchmarks = document["pipeline"]["benchmarks"]
        if understood.name not in benchmarks:
            benchmarks.append(understood.name)
        if understood.levels is not None:  # the window is too short for the default depth
            at = document
            for key in ("overrides", "datasets", understood.name, "features"):
                if at.get(key) is None:
                    at[key] = {}
                at = at[key]
            at["levels"] = understood.levels

    text = _edited(project, change)
    written = write_yaml(understood, name, project.catalog_folder, project.root)
    try:
        project.catalog()
    except WavecoreError:
        for path in written.paths:
            path.unlink(missing_ok=True)
        raise
    write_text(project.root / "params.yaml", text)
    write_files(project)
    return [
        *understood.sentences,
        *(f"wrote {path.relative_to(project.root)}" for path in written.paths),
        f"params.yaml: {written.name} is on the default matrix (pipeline.benchmarks)",
        f"next: wavecore run --benchmark {written.name}",
    ]
