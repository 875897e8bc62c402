"""What every asset does around its own work: lock, fingerprint, check, swap in, hash, commit, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from assets.locks import partition_lock
from assets.project import Project
from assets.storage import new_folder, owner
from assets.versions import Fingerprint, Versions, data_version, dvc_hash
from data_contracts.contracts import CheckOutcome, ContractResult, as_markdown, rules
from wavecore.errors import DataError, WavecoreError

PROCESS_TAG = "wavecore/process"


class CheckFailed(Exception):
    """An error of the project that a check of the asset stands for: reported as failed, then raised."""

    def __init__(self, check: str, error: WavecoreError) -> None:
        super().__init__(str(error))
        self.check, self.error = check, error


class ContractBroken(DataError):
    """A contract that protects what comes after is broken.

    Attributes:
        result: all outcomes, for the check badges.
    """

    def __init__(self, what: str, result: ContractResult) -> None:
        failed = [o for o in result.checks if not o.passed and o.severity == "critical"]
        lines = [f"{o.description}: {_where(o)}" for o in failed]
        super().__init__(
            f"{what}: the contract '{result.suite}' is broken; what was there before is unchanged\n  "
            + "\n  ".join(lines),
            "mend the data, or declare its treatment in the dataset's YAML",
            columns=[c for o in failed for c in o.columns],
            rows=[r for o in failed for r in o.rows],
        )
        self.result = result


def _where(outcome: CheckOutcome) -> str:
    if outcome.error:
        return str(outcome.error)
    rows = ", ".join(str(r) for r in outcome.rows[:5])
    columns = ", ".join(map(str, outcome.columns))
    return f"columns {columns or '-'}; {outcome.count} rows{': ' + rows if rows else ''}; observed {outcome.observed}"


@dataclass
class Made:
    """What one run of an asset made.

    Attributes:
        metadata: what people want to look at.
        contracts: results of the suites that passed (or only warned).
        checks: further checks of the asset: name → (passed, metadata).
        warnings: which of them only warn.
        complete: whether everything that params.yaml asks for is there; only then is it committed.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    contracts: list[ContractResult] = field(default_factory=list)
    checks: dict[str, tuple[bool, dict[str, Any]]] = field(default_factory=dict)
    warnings: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True)
class Work:
    """One asset's work on one partition.

    Attributes:
        context: Dagster's.
        project: where everything lies.
        key: the partition, `demo|dlinear` for two dimensions.
        outs: the artifact's folders.
    """

    context: dg.AssetExecutionContext
    project: Project
    versions: Versions
    asset: str
    key: str
    outs: tuple[Path, ...]
    before: Fingerprint

    def folder(self, target: Path | None = None) -> AbstractContextManager[Path]:
        """An empty folder that takes the artifact's place once it is whole and nothing it depends on has changed."""
        place = target or self.outs[0]
        return new_folder(
            place,
            self.project.unfinished_for(place),
            lambda: self.versions.require_unchanged(self.project, self.asset, self.key, self.before),
        )

    @contextmanager
    def folders(self) -> Iterator[tuple[Path, ...]]:
        """An empty folder for each of the artifact's outs; they take their places together."""
        with ExitStack() as stack:
            # Left in reverse: the last out is swapped in first, and each swap only follows once all are whole.
            yield tuple(stack.enter_context(self.folder(out)) for out in self.outs)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """What goes wrong in here is reported as a failed check `name`, with rows and columns, before the run stops."""
        try:
            yield
        except ContractBroken:
            raise
        except WavecoreError as error:
            raise CheckFailed(name, error) from error

    def require(self, result: ContractResult) -> ContractResult:
        """Pass a contract's result on, or stop before anything is swapped in.

        Raises:
            ContractBroken: a critical expectation failed.
        """
        if result.blocking_failed:
            raise ContractBroken(f"{self.asset} of {self.key}", result)
        return result


