"""Reading `results/online/`: which streams may be shown together, and what a step of them cost here."""

from __future__ import annotations

from typing import Any

from assets.accepted import equal_code
from assets.project import Project, seed_folder, seeds_in
from assets.storage import read_json
from assets.timings import timings
from wavecore.judge.files import MANIFEST, METRICS
from wavecore.stages import get as get_stage
from wavecore.stages import names


def standing(project: Project, benchmark: str, stage: str) -> dict[int, dict[str, Any]]:
    """Seed → metrics.json of the streams that may be shown together; `left_out` tells of the others."""
    folder, out = project.online_results(benchmark, stage), left_out(project, benchmark, stage)
    seeds = [s for s in seeds_in(folder) if (seed_folder(folder, s) / MANIFEST).is_file() and s not in out]
    return {s: read_json(seed_folder(folder, s) / METRICS) for s in seeds}


def left_out(project: Project, benchmark: str, stage: str) -> dict[int, str]:
    """Seed → why its stream is not shown with the first one: it is not of the model that `results/` has the errors of,
    or not of the settings, data and code of the first. Code that was accepted as equal is the same code."""
    folder = project.online_results(benchmark, stage)
    judged = project.results(benchmark, get_stage(stage).trained_as)
    found: dict[int, str] = {}
    first: dict[str, Any] | None = None
    for seed in seeds_in(folder):
        own, other = (seed_folder(place, seed) / MANIFEST for place in (folder, judged))
        if not own.is_file():
            continue
        manifest = read_json(own)
        if other.is_file() and read_json(other).get("model") != manifest.get("model"):
            found[seed] = "of another model than the one that was judged"
            continue
        first = first or manifest
        code = equal_code(project, str(first.get("code_hash")), str(manifest.get("code_hash")))
        different = [key for key in ("settings", "data_hash") if first.get(key) != manifest.get(key)]
        if different or not code:
            what = {"settings": "settings", "data_hash": "data"}
            found[seed] = "of other " + " and ".join([what[key] for key in different] + ([] if code else ["code"]))
    return found


def streams_left_out(project: Project, benchmark: str, chosen: tuple[str, ...] = ()) -> list[str]:
    """The streams of a benchmark that are not shown, in sentences; of the stages `chosen`, () for all."""
    return [
        f"{benchmark} {stage} seed {seed}: its stream is left out, {why}; `wavecore stream` makes all seeds of one kind"
        for stage in chosen or names()
        for seed, why in left_out(project, benchmark, stage).items()
    ]


def pace_in(project: Project, benchmark: str, stage: str, seed: int) -> dict[str, dict[str, float]]:
    """learner → what a step costs, where this machine ran it."""
    return dict(timings(project, benchmark, stage, seed).get("online", {}))
