"""EventBridge delivers EC2's events to the functions that a rule targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from moto.events.models import events_backends

from gpu_fleet.emulator.invocation import may_invoke
from gpu_fleet.emulator.lifelike.difference import Difference

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld, Location

DIFFERENCE = Difference(
    name="events of EC2",
    moto="EC2 sends EventBridge no events about its instances",
    aws="EC2's notices about spot instances reach the targets of every matching rule of the default bus",
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html "
        "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events.html"
    ),
)

PRINCIPAL = "events.amazonaws.com"
DELIVERY_SECONDS = 1.0
"""From an event to the function's run. AWS gives no figure; about half a second is usual."""

Function = Callable[[Mapping[str, Any]], None]


class EventBus:
    """The default bus of one account and region."""

    def __init__(self, world: CloudWorld, location: Location) -> None:
        """Create a bus without functions."""
        self._world, self._location = world, location
        self.functions: dict[str, Function] = {}
        """The code of each function, by its ARN; events for other functions are lost."""

    def send(self, detail_type: str, instance_id: str, **detail: str) -> None:
        """Send an EC2 event about an instance to every enabled rule that matches it."""
        account, region = self._location
        event: Any = {
            "version": "0",
            "id": f"{self._world.random.getrandbits(128):032x}",
            "detail-type": detail_type,
            "source": "aws.ec2",
            "account": account,
            "time": datetime.fromtimestamp(self._world.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [f"arn:aws:ec2:{region}:{account}:instance/{instance_id}"],
            "detail": {"instance-id": instance_id, **detail},
        }
        for rule in events_backends[account][region].event_buses["default"].rules.values():
            if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
                continue
            for target in rule.targets:
                self._deliver(event, rule.arn, target["Arn"])

    def _deliver(self, event: Mapping[str, Any], rule_arn: str, function_arn: str) -> None:
        function = self.functions.get(function_arn)
        client = boto3.client("lambda", region_name=self._location.region)
        if function is not None and may_invoke(client, function_arn, PRINCIPAL, rule_arn):
            self._world.call_later(DELIVERY_SECONDS, lambda: function(event))
