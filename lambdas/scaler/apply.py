"""Apply: from a decision to API calls, each a target state, only where something differs.

Their order never leaves the service worse than it was if the next call fails: 1. protect busy instances,
2. on-demand in front of spot, 3. more capacity, 4. weights, then, only if all of that went well and the state could be
written, 5. what takes something away (protection of idle instances, on-demand no longer needed, orders not yet filled,
instances), and 6. an instance refresh, with the instances that the types it brings need more: ordered before it, they
would come in the old types, and without it, an old one would go for a weaker new one. While fewer than the least
healthy percentage of the desired count are there a refresh waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.decision import Decision, PoolTarget, Refresh
from gpu_fleet.scaling.policy import RoutingStrategy, Workload
from lambdas.scaler import groups, rules
from lambdas.scaler.batches import batches
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.groups import Group
from lambdas.scaler.result import ErrorCode, Fault, Write, error_code
from lambdas.scaler.rules import Rule, Stickiness

PROTECTED_PER_CALL = 50
"""Instance ids: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetInstanceProtection.html"""

REFRESH_MIN_HEALTHY_PERCENT = 100
"""Least healthy during a refresh: at 100 a new instance is up before an old one goes.
https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html"""

_DONE_ALREADY = {
    "TerminateInstanceInAutoScalingGroup": ("ValidationError", "No managed instance found"),
    "StartInstanceRefresh": ("InstanceRefreshInProgress", ""),
}
"""Errors that say that the target state stands already: code and a part of the message, by operation."""


@dataclass(frozen=True, slots=True)
class Call:
    """One write to make."""

    client: str
    operation: str
    resource: str
    arguments: Mapping[str, Any]
    removes: bool = False
    """Whether it takes something away, or belongs to what does: made only after everything before it went well."""
    note: str = ""
    """What was cut from the target, for the log."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of the calls."""

    writes: tuple[Write, ...] = ()
    faults: tuple[Fault, ...] = ()


def apply(
    parameter: ServiceParameter,
    decision: Decision,
    seen: Mapping[str, Group],
    rule: Rule | None,
    clients: Clients,
    *,
    may_remove: bool,
) -> Applied:
    """Bring the service to the decision's targets.

    `seen` (by pool) and `rule` are what the decision was made on. If they differ from the targets they are read once
    more, so that every write is measured against what stands now: bounds that were changed meanwhile, instances that
    have gone, a target group that was added. With `may_remove` false nothing is taken away.
    """
    try:
        if not plan(parameter, decision, seen, rule):
            return Applied()
        now_standing = groups.describe(clients.autoscaling, [group.name for group in seen.values()])
        if now_standing.faults:
            return Applied(faults=(next(iter(now_standing.faults.values())),))
        live = {pool: now_standing.found[group.name] for pool, group in seen.items()}
        if rule is not None:
            ruled = rules.describe(clients.elbv2, [rule.arn])
            if ruled.faults:
                return Applied(faults=(ruled.faults[rule.arn],))
            rule = ruled.found[rule.arn]
        calls = plan(parameter, decision, live, rule)
    except ValueError as error:
        return Applied(faults=(Fault(ErrorCode.INVALID_DECISION, str(error), "plan"),))
    return make(calls, clients, may_remove=may_remove)


