"""Apply: turn a decision into API calls. Each call sets a target state, and is made only if something differs.

The order of the calls never leaves the service worse off if the next call fails:

1. protect busy instances;
2. raise the on-demand base, before more is ordered as spot;
3. raise capacity;
4. set weights.

The rest is made only if all of these succeeded and the state was written:

5. remove: protection of idle instances, on-demand base no longer needed, orders not yet filled, instances;
6. start an instance refresh, then raise the refreshed pool's capacity. Instances ordered before the refresh would come
   in the old types; without the additional ones, the refresh would replace an old instance with a weaker one. AWS lets
   the refresh wait while fewer than its minimum healthy percentage of the desired count are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.decision import Decision, PoolTarget, Refresh
from gpu_fleet.scaling.hashing import digit_weights
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
"""Minimum healthy percentage during a refresh: at 100 a new instance is up before an old one goes.
https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html"""

_ALREADY_DONE = {
    "TerminateInstanceInAutoScalingGroup": ("ValidationError", "No managed instance found"),
    "StartInstanceRefresh": ("InstanceRefreshInProgress", ""),
}
"""Errors that mean that the target state is reached already: code and part of the message, by operation."""


@dataclass(frozen=True, slots=True)
class Call:
    """A write to make."""

    client: str
    operation: str
    resource: str
    arguments: Mapping[str, Any]
    removes: bool = False
    """Whether it removes something or depends on a removal: such a call needs success of all calls before it."""
    note: str = ""
    """How the target was lowered, for the log."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The writes, made or not, and the faults."""

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
    """Bring the service to the decision's targets. Without `may_remove`, remove nothing.

    The decision was made on `seen` (groups by pool) and `rule`. If they differ from the targets, groups and rule are
    read again, so that the calls fit what exists now: since then bounds may have changed, instances may have gone, or a
    target group may have been added.
    """
    try:
        if not plan(parameter, decision, seen, rule):
            return Applied()
        latest = groups.describe(clients.autoscaling, [group.name for group in seen.values()])
        if latest.faults:
            return Applied(faults=(next(iter(latest.faults.values())),))
        live = {pool: latest.found[group.name] for pool, group in seen.items()}
        if rule is not None:
            latest_rules = rules.describe(clients.elbv2, parameter.bindings.rule_arns)
            # A deleted rule for a digit forwards nothing anywhere: the service's own rule takes its requests.
            faults = [
                fault
                for arn, fault in latest_rules.faults.items()
                if arn == rule.arn or fault.code is not ErrorCode.UNKNOWN_RULE
            ]
            if faults:
                return Applied(faults=tuple(faults))
            rule = latest_rules.service(parameter.bindings)
        calls = plan(parameter, decision, live, rule)
    except ValueError as error:
        return Applied(faults=(Fault(ErrorCode.INVALID_DECISION, str(error), "plan"),))
    return make(calls, clients, may_remove=may_remove)


def plan(
    parameter: ServiceParameter, decision: Decision, live: Mapping[str, Group], rule: Rule | None
) -> tuple[Call, ...]:
    """Return the calls that lead from the live groups and rule to the decision, in order; none if nothing differs.

    Raises ValueError for a decision that AWS could not carry out.
    """
    targets = decision.targets
    unknown = sorted(targets.keys() - live.keys())
    if unknown:
        raise ValueError(f"decision.targets: must name pools of {parameter.name}, {sorted(live)} (got {unknown})")
    pools = [(live[pool], target) for pool, target in targets.items()]
    training = parameter.service.policy.workload is Workload.TRAINING
    calls: list[Call] = []
    for group, target in pools:
        calls += _protection_calls(group, target, protect=True)
    for group, target in pools:
        calls += _on_demand_base_calls(group, target, raising=True)
    refresh = decision.refresh
    refresh_calls = [] if refresh is None else list(_refresh_calls(live[refresh.pool], refresh))
    refreshed = live[refresh.pool].name if refresh is not None and refresh_calls else ""
    for group, target in pools:
        calls += _scale_out_calls(group, target) if group.name != refreshed else ()
    if rule is not None:
        calls += _weight_calls(parameter, targets, rule)
    for group, target in pools:
        # Without jobs the scaler protects nothing, so any protection is somebody's own and stays.
        calls += _protection_calls(group, target, protect=False) if training else ()
    for group, target in pools:
        calls += _on_demand_base_calls(group, target, raising=False)
    for group, target in pools:
        calls += _scale_in_calls(group, target)
    calls += refresh_calls
    for group, target in pools:
        calls += (replace(call, removes=True) for call in _scale_out_calls(group, target) if group.name == refreshed)
    return tuple(calls)


def _protection_calls(group: Group, target: PoolTarget, *, protect: bool) -> Iterator[Call]:
    """Set protection of instances in service: AWS accepts no others, and an instance that starts has no job yet."""
    ids = [
        m.id for m in group.members if m.in_service and m.protected != protect and (m.id in target.protect) == protect
    ]
    for batch in batches(ids, PROTECTED_PER_CALL):
        arguments = {"AutoScalingGroupName": group.name, "InstanceIds": batch, "ProtectedFromScaleIn": protect}
        yield Call("autoscaling", "SetInstanceProtection", group.name, arguments, removes=not protect)


