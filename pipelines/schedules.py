"""Runs that start by name or by the calendar: the demo job, and weekly retraining. Both call the driver."""

from collections.abc import Iterator

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import owner
from wavecore.errors import SettingsError


@dg.op(description="Brings the benchmark `demo` with the default stages up to date, from raw file to report.")
def drive_demo(context: dg.OpExecutionContext) -> None:
    _drive(context, ("demo",))


@dg.op(description="Brings the default matrix of params.yaml up to date with new data and settings.")
def drive_default_matrix(context: dg.OpExecutionContext) -> None:
    _drive(context, Project.find().settings().pipeline.benchmarks)


def _drive(context: dg.OpExecutionContext, benchmarks: tuple[str, ...]) -> None:
    from pipelines.driver import drive

    # Should this process die, the next start marks the run as failed by this tag.
    context.instance.add_run_tags(context.run_id, {PROCESS_TAG: owner()})
    project = Project.find()
    outcome = drive(project, benchmarks, project.settings().pipeline.stages, say=context.log.info)
    context.add_output_metadata({"ran": outcome.ran, "up to date": outcome.fresh})


@dg.job(description="The generated benchmark `demo`, from raw file to report: minutes, no network.")
def demo() -> None:
    drive_demo()


@dg.job(description="The default matrix of params.yaml, from raw file to report; what is up to date is left alone.")
def retrain() -> None:
    drive_default_matrix()


def weekly() -> dg.ScheduleDefinition:
    """The retraining schedule as params.yaml has it; off until switched on there or in the UI."""
    settings = Project.find().settings().pipeline.schedule
    if not is_valid_cron_schedule(settings.cron):
        raise SettingsError(
            f"params.yaml: pipeline.schedule.cron: {settings.cron!r} is no cron expression of five fields",
            'write one such as "0 3 * * 1" (Mondays at 03:00)',
        )
    status = dg.DefaultScheduleStatus.RUNNING if settings.enabled else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="weekly_retraining",
        job=retrain,
        cron_schedule=settings.cron,
        execution_timezone=settings.timezone,
        default_status=status,
        description="Retrains the default matrix (`pipeline.schedule` in params.yaml).",
    )
    def weekly_retraining(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        # The key makes a tick that is evaluated twice start one run.
        yield dg.RunRequest(run_key=f"retrain {context.scheduled_execution_time:%Y-%m-%dT%H:%M}")

    return weekly_retraining
