"""prompts: what a language model is told about each window, as text and as token ids."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import BENCHMARKS, DATASET_TO_BENCHMARK
from assets.producing import Made, Work, check_specs, produce
from assets.told import ABOUT, SHARED
from assets.versions import Versions
from wavecore.stages import get as get_stage


@dg.asset(
    partitions_def=BENCHMARKS,
    deps=[dg.AssetDep("series", partition_mapping=DATASET_TO_BENCHMARK), "splits"],
    group_name="features",
    kinds={"parquet"},
    description=(
        "What `base`, and every stage that is told the same, is told about each window and channel: the facts as text "
        "and as token ids, behind description and task, which are the same for all. Above a size budget the ids are "
        "made when needed, by the same function."
    ),
    check_specs=check_specs("prompts", "prompts"),
)
def prompts(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _prompts)


def _prompts(work: Work) -> Made:
    import polars as pl

    from assets.storage import to_json, write_text
    from assets.tables import PROMPTS, read_parquet, write_parquet
    from assets.training import Ground
    from data_contracts.contracts import validate
    from wavecore.prompt.stored import size_mb

    ground = Ground.load(work.project, work.key)
    made, setup, vocabulary = _prompter(ground)
    data, channels = ground.windows, ground.arrays.channels
    count = len(data) - data.window + 1
    size = size_mb(made, count, len(channels))
    budget = ground.settings.features_of(ground.dataset.name, ground.benchmark.window).prompt_budget_mb
    about = {
        "setup": setup,
        "data": ground.data_hash,
        "fixed": made.fixed,
        "fixed_ids": list(made.fixed_ids),
        "stored": size <= budget,
    }
    metadata: dict[str, Any] = {
        "same for all": f"{len(made.fixed_ids)} tokens: {made.fixed}",
        "token ids": f"made when needed: up to {size:.0f} MiB is above prompt_budget_mb = {budget:g}",
        **column_lineage("prompts"),
    }
    frame = pl.DataFrame()
    with work.folder() as folder:
        write_text(folder / ABOUT, to_json(about))
        if about["stored"]:
            rows = write_parquet(folder / PROMPTS, told_rows(made, data.values, channels, work.key))
            frame = read_parquet(folder / PROMPTS)
            metadata |= {
                "dagster/row_count": rows,
                "token ids": f"stored, {rows} rows",
                "tokens, mean": float(frame["tokens"].mean()),  # type: ignore[arg-type]
                "an example": f"{made.fixed} {frame['facts'][rows // 2]}",
            }
        given = {
            "stored": about["stored"],
            "channels": channels,
            "window": data.window,
            "steps": len(data),
            "shortest": len(made.fixed_ids),
            "longest": made.longest,
            "last_id": vocabulary - 1,
        }
        contract = work.require(validate("prompts", frame, given))
    return Made(metadata=metadata, contracts=[contract])


def _prompter(ground: Any) -> tuple[Any, str, int]:
    """What makes the prompts of SHARED, the hash of all they follow from beside the series, and V."""
    from wavecore.model import backbone as language
    from wavecore.model.build import model_settings, prompter
    from wavecore.model.settings import TimeLLMSettings
    from wavecore.prompt.stored import setup_of

    settings = model_settings(get_stage(SHARED), ground.settings, ground.benchmark.name)
    assert isinstance(settings, TimeLLMSettings)
    source = language.find(settings.backbone)
    made = prompter(ground.geometry, settings)
    assert made is not None
    return made, setup_of(made, language.identity(source)), source.vocabulary


def told_rows(made: Any, values: Any, channels: tuple[str, ...], benchmark: str) -> Iterator[dict[str, Any]]:
    """The table of all windows of a standardized series [n, N], some rows at a time."""
    import numpy as np
    import pyarrow as pa
    from tqdm import tqdm

    from wavecore.prompt.stored import tell

    names, same, end = np.array(channels), len(made.fixed_ids), len(made.fixed)
    windows = len(values) - made.subject.window + 1
    with tqdm(total=windows, desc=f"{benchmark}: prompts", unit="window", disable=None) as bar:
        for some in tell(made, values):
            yield {
                "window": some.window,
                "start": some.window,
                "channel": names[some.channel],
                "facts": pa.array([p.text[end:].strip() for p in some.prompts], pa.string()),
                "tokens": np.array([same + len(ids) for ids in some.facts], dtype=np.int32),
                "ids": pa.array(some.facts, pa.list_(pa.int32())),
            }
            bar.update(len(some.window) // len(names))
