"""Target groups: attributes that AWS takes and refuses."""

from __future__ import annotations

from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import ELBClientError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="attributes of target groups",
    moto="refuses a deregistration delay of 3600 seconds; takes any slow start, and one with any algorithm",
    aws=(
        "the deregistration delay is 0 to 3600 seconds; slow start is 0 or 30 to 900, and not with least outstanding "
        "requests or weighted random"
    ),
    source="https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html",
)

_DELAY, _SLOW, _ALGORITHM = (
    "deregistration_delay.timeout_seconds", "slow_start.duration_seconds", "load_balancing.algorithm.type",
)  # fmt: skip


def mend(patches: Patches) -> None:
    """Check before moto acts."""

    def modify_target_group_attributes(self: Any, target_group_arn: str, attributes: dict[str, str]) -> None:
        group = self.target_groups.get(target_group_arn)
        after = {**(group.attributes if group else {}), **attributes}
        slow = int(after.get(_SLOW) or 0)
        if slow and not 30 <= slow <= 900:
            raise ELBClientError(
                "ValidationError", f"'{_SLOW}' value '{slow}' must be between '30-900' inclusive, or '0' to disable"
            )
        if slow and after.get(_ALGORITHM) in ("least_outstanding_requests", "weighted_random"):
            raise ELBClientError(
                "InvalidConfigurationRequest",
                f"Slow start cannot be enabled with the routing algorithm '{after[_ALGORITHM]}'",
            )
        longest = attributes.get(_DELAY) == "3600"
        moto_modify(self, target_group_arn, {**attributes, _DELAY: "3599"} if longest else attributes)
        if longest:
            self.target_groups[target_group_arn].attributes[_DELAY] = "3600"

    moto_modify = patches.put(models.ELBv2Backend, "modify_target_group_attributes", modify_target_group_attributes)