def plan(
    parameter: ServiceParameter, decision: Decision, live: Mapping[str, Group], rule: Rule | None
) -> tuple[Call, ...]:
    """The calls that lead from what stands to the decision, in their order; none where all stands as decided.

    Raises ValueError for a decision that no call could carry out.
    """
    targets = decision.targets
    unknown = sorted(targets.keys() - live.keys())
    if unknown:
        raise ValueError(f"decision.targets: {unknown} are no pools of {parameter.name} ({sorted(live)})")
    pools = [(live[pool], target) for pool, target in targets.items()]
    training = parameter.service.policy.workload is Workload.TRAINING
    calls: list[Call] = []
    for group, target in pools:
        calls += _protections(group, target, protect=True)
    for group, target in pools:
        calls += _base(group, target, more=True)
    refresh = decision.refresh
    roll = [] if refresh is None else list(_refresh(live[refresh.pool], refresh))
    rolled = live[refresh.pool].name if refresh is not None and roll else ""
    for group, target in pools:
        calls += _more(group, target) if group.name != rolled else ()
    if rule is not None:
        calls += _weights(parameter, targets, rule)
    for group, target in pools:
        # A service without jobs protects nothing by itself: what somebody protected by hand stays protected.
        calls += _protections(group, target, protect=False) if training else ()
    for group, target in pools:
        calls += _base(group, target, more=False)
    for group, target in pools:
        calls += _less(group, target)
    calls += roll
    for group, target in pools:
        calls += (replace(call, removes=True) for call in _more(group, target) if group.name == rolled)
    return tuple(calls)


def _protections(group: Group, target: PoolTarget, *, protect: bool) -> Iterator[Call]:
    """Auto Scaling accepts protection of instances in service only; one that starts has no job yet."""
    ids = [
        m.id for m in group.members if m.in_service and m.protected != protect and (m.id in target.protect) == protect
    ]
    for part in batches(ids, PROTECTED_PER_CALL):
        arguments = {
            "AutoScalingGroupName": group.name,
            "InstanceIds": part,
            "ProtectedFromScaleIn": protect,
        }
        yield Call("autoscaling", "SetInstanceProtection", group.name, arguments, removes=not protect)


def _base(group: Group, target: PoolTarget, *, more: bool) -> Iterator[Call]:
    base, standing = target.on_demand_base, group.on_demand_base
    if base is None or standing is None or base == standing or (base > standing) != more:
        return
    # The whole policy: a part of it would be taken for all of it.
    arguments = {"AutoScalingGroupName": group.name, "MixedInstancesPolicy": groups.with_base(group, base)}
    yield Call("autoscaling", "UpdateAutoScalingGroup", group.name, arguments, removes=not more)


def _more(group: Group, target: PoolTarget) -> Iterator[Call]:
    desired = min(target.desired, group.max_size)
    if desired > group.desired:
        cut = "" if desired == target.desired else f"{target.desired} cut to the group's maximum"
        yield _set_desired(group, desired, note=cut)


def _weights(parameter: ServiceParameter, targets: Mapping[str, PoolTarget], rule: Rule) -> Iterator[Call]:
    bound = parameter.bindings.pools
    weights = {bound[pool].target_group_arn or "": target.weight for pool, target in targets.items()}
    routing = parameter.service.policy.routing
    stickiness = Stickiness(routing.strategy is RoutingStrategy.STICKY, routing.stickiness_seconds)
    standing = rule.stickiness
    same_stickiness = stickiness == standing or not (stickiness.enabled or standing.enabled)
    if same_stickiness and all(rule.weights.get(arn) == weight for arn, weight in weights.items()):
        return
    arguments = {"RuleArn": rule.arn, "Actions": rule.with_weights(weights, stickiness)}
    yield Call("elbv2", "ModifyRule", rule.arn, arguments)


def _less(group: Group, target: PoolTarget) -> Iterator[Call]:
    """First the orders that no instance has filled yet, then the instances named; never one that Auto Scaling picks."""
    floor = max(min(target.desired, group.max_size), group.min_size)
    desired = group.desired
    unfilled_gone = max(floor, len(group.staying))
    if unfilled_gone < desired:
        yield _set_desired(group, unfilled_gone, removes=True)
        desired = unfilled_gone
    staying = {member.id for member in group.staying}
    for id_ in target.take:
        if id_ not in staying or id_ in target.protect or desired <= floor:
            continue
        desired -= 1
        # The group takes it out of the target group, waits for its requests, then runs the terminating hook.
        arguments = {"InstanceId": id_, "ShouldDecrementDesiredCapacity": True}
        yield Call("autoscaling", "TerminateInstanceInAutoScalingGroup", id_, arguments, removes=True)


