"""What Dagster loads: assets explained, contracts as checks, partitions that find each other, a schedule that ticks."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from conftest import CHECKOUT, environment
from dagster import AssetKey
from dagster._core.definitions.events import AssetKeyPartitionKey
from inside import artifacts, copied, edit, entered, up_to_date

from data_contracts.contracts import rules
from pipelines.definitions import defs
from wavecore import stages

SUITES = {
    "series": "series",
    "windows": "windows",
    "wavelet_coefficients": "wavelets",
    "prompt_statistics": "prompt_statistics",
    "splits": "splits",
    "prompts": "prompts",
    "evaluation": "evaluation",
}
WAY = (
    "raw_series", "series", "windows", "wavelet_coefficients", "prompt_statistics", "splits", "prompts", "model",
    "evaluation", "online_evaluation", "comparison", "leaderboard", "report",
)  # fmt: skip

# Imports every module of wavecore where nothing but the science is installed.
BARE = """
import importlib, importlib.abc, pkgutil, sys
absent = {
    "dagster", "duckdb", "dvc", "great_expectations", "polars", "pandas", "pyarrow", "pooch", "typer", "rich", "yaml",
    "matplotlib", "filelock", "psutil", "assets", "pipelines", "data_contracts",
}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Absent())
import wavecore
names = [m.name for m in pkgutil.walk_packages(wavecore.__path__, "wavecore.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_the_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)
    assert {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} == set(WAY)
    assert {job.name for job in defs.resolve_all_job_defs()} >= {"demo", "retrain"}


@pytest.mark.parametrize("name", WAY)
def test_every_asset_has_a_group_a_description_and_its_contract_as_checks(name: str) -> None:
    asset = defs.resolve_assets_def(name)
    spec = asset.get_asset_spec(AssetKey(name))
    assert spec.group_name in ("data", "features", "models", "results")
    assert len(spec.description or "") > 40
    assert spec.kinds
    checks = {check.name: check for check in asset.check_specs}
    for rule in rules(SUITES[name]) if name in SUITES else ():
        check = checks[rule.name]
        assert check.description == rule.description
        # Broken data stops, a remark does not.
        assert check.blocking == (rule.severity == "critical")
    if name in WAY[:10]:
        assert any(check.blocking for check in checks.values())


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_selections_written_as_text_are_understood() -> None:
    graph = defs.resolve_asset_graph()
    cases = {
        "key:model+": {"model", "evaluation", "online_evaluation", "comparison", "leaderboard", "report"},
        "key:model+1": {"model", "evaluation", "online_evaluation"},
        "group:data": {"raw_series", "series"},
        "+key:splits and not key:windows": {"raw_series", "series", "splits"},
        'kind:"parquet" and group:"data"': {"series"},
    }
    for text, expected in cases.items():
        found = {key.to_user_string() for key in dg.AssetSelection.from_string(text).resolve(graph)}
        assert found == expected, text


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_a_job_over_a_selection_as_text_resolves() -> None:
    job = dg.define_asset_job(
        "features_only", selection='key:windows+ and group:"features" and not key:splits and not key:prompts'
    )
    resolved = dg.Definitions(assets=list(defs.assets or []), resources=defs.resources, jobs=[job])
    nodes = resolved.resolve_job_def("features_only").graph.node_dict
    assert {"windows", "wavelet_coefficients"} <= set(nodes)


def children(asset: str, key: str, child: str) -> set[str]:
    """Partitions of `child` that Dagster takes to follow from one partition of `asset`."""
    from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

    view = AssetGraphView.for_test(defs)
    parent = AssetKey(asset)
    chosen = view.get_asset_subset_from_asset_partitions(parent, {AssetKeyPartitionKey(parent, key)})
    found = view.compute_child_subset(AssetKey(child), chosen).expensively_compute_partition_keys()
    return {str(k) for k in found}


def test_partitions_find_those_that_follow_from_them() -> None:
    assert children("raw_series", "demo", "series") == {"demo"}
    assert children("series", "demo", "windows") == {"demo.T168"}
    assert children("windows", "demo.T168", "wavelet_coefficients") == {"demo.T168"}
    assert children("windows", "demo.T168", "splits") == {"demo"}
    assert children("series", "demo", "splits") == {"demo"}
    hourly = {f"etth1_{h}" for h in (96, 192, 336, 720)}
    assert children("series", "etth1", "splits") == hourly | {f"etth1_96to{h}" for h in (1, 24, 48)}
    assert children("splits", "demo", "model") == {f"demo|{stage}" for stage in stages.names()}
    assert children("splits", "demo", "prompts") == children("series", "demo", "prompts") == {"demo"}
    assert children("prompts", "demo", "model") == {f"demo|{stage}" for stage in stages.names()}
    assert children("model", "demo|dlinear", "evaluation") == {"demo|dlinear"}


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=CHECKOUT,
        env=environment(CHECKOUT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_science_imports_where_nothing_else_is_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=tmp_path,
        env=environment(CHECKOUT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


def test_the_schedule_ticks_and_retrains_what_is_out_of_date(finished_project: Path, tmp_path: Path) -> None:
    from pipelines.home import instance_of
    from pipelines.schedules import retrain, weekly

    root = copied(finished_project, tmp_path / "mine")
    with entered(root) as project:
        schedule = weekly()
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
        assert schedule.cron_schedule == "0 3 * * 1"
        monday = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)
        tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=monday))
        (request,) = tick.run_requests or []
        assert request.run_key == "retrain 2026-01-05T03:00"
        assert schedule.job_name == "retrain"

        edit(root / "params.yaml", "enabled: false", "enabled: true")
        assert weekly().default_status == dg.DefaultScheduleStatus.RUNNING

        edit(root / "params.yaml", "clip_norm: 0.0", "clip_norm: 1.0")
        before = artifacts(root)
        with instance_of(project) as instance:
            done = retrain.execute_in_process(
                instance=instance, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            )
            assert done.success
            made = instance.get_latest_materialization_event(AssetKey("model"))
        assert made is not None
        assert made.asset_materialization is not None
        assert made.asset_materialization.partition == "tiny|dlinear"
    after = artifacts(root)
    changed = {path.split("/seed=")[0] for path in before if after[path] != before[path]}
    assert any(path.startswith("/store/models/tiny/dlinear") for path in changed)
    assert all("/tiny/dlinear" in path for path in changed)
    up_to_date(root)
