"""Spot: a recommendation to rebalance, a notice of interruption, and two minutes later the instance is gone."""

from __future__ import annotations

from gpu_fleet.emulator.cloud_world import Change
from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.event_rules import EventBus
from gpu_fleet.emulator.lifelike.lifecycle import GroupInstance, Lifecycle

DIFFERENCE = Difference(
    name="spot interruption",
    moto="spot instances live for ever",
    aws=(
        "EC2 gives a notice two minutes before it takes a spot instance, and at times a recommendation before that; "
        "the group makes it up once the instance is gone"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-capacity-rebalancing.html"
    ),
)

NOTICE_SECONDS = 120.0


def interrupt(lifecycle: Lifecycle, bus: EventBus, instance_id: str) -> None:
    """Give notice to a spot instance now: an event to whoever listens, and in two minutes it is gone, with whatever it
    still had. Raises ValueError for an instance that is not there or not spot.
    """
    member = _spot(lifecycle, instance_id)
    lifecycle.tell(member, Change.INTERRUPTION_NOTICE)
    bus.send("EC2 Spot Instance Interruption Warning", instance_id, **{"instance-action": "terminate"})
    lifecycle.world.after(
        NOTICE_SECONDS,
        lambda: lifecycle.vanish(member, "an EC2 health check that indicated it has been terminated or stopped"),
    )


def recommend(lifecycle: Lifecycle, bus: EventBus, instance_id: str) -> None:
    """Recommend to move away from a spot instance: an event, and nothing else. Raises ValueError as `interrupt`."""
    _spot(lifecycle, instance_id)
    bus.send("EC2 Instance Rebalance Recommendation", instance_id)


def _spot(lifecycle: Lifecycle, instance_id: str) -> GroupInstance:
    member = lifecycle.members.get(instance_id)
    if member is None or not member.spot:
        raise ValueError(f"{instance_id}: is no spot instance of a group")
    return member
