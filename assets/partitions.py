"""Partitions: what the catalog and the ladder name, one key each."""

from __future__ import annotations

import warnings

import dagster as dg

from assets.project import Project
from data_contracts.catalog import feature_key
from wavecore import stages

_catalog = Project.find().catalog()
_features = {key: dataset.name for key, (dataset, _) in Project.find().feature_keys().items()}

DATASETS = dg.StaticPartitionsDefinition(sorted(_catalog.datasets))
FEATURES = dg.StaticPartitionsDefinition(sorted(_features))
BENCHMARKS = dg.StaticPartitionsDefinition(sorted(_catalog.benchmarks))
STAGES = dg.StaticPartitionsDefinition(list(stages.names()))
MODELS = dg.MultiPartitionsDefinition({"benchmark": BENCHMARKS, "stage": STAGES})


def _inverse(mapping: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, value in mapping.items():
        found.setdefault(value, set()).add(key)
    return found


# Which partition of one asset reads which of another, where the keys differ.
DATASET_TO_FEATURES = dg.StaticPartitionMapping(_inverse(_features))
DATASET_TO_BENCHMARK = dg.StaticPartitionMapping(_inverse({b.name: b.dataset for b in _catalog.benchmarks.values()}))
FEATURES_TO_BENCHMARK = dg.StaticPartitionMapping(
    _inverse({b.name: feature_key(b) for b in _catalog.benchmarks.values()})
)
with warnings.catch_warnings():
    # Dagster marks this mapping as beta; a test resolves it.
    warnings.simplefilter("ignore", dg.BetaWarning)
    BENCHMARK_TO_MODEL = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="benchmark")
