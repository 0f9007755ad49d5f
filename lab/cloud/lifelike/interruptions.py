"""Spot interruptions: a notice, two minutes, and the instance is gone."""

from __future__ import annotations

from lab.cloud.lifelike.difference import Difference
from lab.cloud.lifelike.lifecycle import Lifecycle
from lab.cloud.world import Change

DIFFERENCE = Difference(
    name="spot interruption",
    moto="spot instances live for ever",
    aws="EC2 gives a notice two minutes before it takes a spot instance; the group makes it up",
    source="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html",
)

NOTICE_SECONDS = 120.0


def interrupt(lifecycle: Lifecycle, instance_id: str) -> None:
    """Give notice to a spot instance now.

    An instance that answers has its agent take it out of its group at once (it drains, and another is launched); in two
    minutes it is gone, with whatever it still had. Raises ValueError for an instance that is not there or not spot.
    """
    member = lifecycle.members.get(instance_id)
    if member is None or not member.spot:
        raise ValueError(f"{instance_id}: is no spot instance of a group")
    lifecycle.tell(member, Change.INTERRUPTION_NOTICE)
    if member.answers and member.lifecycle_state == "InService":
        cause = "an instance was taken out of service in response to a user request."
        lifecycle.terminate(member, cause)
        lifecycle.wants(member.auto_scaling_group)
    lifecycle.world.after(
        NOTICE_SECONDS,
        lambda: lifecycle.vanish(member, "an EC2 health check that indicated it has been terminated or stopped"),
    )
