"""What Dagster loads: assets with their checks, jobs and the schedule."""

from __future__ import annotations

import dagster as dg

from assets.evaluation import evaluation
from assets.model import model
from assets.online import online_evaluation
from assets.prompt_ids import prompts
from assets.prompts import prompt_statistics
from assets.raw import raw_series
from assets.report import comparison, leaderboard, report
from assets.series import series
from assets.splits import splits
from assets.wavelets import wavelet_coefficients
from assets.windows import windows
from pipelines.dvc import DvcVersions
from pipelines.schedules import demo, retrain, weekly

defs = dg.Definitions(
    assets=[
        raw_series,
        series,
        windows,
        wavelet_coefficients,
        prompt_statistics,
        splits,
        prompts,
        model,
        evaluation,
        online_evaluation,
        comparison,
        leaderboard,
        report,
    ],
    jobs=[demo, retrain],
    schedules=[weekly()],
    resources={"versions": DvcVersions()},
    # One process per run: a process per step would import torch anew each time.
    executor=dg.in_process_executor,
)
