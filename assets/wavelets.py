"""wavelet_coefficients: what the bands of every window hold, and what that says."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.lineage import column_lineage
from assets.partitions import DATASET_TO_FEATURES, FEATURES
from assets.producing import Made, Work, check_specs, produce
from assets.versions import Versions


@dg.asset(
    partitions_def=FEATURES,
    deps=["windows", dg.AssetDep("series", partition_mapping=DATASET_TO_FEATURES)],
    group_name="features",
    kinds={"parquet"},
    description=(
        "Per window and channel: the coefficients A_J, D_J … D_1 up to a size budget (above it they are computed when "
        "needed, by the same function), and always energy share, entropy, dominant period and bursts."
    ),
    check_specs=check_specs("wavelet_coefficients", "wavelets"),
)
def wavelet_coefficients(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> Iterator[Any]:
    yield from produce(context, versions, _wavelets)


def _wavelets(work: Work) -> Made:
    import numpy as np

    from assets import figures
    from assets.tables import COEFFICIENTS, STATISTICS, borders_of, load_series, read_parquet, write_parquet
    from data_contracts.contracts import validate
    from wavecore.series import features
    from wavecore.series.normalize import Scaler
    from wavecore.wavelet.transform import bands

    dataset, benchmark = work.project.feature_keys()[work.key]
    settings = work.project.settings().features_of(dataset.name, benchmark.window)
    arrays = load_series(work.project, dataset.name)
    borders = borders_of(work.project, dataset, benchmark, arrays.rows, horizon=1)
    scaler = Scaler.fit(arrays, borders.train)
    names = np.array(arrays.channels)

    def named(chunks: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
        for chunk in chunks:
            rest = {k: v for k, v in chunk.items() if k not in ("start", "channel")}
            yield {"window": chunk["start"], "channel": names[chunk["channel"]], "start": chunk["start"], **rest}

    size = features.stored_mb(arrays, benchmark.window, settings)
    stored = size <= settings.coefficient_budget_mb
    with work.folder() as folder:
        rows = write_parquet(
            folder / STATISTICS, named(features.wavelet_features(arrays, scaler, benchmark.window, settings))
        )
        if stored:
            write_parquet(
                folder / COEFFICIENTS, named(features.wavelet_coefficients(arrays, scaler, benchmark.window, settings))
            )
        frame = read_parquet(folder / STATISTICS)
        contract = work.require(
            validate(
                "wavelets",
                frame,
                {
                    "channels": arrays.channels,
                    "window": benchmark.window,
                    "steps": arrays.rows,
                    "levels": settings.levels,
                },
            )
        )
    kinds = bands(settings.levels)
    shares = np.stack(frame["energy_share"].to_list()).reshape(-1, len(names), len(kinds)).mean(axis=0)
    kept = (
        f"stored, {size:.1f} MiB"
        if stored
        else (
            f"computed when needed: {size:.0f} MiB is above coefficient_budget_mb = {settings.coefficient_budget_mb:g}"
        )
    )
    return Made(
        metadata={
            "dagster/row_count": rows,
            "wavelet": f"{settings.wavelet}, {settings.mode}, {settings.levels} levels",
            "coefficients": kept,
            "bands": ", ".join(kinds),
            "mean entropy": float(frame["entropy"].mean()),  # type: ignore[arg-type]
            "windows with bursts": float((frame["burst_count"] > 0).mean()),  # type: ignore[arg-type]
            "energy": dg.MetadataValue.md(
                figures.energy_by_channel(names.tolist(), kinds, shares).markdown(
                    "mean share of a window's energy per band"
                )
            ),
            **column_lineage("wavelet_coefficients"),
        },
        contracts=[contract],
    )
