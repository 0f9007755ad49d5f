"""Retention of logs."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import LOG_RETENTION_DAYS, StackSettings


def problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that CloudWatch Logs offers this number of days."""
    days = settings.scaler.log_retention_days
    if days not in LOG_RETENTION_DAYS:
        nearest = min(LOG_RETENTION_DAYS, key=lambda offered: abs(offered - days))
        yield PlanProblem(
            ("scaler", "log_retention_days"),
            f"must be a number of days that CloudWatch Logs offers, like {nearest} (got {days})",
        )
