"""Which stages are compared with which, and which results are not of one kind."""

import json
from pathlib import Path

from assets.accepted import recorded
from assets.project import Project
from assets.results import Run, families, pairs_of, unlike


def test_each_stage_is_held_against_the_one_below() -> None:
    assert pairs_of(["seasonal_naive", "dlinear"]) == [("dlinear", "seasonal_naive")]
    assert pairs_of(["dlinear"]) == []
    assert pairs_of(["seasonal_naive"]) == []


def test_variants_are_a_family_of_their_own() -> None:
    """A variant that is added later changes no verdict on the ladder."""
    ladder = pairs_of(["dlinear", "reference", "base", "best"])
    more = pairs_of(["dlinear", "reference", "base", "base.plain", "base.averaged", "best", "best.no_llm"])
    assert families(ladder) == [ladder]
    first, *others = families(more)
    assert first == ladder
    assert [{stage for stage, _ in family} for family in others] == [{"base.plain", "base.averaged"}, {"best.no_llm"}]
    assert sorted(pair for family in families(more) for pair in family) == sorted(more)


def test_results_that_are_not_of_one_kind_are_told(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    project = Project(tmp_path)
    same = {"data_hash": "d", "settings": "s", "backbone_hash": "b", "trained_by": "t", "code_hash": "c"}

    def run(stage: str, seed: int, **other: str) -> Run:
        return Run("demo", stage, seed, {}, {}, {}, same | other)

    # A stage without a language model, and one whose family has rooms of its own, and so another hash of its code.
    whole = [run("dlinear", 0, backbone_hash=""), run("base", 0), run("base", 1), run("titan", 0, code_hash="of titan")]
    assert unlike(project, whole) == []
    mixed = [
        *whole,
        run("base", 2, trained_by="newer"),
        run("best", 0, settings="x", data_hash="y"),
        run("best", 1, device="cuda"),
        run("titan", 1, code_hash="newer"),
    ]
    assert unlike(project, mixed) == [
        "demo base seed 2: of other code that trains than dlinear seed 0",
        "demo best seed 0: of other data, settings of the judge than dlinear seed 0",
        "demo best seed 1: of other device than best seed 0",
        "demo titan seed 1: of other code that judges than titan seed 0",
    ]
    with recorded(project, {"code": [["t", "newer"], ["of titan", "newer"]]}):
        assert unlike(project, [*whole, mixed[4], mixed[-1]]) == []
    # An older result that does not say what made it.
    bare = Run("demo", "base", 1, {}, {}, {}, json.loads("{}"))
    assert [line.count("code that") for line in unlike(project, [whole[1], bare])] == [2]