def check_specs(asset: str, suite: str) -> list[dg.AssetCheckSpec]:
    """One Dagster check per expectation of a suite; those of severity `critical` block what comes after."""
    return [
        dg.AssetCheckSpec(
            name=rule.name, asset=asset, description=rule.description, blocking=rule.severity == "critical"
        )
        for rule in rules(suite)
    ]


def _check_results(asset: dg.AssetKey, result: ContractResult) -> Iterator[dg.AssetCheckResult]:
    for outcome in result.checks:
        metadata: dict[str, Any] = {"observed": str(outcome.observed)}
        if not outcome.passed:
            one = ContractResult(
                suite=result.suite, passed=False, blocking_failed=outcome.severity == "critical", checks=(outcome,)
            )
            metadata |= {
                "columns": list(map(str, outcome.columns)),
                "rows": [str(r) for r in outcome.rows],
                "failed": dg.MetadataValue.md(as_markdown(one)),
            }
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=outcome.name,
            passed=outcome.passed,
            severity=dg.AssetCheckSeverity.ERROR if outcome.severity == "critical" else dg.AssetCheckSeverity.WARN,
            metadata=metadata,
        )
    # Dagster wants a result for every declared check; a rule that the dataset switches off finds nothing.
    for name in result.skipped:
        yield dg.AssetCheckResult(
            asset_key=asset, check_name=name, passed=True, metadata={"observed": "does not apply to this dataset"}
        )


def _failed(asset: dg.AssetKey, failed: CheckFailed) -> dg.AssetCheckResult:
    columns, rows = (list(getattr(failed.error, name, ())) for name in ("columns", "rows"))
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=failed.check,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "problem": failed.error.problem,
            "fix": failed.error.fix,
            "columns": [str(c) for c in columns],
            "rows": [str(r) for r in rows[:20]],
        },
    )


def partition_of(context: dg.AssetExecutionContext) -> str:
    """The partition as one text; two dimensions are joined in the order benchmark, stage."""
    if not context.has_partition_key:
        return ""
    key = context.partition_key
    if isinstance(key, dg.MultiPartitionKey):
        return f"{key.keys_by_dimension['benchmark']}|{key.keys_by_dimension['stage']}"
    return str(key)


def produce(
    context: dg.AssetExecutionContext, versions: Versions, make: Callable[[Work], Made]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:  # type: ignore[type-arg]
    """Run `make` under the partition's lock, then hash, commit and report what it made.

    A broken contract is reported as failed checks, then stops the run; nothing was swapped in by then.
    """
    project, asset, key = Project.find(), context.asset_key.path[-1], partition_of(context)
    context.instance.add_run_tags(context.run_id, {PROCESS_TAG: owner()})
    with partition_lock(project, asset, key):
        before = versions.begin(project, asset, key)
        outs = versions.outs(project, asset, key)
        try:
            made = make(Work(context, project, versions, asset, key, outs, before))
        except ContractBroken as broken:
            yield from _check_results(context.asset_key, broken.result)
            raise
        except CheckFailed as failed:
            yield _failed(context.asset_key, failed)
            raise failed.error from None
        except WavecoreError as error:
            context.log.error(str(error))
            raise
        hashes = [dvc_hash(out) for out in outs]
        assert all(h is not None for h in hashes), f"{asset} of {key} wrote nothing at {outs}"
        whole = [h for h in hashes if h is not None]
        if made.complete:
            versions.commit(project, asset, key, before, whole)
        else:
            made.metadata["not committed to DVC"] = "something that params.yaml asks for is still missing"
    results = [r for contract in made.contracts for r in _check_results(context.asset_key, contract)]
    results += [
        dg.AssetCheckResult(
            asset_key=context.asset_key,
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN if name in made.warnings else dg.AssetCheckSeverity.ERROR,
            metadata=metadata,
        )
        for name, (passed, metadata) in made.checks.items()
    ]
    yield dg.MaterializeResult(
        asset_key=context.asset_key,
        data_version=dg.DataVersion(data_version(whole)),
        metadata={"dvc_hash": data_version(whole), **made.metadata},
        check_results=results,
    )
