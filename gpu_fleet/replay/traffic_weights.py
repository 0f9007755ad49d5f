"""How the load balancer shares a service's requests: its listener rules' weights, its target groups' algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.config.settings import Algorithm
from gpu_fleet.emulator import EmbeddedCloud
from gpu_fleet.scaling.hashing import digit_weights


class TrafficWeights:
    """The weights by pool, as the listener rule has them."""

    def __init__(self, cloud: EmbeddedCloud, bindings: Mapping[str, Any]) -> None:
        """`bindings` are those of the service's parameter."""
        self._cloud = cloud
        self._arn = bindings["listener_rule_arn"]
        self._arns_by_digit: list[str] = bindings.get("hash_rule_arns", [])
        self._target_groups = {name: pool["target_group_arn"] for name, pool in bindings["pools"].items()}

    def read(self) -> dict[str, int]:
        """Return the weights as the rule has them now; 0 for a pool that it does not name."""
        return self._read(self._arn)

    def read_by_digit(self) -> list[dict[str, int]]:
        """Return the weights in the rule of each digit; empty without hashing."""
        return [self._read(arn) for arn in self._arns_by_digit]

    def write(self, weights: Mapping[str, int]) -> None:
        """Write the weights, and those of the digits that follow; a pool that is not named gets 0."""
        whole = {name: weights.get(name, 0) for name in self._target_groups}
        self._write(self._arn, whole)
        for arn, of_digit in zip(self._arns_by_digit, digit_weights(whole), strict=False):
            self._write(arn, of_digit)

    @property
    def algorithm(self) -> Algorithm:
        """How the target groups choose an instance."""
        arn = next(iter(self._target_groups.values()))
        answer = self._cloud.client("elbv2").describe_target_group_attributes(TargetGroupArn=arn)
        attributes = {one["Key"]: one["Value"] for one in answer["Attributes"]}
        return Algorithm(attributes["load_balancing.algorithm.type"])

    def _read(self, arn: str) -> dict[str, int]:
        by_arn = {one["TargetGroupArn"]: int(one["Weight"]) for one in self._forward(arn)["TargetGroups"]}
        return {name: by_arn.get(group, 0) for name, group in self._target_groups.items()}

    def _write(self, arn: str, weights: Mapping[str, int]) -> None:
        target_groups = [
            {"TargetGroupArn": group, "Weight": weights[name]} for name, group in self._target_groups.items()
        ]
        forward = {**self._forward(arn), "TargetGroups": target_groups}
        self._cloud.client("elbv2").modify_rule(RuleArn=arn, Actions=[{"Type": "forward", "ForwardConfig": forward}])

    def _forward(self, arn: str) -> Mapping[str, Any]:
        (rule,) = self._cloud.client("elbv2").describe_rules(RuleArns=[arn])["Rules"]
        return next(action for action in rule["Actions"] if action["Type"] == "forward")["ForwardConfig"]
