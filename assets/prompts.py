"""prompt_statistics: the numbers that a prompt can tell about a window, in the units the model sees."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import FEATURES
from assets.producing import Made, Work, check_specs, produce
from assets.versions import Versions


@dg.asset(
    partitions_def=FEATURES,
    deps=["windows", "wavelet_coefficients"],
    group_name="features",
    kinds={"parquet"},
    description=(
        "Per window and channel: min, max, median and trend of the instance-normalized window, its lags, and the "
        "wavelet statistics beside them. Models make their prompts with the same functions."
    ),
    check_specs=check_specs("prompt_statistics", "prompt_statistics"),
)
def prompt_statistics(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _prompts)


def _prompts(work: Work) -> Made:
    from assets.tables import STATISTICS, WINDOWS, load_series, read_parquet, row_groups, write_parquet
    from data_contracts.contracts import validate

    dataset, benchmark = work.project.feature_keys()[work.key]
    settings = work.project.settings().features_of(dataset.name, benchmark.window)
    windows = work.project.features("windows", work.key) / WINDOWS
    wavelets = work.project.features("wavelets", work.key) / STATISTICS

    def chunks() -> Iterator[dict[str, Any]]:
        # Both tables have the same rows in the same order and in row groups of the same size.
        for left, right in zip(row_groups(windows), row_groups(wavelets), strict=True):
            yield normalized_statistics(left, right)

    with work.folder() as folder:
        rows = write_parquet(folder / STATISTICS, chunks())
        frame = read_parquet(folder / STATISTICS)
        arrays = load_series(work.project, dataset.name)
        contract = work.require(
            validate(
                "prompt_statistics",
                frame,
                {
                    "channels": arrays.channels,
                    "window": benchmark.window,
                    "steps": arrays.rows,
                    "lags": settings.lags,
                },
            )
        )
    lags = frame["lags"].explode()
    period = float(frame["dominant_period"].median())  # type: ignore[arg-type]
    common = lags.filter(lags > 0).value_counts(sort=True).head(5)
    return Made(
        metadata={
            "dagster/row_count": rows,
            "most common lags": ", ".join(f"{lag} ({n})" for lag, n in common.iter_rows()),
            "median dominant period": f"{period:g} steps of {dataset.step}",
            **column_lineage("prompt_statistics"),
        },
        contracts=[contract],
    )


def normalized_statistics(windows: Any, wavelets: Any) -> dict[str, Any]:
    """Prompt statistics of some rows, from the window index (train-standardized units) and the wavelet statistics.

    Normalizing a window maps each of min, max and median to (value − mean)/√(std² + 1e-5) and a difference (trend) to
    difference/√(std² + 1e-5), so they need no second pass over the series.

    Raises:
        StorageError: the two tables are not about the same windows.
    """
    import numpy as np

    from wavecore.errors import StorageError
    from wavecore.series.normalize import instance_normalize

    for name in ("window", "channel"):
        if not windows[name].equals(wavelets[name]):
            raise StorageError(
                f"windows and wavelet_coefficients differ in the column {name!r}",
                "materialize wavelet_coefficients again",
            )
    mean, std = (windows[c].to_numpy() for c in ("mean", "std"))
    found: dict[str, Any] = {c: windows[c].to_numpy() for c in ("window", "channel", "start")}
    for name in ("min", "max", "median"):
        found[name] = instance_normalize(windows[name].to_numpy()[:, None], mean, std)[:, 0]
    found["trend"] = instance_normalize(windows["trend"].to_numpy()[:, None], np.zeros_like(mean), std)[:, 0]
    found["lags"] = np.stack(windows["lags"].to_numpy())
    for name in ("energy_share", "burst_start"):
        found[name] = np.stack(wavelets[name].to_numpy())
    for name in ("entropy", "dominant_band", "dominant_period", "burst_count"):
        found[name] = wavelets[name].to_numpy()
    return found
