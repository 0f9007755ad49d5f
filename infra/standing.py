"""What stands before an update, as far as the update must know it.

The last update's outputs tell which rules, target groups and subnets there are; AWS tells the weights and priorities
that the rules have now. The program declares the weights that it finds, because no option of Pulumi leaves them alone
when pools come and go: docs/decisions/0001-who-owns-capacity-and-weights.md tells why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi.runtime.sync_await import _sync_await

EXPORT = "stands"
"""The stack's output that `read` reads at the next update; `infra.stack` writes it."""

_RULE = "aws:lb/getListenerRule:getListenerRule"
"""https://www.pulumi.com/registry/packages/aws/api-docs/lb/getlistenerrule/"""
_INSTANCES = "aws:ec2/getInstances:getInstances"
"""https://www.pulumi.com/registry/packages/aws/api-docs/ec2/getinstances/"""


class UnreadableError(RuntimeError):
    """What stands could not be read; an update that knows nothing of it could move traffic."""


@dataclass(frozen=True, slots=True)
class StandingRule:
    """A listener rule as AWS has it now."""

    priority: int
    weights: Mapping[str, int]
    """By target group ARN, 0 to 999."""


@dataclass(frozen=True, slots=True)
class StandingService:
    """A service of the last update."""

    workload: str
    port: int
    health_path: str
    target_groups: Mapping[str, str] = field(default_factory=dict)
    """ARN by pool; empty for training."""
    rule: StandingRule | None = None
    """None for training, and where somebody has deleted it."""

    @property
    def weights(self) -> Mapping[str, int]:
        """The weight of each pool that the rule forwards to."""
        have = self.rule.weights if self.rule else {}
        return {pool: have[arn] for pool, arn in self.target_groups.items() if arn in have}


@dataclass(frozen=True, slots=True)
class Standing:
    """A stack before an update; everything is None or empty before the first one."""

    region: str | None = None
    internal: bool | None = None
    vpc_id: str | None = None
    vpc_cidr: str | None = None
    """None where the stack stands in a given VPC."""
    services: Mapping[str, StandingService] = field(default_factory=dict)
    left_behind: Mapping[str, int] = field(default_factory=dict)
    """Instances in zones that the update takes away, by zone."""


NOTHING = Standing()


def read(zones: Collection[str]) -> Standing:
    """What the last update and AWS say of this stack at this moment. `zones` are those that it will stand in.

    Raises UnreadableError when what it needs of AWS cannot be read.
    """
    # The engine has just written its state, after the refresh. A local backend's file is empty for a moment then, and
    # the provider, which must start first, is the longer way.
    aws.get_caller_identity()
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    # A program has no other way to wait for an output before it makes anything.
    outputs = _sync_await(pulumi.StackReference(name).outputs.future()) or {}
    told = outputs.get(EXPORT)
    if told is None:
        return NOTHING
    return Standing(
        region=told["region"],
        internal=told["internal"],
        vpc_id=told["vpc_id"],
        vpc_cidr=told.get("vpc_cidr"),
        services={service: _service(values) for service, values in told["services"].items()},
        left_behind={zone: _count_instances(ids) for zone, ids in told["subnets"].items() if zone not in zones},
    )


def _service(values: Mapping[str, Any]) -> StandingService:
    rule = values.get("rule")
    return StandingService(
        workload=values["workload"],
        port=int(values["port"]),
        health_path=values["health_path"],
        target_groups=values.get("target_groups") or {},
        rule=_read_rule(rule) if rule else None,
    )


def _read_rule(arn: str) -> StandingRule | None:
    """The rule as AWS has it; None where somebody has deleted it."""
    try:
        answer = pulumi.runtime.invoke(_RULE, {"arn": arn}).value
    except Exception as error:  # the SDK raises no narrower one
        if "couldn't find resource" in str(error) or "RuleNotFound" in str(error):
            return None
        raise UnreadableError(
            f"the weights of {arn} cannot be read, and an update without them would move traffic: {error}"
        ) from error
    weights = {
        group["arn"]: int(group["weight"])
        for action in answer["actions"] or ()
        for forward in _each(action.get("forwards"))
        for group in _each(forward.get("targetGroups"))
    }
    return StandingRule(int(answer["priority"]), weights)


def _count_instances(subnet_ids: Sequence[str]) -> int:
    states = ["pending", "running", "stopping", "stopped"]
    asked = {"filters": [{"name": "subnet-id", "values": [*subnet_ids]}], "instanceStateNames": states}
    try:
        return len(pulumi.runtime.invoke(_INSTANCES, asked).value["ids"])
    except Exception as error:  # the SDK raises no narrower one
        raise UnreadableError(f"the instances in {', '.join(subnet_ids)} cannot be read: {error}") from error


def _each(value: Any) -> list[Any]:
    """A block of the provider, which some bridges give as a list and some, where there is one at most, as itself."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