def _refresh(group: Group, refresh: Refresh) -> Iterator[Call]:
    if group.types == refresh.types:
        return
    arguments = {
        "AutoScalingGroupName": group.name,
        "Strategy": "Rolling",
        "DesiredConfiguration": {"MixedInstancesPolicy": groups.with_types(group, refresh.types)},
        "Preferences": {
            "MinHealthyPercentage": REFRESH_MIN_HEALTHY_PERCENT,
            "MaxHealthyPercentage": REFRESH_MIN_HEALTHY_PERCENT + refresh.surge_percent,
            "SkipMatching": True,
            "StandbyInstances": "Ignore",
            # No AutoRollback: it is refused for a template whose image comes from an SSM parameter, as ours does. A
            # refresh that fails leaves the group's policy as it was, and the next decision starts from there.
            # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html
        },
    }
    yield Call("autoscaling", "StartInstanceRefresh", group.name, arguments, removes=True)


def _set_desired(group: Group, desired: int, *, removes: bool = False, note: str = "") -> Call:
    arguments = {"AutoScalingGroupName": group.name, "DesiredCapacity": desired, "HonorCooldown": False}
    return Call("autoscaling", "SetDesiredCapacity", group.name, arguments, removes, note)


def make(calls: Iterable[Call], clients: Clients, *, may_remove: bool) -> Applied:
    """Make the calls: one that fails does not stop those that add, and stops all that take away."""
    writes: list[Write] = []
    faults: list[Fault] = []
    for call in calls:
        if call.removes and (faults or not may_remove):
            why = "an earlier call failed" if faults else "the state could not be written"
            writes.append(Write(call.operation, call.resource, _short(call), made=False, note=why))
            continue
        try:
            _send(clients, call)
        except (ClientError, BotoCoreError) as error:
            done = _is_done_already(call, error)
            why = "stood already" if done else "failed"
            writes.append(Write(call.operation, call.resource, _short(call), made=False, note=why))
            if not done:
                faults.append(Fault.of(error, call.operation))
            continue
        writes.append(Write(call.operation, call.resource, _short(call), note=call.note))
    return Applied(tuple(writes), tuple(faults))


def _send(clients: Clients, call: Call) -> None:
    client = getattr(clients, call.client)
    getattr(client, _METHODS[call.operation])(**call.arguments)


_METHODS = {
    "ModifyRule": "modify_rule",
    "SetDesiredCapacity": "set_desired_capacity",
    "SetInstanceProtection": "set_instance_protection",
    "StartInstanceRefresh": "start_instance_refresh",
    "TerminateInstanceInAutoScalingGroup": "terminate_instance_in_auto_scaling_group",
    "UpdateAutoScalingGroup": "update_auto_scaling_group",
}


def _is_done_already(call: Call, error: Exception) -> bool:
    code, part = _DONE_ALREADY.get(call.operation, ("", ""))
    return bool(code) and error_code(error) == code and part in str(error)


def _short(call: Call) -> dict[str, Any]:
    """What of the arguments a reader of the log wants."""
    match call.operation:
        case "SetDesiredCapacity":
            return {"desired": call.arguments["DesiredCapacity"]}
        case "SetInstanceProtection":
            return {"instances": call.arguments["InstanceIds"], "protected": call.arguments["ProtectedFromScaleIn"]}
        case "UpdateAutoScalingGroup":
            distribution = call.arguments["MixedInstancesPolicy"]["InstancesDistribution"]
            return {"on_demand_base": distribution["OnDemandBaseCapacity"]}
        case "StartInstanceRefresh":
            overrides = call.arguments["DesiredConfiguration"]["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
            return {"types": [override["InstanceType"] for override in overrides]}
        case "ModifyRule":
            forward = next(a for a in call.arguments["Actions"] if a["Type"] == "forward")["ForwardConfig"]
            return {"weights": {t["TargetGroupArn"].split(":")[-1]: t["Weight"] for t in forward["TargetGroups"]}}
        case _:
            return {}
