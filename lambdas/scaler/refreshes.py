"""Instance refreshes that are under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.scaler import groups
from lambdas.scaler.groups import Group

if TYPE_CHECKING:
    from types_boto3_autoscaling import AutoScalingClient

UNDER_WAY = frozenset({"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"})
"""https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html"""


def refreshed_types(autoscaling: AutoScalingClient, group: Group) -> tuple[str, ...] | None:
    """Types that a refresh under way brings; None without one.

    The group's own overrides follow only when the refresh has succeeded:
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html. Raises botocore's errors: a
    second refresh must not be decided blindly.
    """
    answer = autoscaling.describe_instance_refreshes(AutoScalingGroupName=group.name, MaxRecords=1)
    for refresh in answer["InstanceRefreshes"]:
        if refresh.get("Status") in UNDER_WAY:
            return groups.types_of(refresh.get("DesiredConfiguration", {}).get("MixedInstancesPolicy")) or group.types
    return None
