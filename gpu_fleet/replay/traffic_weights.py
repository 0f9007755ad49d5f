"""The traffic weights of a service's pools, in the load balancer's listener rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.emulator import EmbeddedCloud


class TrafficWeights:
    """The weights by pool, as the listener rule has them."""

    def __init__(self, cloud: EmbeddedCloud, bindings: Mapping[str, Any]) -> None:
        """`bindings` are those of the service's parameter."""
        self._cloud = cloud
        self._arn = bindings["listener_rule_arn"]
        self._target_groups = {name: pool["target_group_arn"] for name, pool in bindings["pools"].items()}

    def read(self) -> dict[str, int]:
        """Return the weights as the rule has them now; 0 for a pool that it does not name."""
        by_arn = {one["TargetGroupArn"]: int(one["Weight"]) for one in self._forward()["TargetGroups"]}
        return {name: by_arn.get(arn, 0) for name, arn in self._target_groups.items()}

    def write(self, weights: Mapping[str, int]) -> None:
        """Write the weights; a pool that is not named gets 0."""
        target_groups = [
            {"TargetGroupArn": arn, "Weight": weights.get(name, 0)} for name, arn in self._target_groups.items()
        ]
        forward = {**self._forward(), "TargetGroups": target_groups}
        self._cloud.client("elbv2").modify_rule(
            RuleArn=self._arn, Actions=[{"Type": "forward", "ForwardConfig": forward}]
        )

    def _forward(self) -> Mapping[str, Any]:
        (rule,) = self._cloud.client("elbv2").describe_rules(RuleArns=[self._arn])["Rules"]
        return next(action for action in rule["Actions"] if action["Type"] == "forward")["ForwardConfig"]
