"""What stands before an update, as far as the update must know it.

The stack's own state tells which services and rules there are; AWS tells the weights and priorities that the rules
have now. The program declares the weights that it finds, because no option of Pulumi leaves them alone when pools come
and go: docs/decisions/0001-who-owns-capacity-and-weights.md tells why.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pulumi

from infra import naming

_STATE = "pulumi:pulumi:readStackResourceOutputs"
"""Served by the engine itself; the Node SDK calls it `listResourceOutputs`:
https://www.pulumi.com/docs/reference/pkg/nodejs/pulumi/pulumi/runtime/#listResourceOutputs"""
_RULE = "aws:lb/getListenerRule:getListenerRule"
"""https://www.pulumi.com/registry/packages/aws/api-docs/lb/getlistenerrule/"""


_INSTANCES = "aws:ec2/getInstances:getInstances"
"""https://www.pulumi.com/registry/packages/aws/api-docs/ec2/getinstances/"""

Resource: TypeAlias = tuple[str, Mapping[str, Any]]
"""Type and outputs of a resource in the engine's state, in its camelCase."""


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

    target_groups: Mapping[str, str] = field(default_factory=dict)
    """Pool by ARN; empty for training. An interrupted update can leave a pool with two."""
    rule: StandingRule | None = None
    training: bool = False
    port: int | None = None
    health_path: str | None = None

    @property
    def weights(self) -> Mapping[str, int]:
        """The weight of each pool that the rule forwards to."""
        have = self.rule.weights if self.rule else {}
        return {pool: have[arn] for arn, pool in self.target_groups.items() if arn in have}


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
    """What the engine and AWS say of this stack, at the moment of the call. `zones` are those that it will stand in.

    Raises UnreadableError when the state or what it needs of AWS cannot be read.
    """
    found = _read_state(f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}")
    rules = {arn: rule for arn in _arns_of_rules(found) if (rule := _read_rule(arn)) is not None}
    left_behind = {zone: _count_instances(ids) for zone, ids in _subnets(found).items() if zone not in zones}
    return replace(standing(found, rules), left_behind=left_behind)


def standing(resources: Sequence[Resource], rules: Mapping[str, StandingRule]) -> Standing:
    """The same from the resources of the state and the rules by ARN, but for instances. Pure."""
    balancer = next((o for kind, o in resources if kind == "aws:lb/loadBalancer:LoadBalancer"), {})
    vpc = next((o for kind, o in resources if kind == "aws:ec2/vpc:Vpc"), {})
    names = dict.fromkeys(_service_of(outputs) for kind, outputs in resources if kind == "aws:autoscaling/group:Group")
    services = {name: _service(name, resources, rules) for name in names if name is not None}
    return Standing(
        region=str(balancer["arn"]).split(":")[3] if balancer.get("arn") else None,
        internal=balancer.get("internal"),
        vpc_id=balancer.get("vpcId"),
        vpc_cidr=vpc.get("cidrBlock"),
        services=services,
    )


def _read_state(stack: str) -> list[Resource]:
    failure: Exception | None = None
    # The engine writes the state while the program runs, and the file of a local backend is empty for a moment then.
    for wait_seconds in (0.1, 0.3, 1.0, 3.0):
        try:
            resources = pulumi.runtime.invoke(_STATE, {"stackName": stack}).value["outputs"]
            return [(one["type"], one["outputs"]) for one in resources.values()]
        except Exception as error:  # noqa: BLE001 - the SDK raises no narrower one
            failure = error
            time.sleep(wait_seconds)
    raise UnreadableError(f"the state of {stack} cannot be read: {failure}") from failure


def _service(name: str, resources: Sequence[Resource], rules: Mapping[str, StandingRule]) -> StandingService:
    own = [(kind, outputs) for kind, outputs in resources if _service_of(outputs) == name]
    groups = [outputs for kind, outputs in own if kind == "aws:lb/targetGroup:TargetGroup" and outputs.get("arn")]
    arns = _arns_of_rules(own)
    return StandingService(
        target_groups={outputs["arn"]: outputs["tags"][naming.POOL_TAG] for outputs in groups},
        rule=next((rules[arn] for arn in arns if arn in rules), None),
        training=any(kind == "aws:sqs/queue:Queue" for kind, _ in own),
        port=next((int(outputs["port"]) for outputs in groups if outputs.get("port")), None),
        health_path=next((_one(outputs.get("healthCheck")).get("path") for outputs in groups), None),
    )


def _service_of(outputs: Mapping[str, Any]) -> str | None:
    """The service that a resource is tagged for; a group's tags are a list, the others' a mapping."""
    tags = outputs.get("tags") or {}
    if isinstance(tags, list):
        tags = {tag["key"]: tag["value"] for tag in tags}
    return tags.get(naming.SERVICE_TAG)


def _arns_of_rules(resources: Sequence[Resource]) -> list[str]:
    return [o["arn"] for kind, o in resources if kind == "aws:lb/listenerRule:ListenerRule" and o.get("arn")]


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


def _subnets(resources: Sequence[Resource]) -> Mapping[str, Sequence[str]]:
    """Ids of the stack's own subnets by zone."""
    out: dict[str, list[str]] = {}
    for kind, outputs in resources:
        if kind == "aws:ec2/subnet:Subnet" and outputs.get("id"):
            out.setdefault(outputs["availabilityZone"], []).append(outputs["id"])
    return out


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


def _one(value: Any) -> Mapping[str, Any]:
    return next(iter(_each(value)), {})
