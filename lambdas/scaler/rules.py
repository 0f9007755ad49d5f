"""Listener rules: their weights, and their actions with other weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.policy import MAX_WEIGHT
from gpu_fleet.scaling.service import MAX_POOLS
from lambdas.scaler.batches import batches
from lambdas.scaler.bindings import Bindings
from lambdas.scaler.result import ErrorCode, Fault, error_code

if TYPE_CHECKING:
    from types_boto3_elbv2 import ElasticLoadBalancingv2Client

RULES_PER_CALL = 20


@dataclass(frozen=True, slots=True)
class Stickiness:
    """Whether a session stays with its target group."""

    enabled: bool
    seconds: int = 3600


@dataclass(frozen=True, slots=True)
class Rule:
    """One listener rule."""

    arn: str
    actions: tuple[Mapping[str, Any], ...]
    by_digit: Mapping[int, Rule] = field(default_factory=dict)
    """Of a service's own rule: those that come before it, by the digit that a client's header ends in."""

    @property
    def weights(self) -> Mapping[str, int]:
        """Weights by target group ARN; empty for a rule that does not forward."""
        forward = self._forward()
        if forward is None:
            return {}
        if "ForwardConfig" not in forward:
            return {forward["TargetGroupArn"]: 1}
        # A missing weight is 1 (API_TargetGroupTuple).
        return {t["TargetGroupArn"]: t.get("Weight", 1) for t in forward["ForwardConfig"].get("TargetGroups", [])}

    @property
    def stickiness(self) -> Stickiness:
        """Stickiness of the forward action."""
        config = (self._forward() or {}).get("ForwardConfig", {}).get("TargetGroupStickinessConfig", {})
        return Stickiness(config.get("Enabled", False), config.get("DurationSeconds", 3600))

    def with_weights(self, weights: Mapping[str, int], stickiness: Stickiness) -> list[dict[str, Any]]:
        """Return all actions of the rule with these weights: ModifyRule replaces the whole list.

        Keeps authentication before the forward action, and target groups without a new weight: one may belong to a pool
        that has just been added. Raises ValueError if AWS would refuse the action.
        """
        forward = self._forward()
        if forward is None:
            raise ValueError(f"{self.arn}: has no forward action")
        merged = {**self.weights, **weights}
        if len(merged) > MAX_POOLS:
            raise ValueError(f"{self.arn}: must forward to at most {MAX_POOLS} target groups (got {len(merged)})")
        for arn, weight in merged.items():
            if not 0 <= weight <= MAX_WEIGHT:
                raise ValueError(f"{arn}: weight must be 0 to {MAX_WEIGHT} (got {weight})")
        config: dict[str, Any] = {
            "TargetGroups": [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in merged.items()],
            "TargetGroupStickinessConfig": (
                {"Enabled": True, "DurationSeconds": stickiness.seconds} if stickiness.enabled else {"Enabled": False}
            ),
        }
        # AWS refuses the short form TargetGroupArn beside several target groups.
        kept = {key: value for key, value in forward.items() if key != "TargetGroupArn"}
        return [{**kept, "ForwardConfig": config} if action is forward else dict(action) for action in self.actions]

    def _forward(self) -> Mapping[str, Any] | None:
        return next((action for action in self.actions if action["Type"] == "forward"), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules and faults of those that could not be described, both by ARN."""

    found: Mapping[str, Rule]
    faults: Mapping[str, Fault]

    def service(self, bindings: Bindings) -> Rule | None:
        """Return the service's own rule with those for digits, as far as they were found."""
        rule = self.found.get(bindings.listener_rule_arn or "")
        by_digit = {d: self.found[arn] for d, arn in enumerate(bindings.hash_rule_arns) if arn in self.found}
        return None if rule is None else replace(rule, by_digit=by_digit)


def describe(elbv2: ElasticLoadBalancingv2Client, arns: Iterable[str]) -> Rules:
    """Describe the rules, 20 a call. If one is gone, its call fails, and that call's rules are described one by one."""
    wanted = sorted(set(arns))
    found: dict[str, Rule] = {}
    faults: dict[str, Fault] = {}
    for batch in batches(wanted, RULES_PER_CALL):
        try:
            found |= _call(elbv2, batch)
        except (ClientError, BotoCoreError) as error:
            if not _is_gone(error) or len(batch) == 1:
                faults |= dict.fromkeys(batch, _fault(error, batch[0]))
                continue
            for arn in batch:
                try:
                    found |= _call(elbv2, [arn])
                except (ClientError, BotoCoreError) as single:
                    faults[arn] = _fault(single, arn)
    for arn in wanted:
        if arn not in found and arn not in faults:
            faults[arn] = Fault(ErrorCode.UNKNOWN_RULE, f"{arn}: no such listener rule")
    return Rules(found, faults)


def _call(elbv2: ElasticLoadBalancingv2Client, arns: list[str]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for page in elbv2.get_paginator("describe_rules").paginate(RuleArns=arns):
        for rule in page["Rules"]:
            rules[rule.get("RuleArn", "")] = Rule(rule.get("RuleArn", ""), tuple(rule.get("Actions", [])))  # type: ignore[arg-type]
    return rules


def _is_gone(error: Exception) -> bool:
    return error_code(error) == "RuleNotFound"


def _fault(error: Exception, arn: str) -> Fault:
    if _is_gone(error):
        return Fault(ErrorCode.UNKNOWN_RULE, f"{arn}: no such listener rule", "DescribeRules")
    return Fault.of(error, "DescribeRules")