def _on_demand_base_calls(group: Group, target: PoolTarget, *, raising: bool) -> Iterator[Call]:
    base, current = target.on_demand_base, group.on_demand_base
    if base is None or current is None or base == current or (base > current) != raising:
        return
    # Send the whole policy: AWS replaces it with what it gets.
    arguments = {"AutoScalingGroupName": group.name, "MixedInstancesPolicy": groups.with_base(group, base)}
    yield Call("autoscaling", "UpdateAutoScalingGroup", group.name, arguments, removes=not raising)


def _scale_out_calls(group: Group, target: PoolTarget) -> Iterator[Call]:
    desired = min(target.desired, group.max_size)
    if desired > group.desired:
        note = "" if desired == target.desired else f"{target.desired} cut to the group's maximum"
        yield _set_desired(group, desired, note=note)


def _weight_calls(parameter: ServiceParameter, targets: Mapping[str, PoolTarget], rule: Rule) -> Iterator[Call]:
    """Set the weights of the service's own rule, then those of each digit that follow from them."""
    pools = parameter.bindings.pools
    weights = {pools[pool].target_group_arn or "": target.weight for pool, target in targets.items()}
    yield from _rule_calls(parameter, weights, rule)
    if rule.by_digit:
        by_digit = digit_weights({pool: target.weight for pool, target in targets.items()})
        for digit, other in sorted(rule.by_digit.items()):
            of_digit = {pools[pool].target_group_arn or "": weight for pool, weight in by_digit[digit].items()}
            yield from _rule_calls(parameter, of_digit, other)


def _rule_calls(parameter: ServiceParameter, weights: Mapping[str, int], rule: Rule) -> Iterator[Call]:
    routing = parameter.service.policy.routing
    stickiness = Stickiness(routing.strategy is RoutingStrategy.STICKY, routing.stickiness_seconds)
    current = rule.stickiness
    same_stickiness = stickiness == current or not (stickiness.enabled or current.enabled)
    if same_stickiness and all(rule.weights.get(arn) == weight for arn, weight in weights.items()):
        return
    arguments = {"RuleArn": rule.arn, "Actions": rule.with_weights(weights, stickiness)}
    yield Call("elbv2", "ModifyRule", rule.arn, arguments)


def _scale_in_calls(group: Group, target: PoolTarget) -> Iterator[Call]:
    """Cancel orders that no instance has filled, then end the named instances. Auto Scaling never picks one itself."""
    floor = max(min(target.desired, group.max_size), group.min_size)
    desired = group.desired
    without_orders = max(floor, len(group.staying))
    if without_orders < desired:
        yield _set_desired(group, without_orders, removes=True)
        desired = without_orders
    staying = {member.id for member in group.staying}
    for id_ in target.take:
        if id_ not in staying or id_ in target.protect or desired <= floor:
            continue
        desired -= 1
        # The group deregisters the instance from the target group, waits for its requests, then runs the hook.
        arguments = {"InstanceId": id_, "ShouldDecrementDesiredCapacity": True}
        yield Call("autoscaling", "TerminateInstanceInAutoScalingGroup", id_, arguments, removes=True)


def _refresh_calls(group: Group, refresh: Refresh) -> Iterator[Call]:
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
            # No AutoRollback: AWS refuses it for a template whose image comes from an SSM parameter, as ours does. A
            # refresh that fails leaves the group's policy unchanged, and the next decision starts from there.
            # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html
        },
    }
    yield Call("autoscaling", "StartInstanceRefresh", group.name, arguments, removes=True)


def _set_desired(group: Group, desired: int, *, removes: bool = False, note: str = "") -> Call:
    arguments = {"AutoScalingGroupName": group.name, "DesiredCapacity": desired, "HonorCooldown": False}
    return Call("autoscaling", "SetDesiredCapacity", group.name, arguments, removes, note)


def make(calls: Iterable[Call], clients: Clients, *, may_remove: bool) -> Applied:
    """Make the calls. A call that fails stops the removals after it, but nothing else."""
    writes: list[Write] = []
    faults: list[Fault] = []
    for call in calls:
        if call.removes and (faults or not may_remove):
            why = "an earlier call failed" if faults else "the state could not be written"
            writes.append(Write(call.operation, call.resource, _summary(call), made=False, note=why))
            continue
        try:
            _send(clients, call)
        except (ClientError, BotoCoreError) as error:
            done = _is_already_done(call, error)
            why = "already done" if done else "failed"
            writes.append(Write(call.operation, call.resource, _summary(call), made=False, note=why))
            if not done:
                faults.append(Fault.of(error, call.operation))
            continue
        writes.append(Write(call.operation, call.resource, _summary(call), note=call.note))
    return Applied(tuple(writes), tuple(faults))


def _send(clients: Clients, call: Call) -> None:
    client = getattr(clients, call.client)
    getattr(client, METHODS[call.operation])(**call.arguments)


METHODS = {
    "ModifyRule": "modify_rule",
    "SetDesiredCapacity": "set_desired_capacity",
    "SetInstanceProtection": "set_instance_protection",
    "StartInstanceRefresh": "start_instance_refresh",
    "TerminateInstanceInAutoScalingGroup": "terminate_instance_in_auto_scaling_group",
    "UpdateAutoScalingGroup": "update_auto_scaling_group",
}
"""boto3's method of each operation that the scaler writes with."""


def _is_already_done(call: Call, error: Exception) -> bool:
    code, part = _ALREADY_DONE.get(call.operation, ("", ""))
    return bool(code) and error_code(error) == code and part in str(error)


def _summary(call: Call) -> dict[str, Any]:
    """Return the arguments that a reader of the log needs."""
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
