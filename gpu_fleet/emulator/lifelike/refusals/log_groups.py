"""Log groups: retention, and tags that go with their group."""

from __future__ import annotations

from typing import Any

from moto.logs import models
from moto.logs.exceptions import InvalidParameterException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="log groups",
    moto="takes any number of days as retention; a new group of an old name has the deleted one's tags",
    aws="retention is one of some twenty numbers of days; a deleted group is gone with all that belonged to it",
    source=(
        "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html "
        "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DeleteLogGroup.html"
    ),
)

RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip


def mend(patches: Patches) -> None:
    """Check before moto acts, and let the tags go."""

    def put_retention_policy(self: Any, log_group_name: str, retention_in_days: str) -> None:
        if int(retention_in_days) not in RETENTION_DAYS:
            raise InvalidParameterException(
                constraint=f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]",
                parameter="retentionInDays",
                value=retention_in_days,
            )
        moto_retain(self, log_group_name, retention_in_days)

    def delete_log_group(self: Any, log_group_name: str) -> None:
        group = self.groups.get(log_group_name)
        moto_delete(self, log_group_name)
        for arn in (group.arn, group.arn.removesuffix(":*")):
            self.tagger.delete_all_tags_for_resource(arn)

    backend = models.LogsBackend
    moto_retain = patches.put(backend, "put_retention_policy", put_retention_policy)
    moto_delete = patches.put(backend, "delete_log_group", delete_log_group)
