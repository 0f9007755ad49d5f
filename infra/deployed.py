"""The stack as the last update left it.

The last update's outputs name the listener rules, target groups and subnets; AWS knows the rules' current weights and
priorities. The program declares the weights that it reads here, because no Pulumi option leaves them alone when pools
come and go: docs/decisions/0001-who-owns-capacity-and-weights.md explains why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi.runtime.sync_await import _sync_await

EXPORT = "stands"
"""The stack output that `read` reads at the next update; `infra.stack` writes it."""

_RULE = "aws:lb/getListenerRule:getListenerRule"
"""https://www.pulumi.com/registry/packages/aws/api-docs/lb/getlistenerrule/"""
_INSTANCES = "aws:ec2/getInstances:getInstances"
"""https://www.pulumi.com/registry/packages/aws/api-docs/ec2/getinstances/"""


class UnreadableError(RuntimeError):
    """The deployed stack cannot be read. An update that does not know it could move traffic."""


@dataclass(frozen=True, slots=True)
class DeployedRule:
    """A listener rule as AWS has it now."""

    priority: int
    weights: Mapping[str, int]
    """By target group ARN, 0 to 999."""
    sticky: bool = False
    """Whether clients with a cookie stay with their target group."""


@dataclass(frozen=True, slots=True)
class DeployedService:
    """A service of the last update."""

    workload: str
    port: int
    health_path: str
    target_groups: Mapping[str, str] = field(default_factory=dict)
    """ARN by pool; empty for training."""
    rule: DeployedRule | None = None
    """None for training, and if somebody deleted the rule."""
    hash_priorities: Sequence[int] = ()
    """AWS priorities of its rules for digits, in their order; empty without `routing.strategy: hash`."""

    @property
    def weights(self) -> Mapping[str, int]:
        """Current weight of each pool that the rule forwards to."""
        by_arn = self.rule.weights if self.rule else {}
        return {pool: by_arn[arn] for pool, arn in self.target_groups.items() if arn in by_arn}


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack before an update. Before the first update every field is None or empty."""

    region: str | None = None
    internal: bool | None = None
    vpc_id: str | None = None
    vpc_cidr: str | None = None
    """None if the stack uses an existing VPC."""
    services: Mapping[str, DeployedService] = field(default_factory=dict)
    left_behind: Mapping[str, int] = field(default_factory=dict)
    """Number of instances in each zone that the update removes."""


NOT_DEPLOYED = DeployedStack()


def read(zones: Collection[str]) -> DeployedStack:
    """Read the stack from the last update's outputs and from AWS. `zones` are those that the update keeps or adds.

    Raises UnreadableError if AWS does not return a weight or an instance count.
    """
    # After its refresh the engine writes its state. A local backend's file is empty for a moment then; this call first
    # starts the provider, which takes longer.
    aws.get_caller_identity()
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    # A program has no other way to wait for an output before it creates a resource.
    outputs = _sync_await(pulumi.StackReference(name).outputs.future()) or {}
    last = outputs.get(EXPORT)
    if last is None:
        return NOT_DEPLOYED
    return DeployedStack(
        region=last["region"],
        internal=last["internal"],
        vpc_id=last["vpc_id"],
        vpc_cidr=last.get("vpc_cidr"),
        services={service: _read_service(values) for service, values in last["services"].items()},
        left_behind={zone: _count_instances(ids) for zone, ids in last["subnets"].items() if zone not in zones},
    )


def _read_service(values: Mapping[str, Any]) -> DeployedService:
    rule_arn = values.get("rule")
    return DeployedService(
        workload=values["workload"],
        port=int(values["port"]),
        health_path=values["health_path"],
        target_groups=values.get("target_groups") or {},
        rule=_read_rule(rule_arn) if rule_arn else None,
        hash_priorities=tuple(int(priority) for priority in values.get("hash_priorities") or ()),
    )


def _read_rule(arn: str) -> DeployedRule | None:
    """Read the rule from AWS; None if somebody deleted it."""
    try:
        answer = pulumi.runtime.invoke(_RULE, {"arn": arn}).value
    except Exception as error:  # the SDK raises no narrower one
        if "couldn't find resource" in str(error) or "RuleNotFound" in str(error):
            return None
        raise UnreadableError(
            f"the weights of {arn} cannot be read, and an update without them would move traffic: {error}"
        ) from error
    forwards = [forward for action in answer["actions"] or () for forward in _as_list(action.get("forwards"))]
    weights = {
        group["arn"]: int(group["weight"]) for forward in forwards for group in _as_list(forward.get("targetGroups"))
    }
    sticky = any(block.get("enabled") for forward in forwards for block in _as_list(forward.get("stickinesses")))
    return DeployedRule(int(answer["priority"]), weights, sticky)


def _count_instances(subnet_ids: Sequence[str]) -> int:
    states = ["pending", "running", "stopping", "stopped"]
    query = {"filters": [{"name": "subnet-id", "values": [*subnet_ids]}], "instanceStateNames": states}
    try:
        return len(pulumi.runtime.invoke(_INSTANCES, query).value["ids"])
    except Exception as error:  # the SDK raises no narrower one
        raise UnreadableError(f"the instances in {', '.join(subnet_ids)} cannot be read: {error}") from error


def _as_list(block: Any) -> list[Any]:
    """Return a provider's block as a list: some bridges return a block that occurs at most once without its list."""
    if block is None:
        return []
    return block if isinstance(block, list) else [block]
