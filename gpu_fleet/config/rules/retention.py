"""How long logs are kept."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.settings import LOG_RETENTION_DAYS, StackSettings


def problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """CloudWatch Logs keeps logs for certain numbers of days alone."""
    days = settings.scaler.log_retention_days
    if days not in LOG_RETENTION_DAYS:
        near = min(LOG_RETENTION_DAYS, key=lambda offered: abs(offered - days))
        yield PlanProblem(
            ("scaler", "log_retention_days"),
            f"must be a number of days that CloudWatch Logs offers, like {near} (got {days})",
        )
