"""Log groups: valid retention periods, and tags that are deleted with their group."""

from __future__ import annotations

from typing import Any

from moto.logs import models
from moto.logs.exceptions import InvalidParameterException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="log groups",
    moto="accepts any number of days as retention; a new group inherits the tags of a deleted one of the same name",
    aws="retention is one of 22 numbers of days; a deleted group is gone with all that belonged to it",
    source=(
        "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html "
        "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DeleteLogGroup.html"
    ),
)

RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip


def patch_moto(patches: Patches) -> None:
    """Check retention before moto acts, and delete tags with their group."""
    patches.wrap(models.LogsBackend, "put_retention_policy", put_retention_policy)
    patches.wrap(models.LogsBackend, "delete_log_group", delete_log_group)


def put_retention_policy(moto: Any, backend: Any, log_group_name: str, retention_in_days: str) -> None:
    """PutRetentionPolicy with a valid number of days."""
    if int(retention_in_days) not in RETENTION_DAYS:
        raise InvalidParameterException(
            constraint=f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]",
            parameter="retentionInDays",
            value=retention_in_days,
        )
    moto(backend, log_group_name, retention_in_days)


def delete_log_group(moto: Any, backend: Any, log_group_name: str) -> None:
    """DeleteLogGroup with its tags."""
    group = backend.groups.get(log_group_name)
    moto(backend, log_group_name)
    for arn in (group.arn, group.arn.removesuffix(":*")):
        backend.tagger.delete_all_tags_for_resource(arn)
