"""Spot: a rebalance recommendation, an interruption notice, and the loss of the instance two minutes later."""

from __future__ import annotations

from gpu_fleet.emulator.cloud_world import Change
from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.event_rules import EventBus
from gpu_fleet.emulator.lifelike.lifecycle import FAILED_EC2_CHECK, GroupInstance, Lifecycle

DIFFERENCE = Difference(
    name="spot interruption",
    moto="spot instances live forever",
    aws=(
        "EC2 gives a notice two minutes before it takes a spot instance, sometimes a recommendation before that; "
        "the group replaces the instance once it is gone"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-capacity-rebalancing.html"
    ),
)

NOTICE_SECONDS = 120.0


def interrupt(lifecycle: Lifecycle, bus: EventBus, instance_id: str) -> None:
    """Send a spot instance's interruption notice now, and take it in two minutes with its running requests.

    Raises ValueError for an instance that does not exist or is not spot.
    """
    member = _spot_member(lifecycle, instance_id)
    lifecycle.notify(member, Change.INTERRUPTION_NOTICE)
    bus.send("EC2 Spot Instance Interruption Warning", instance_id, **{"instance-action": "terminate"})
    lifecycle.world.call_later(NOTICE_SECONDS, lambda: lifecycle.lose(member, FAILED_EC2_CHECK))


def recommend(lifecycle: Lifecycle, bus: EventBus, instance_id: str) -> None:
    """Send a rebalance recommendation for a spot instance; nothing else happens.

    Raises ValueError for an instance that does not exist or is not spot.
    """
    _spot_member(lifecycle, instance_id)
    bus.send("EC2 Instance Rebalance Recommendation", instance_id)


def _spot_member(lifecycle: Lifecycle, instance_id: str) -> GroupInstance:
    member = lifecycle.members.get(instance_id)
    if member is None or not member.spot:
        raise ValueError(f"{instance_id}: is no spot instance of a group")
    return member
