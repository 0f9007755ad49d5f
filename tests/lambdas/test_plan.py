"""Properties of the calls, for any groups and any decision."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.decision import Decision, PoolTarget, Signals
from gpu_fleet.scaling.state import State
from lambdas.scaler.apply import Call, plan
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.groups import Group, Member
from lambdas.scaler.rules import Rule

POOLS = ("a", "b")
LIFECYCLES = ("Pending", "Pending:Wait", "InService", "InService", "InService", "Terminating:Wait", "Standby")


def parameter(workload: str) -> ServiceParameter:
    pools = [
        {
            "name": name,
            "types": ["g6.xlarge"],
            "min_instances": 0,
            "max_instances": 9,
            "capacity": 1,
            "throughput_rps": 1,
            "on_demand_usd_per_hour": 1,
        }
        for name in POOLS
    ]
    return ServiceParameter.model_validate(
        {
            "service": {"name": "s", "policy": {"model": "m", "workload": workload}, "pools": pools},
            "bindings": {"listener_rule_arn": "rule", "pools": {n: {"group": n, "target_group_arn": n} for n in POOLS}},
        }
    )


SERVICES = {workload: parameter(workload) for workload in ("inference", "training")}


@st.composite
def live_groups(draw: st.DrawFn, name: str) -> Group:
    lifecycles = draw(st.lists(st.sampled_from(LIFECYCLES), max_size=8))
    members = tuple(
        Member(f"{name}{i}", "g6.xlarge", "us-east-1a", lifecycle, protected=draw(st.booleans()))
        for i, lifecycle in enumerate(lifecycles)
    )
    low, high = draw(st.integers(0, 4)), draw(st.integers(5, 12))
    base = draw(st.none() | st.integers(0, 3))
    policy = None if base is None else {"LaunchTemplate": {}, "InstancesDistribution": {"OnDemandBaseCapacity": base}}
    # AWS keeps the desired capacity within the bounds.
    return Group(name, draw(st.integers(low, high)), low, high, members, policy)


@st.composite
def pool_targets(draw: st.DrawFn, group: Group) -> PoolTarget:
    ids = [member.id for member in group.members]
    some = st.lists(st.sampled_from(ids), unique=True) if ids else st.just([])
    return PoolTarget(
        desired=draw(st.integers(0, 14)),
        weight=draw(st.integers(0, 999)),
        take=tuple(draw(some)),
        on_demand_base=draw(st.none() | st.integers(0, 3)),
        protect=tuple(draw(some)),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[ServiceParameter, dict[str, Group], dict[str, PoolTarget], Rule]:
    groups = {name: draw(live_groups(name)) for name in POOLS}
    targets = {name: draw(pool_targets(group)) for name, group in groups.items()}
    weights = [{"TargetGroupArn": name, "Weight": draw(st.integers(0, 999))} for name in POOLS]
    rule = Rule("rule", ({"Type": "forward", "ForwardConfig": {"TargetGroups": weights}},))
    return SERVICES[draw(st.sampled_from(sorted(SERVICES)))], groups, targets, rule


def decision_of(targets: dict[str, PoolTarget]) -> Decision:
    return Decision(targets, (), Signals(None, None, None, None, None, None), State())


def carry_out(calls: tuple[Call, ...], groups: dict[str, Group], rule: Rule) -> tuple[dict[str, Group], Rule]:
    """Return groups and rule after the calls. Raises AssertionError for a call that AWS would refuse."""
    groups = dict(groups)
    for call in calls:
        arguments = call.arguments
        match call.operation:
            case "SetDesiredCapacity":
                group = groups[call.resource]
                assert group.min_size <= arguments["DesiredCapacity"] <= group.max_size
                groups[call.resource] = replace(group, desired=arguments["DesiredCapacity"])
            case "TerminateInstanceInAutoScalingGroup":
                name = call.resource[0]
                group = groups[name]
                assert group.desired - 1 >= group.min_size
                members = tuple(
                    replace(m, lifecycle="Terminating:Wait") if m.id == call.resource else m for m in group.members
                )
                groups[name] = replace(group, desired=group.desired - 1, members=members)
            case "SetInstanceProtection":
                group = groups[call.resource]
                assert {m.lifecycle for m in group.members if m.id in arguments["InstanceIds"]} == {"InService"}
                members = tuple(
                    replace(m, protected=arguments["ProtectedFromScaleIn"]) if m.id in arguments["InstanceIds"] else m
                    for m in group.members
                )
                groups[call.resource] = replace(group, members=members)
            case "UpdateAutoScalingGroup":
                groups[call.resource] = replace(groups[call.resource], mixed_policy=arguments["MixedInstancesPolicy"])
            case "ModifyRule":
                rule = Rule(rule.arn, tuple(arguments["Actions"]))
    return groups, rule


@given(situations())
def test_a_plan_carried_out_leaves_nothing_to_do(situation):
    service, groups, targets, rule = situation
    after, new_rule = carry_out(plan(service, decision_of(targets), groups, rule), groups, rule)
    assert plan(service, decision_of(targets), after, new_rule) == ()


@given(situations())
def test_removals_come_after_all_additions(situation):
    service, groups, targets, rule = situation
    removes = [call.removes for call in plan(service, decision_of(targets), groups, rule)]
    assert removes == sorted(removes)


@given(situations())
def test_only_named_unprotected_staying_instances_are_ended_and_none_below_the_target(situation):
    service, groups, targets, rule = situation
    calls = plan(service, decision_of(targets), groups, rule)
    for name, group in groups.items():
        target = targets[name]
        ended = [c.resource for c in calls if c.client == "autoscaling" and c.resource in {m.id for m in group.members}]
        assert len(set(ended)) == len(ended)
        assert set(ended) <= set(target.take) - set(target.protect)
        assert set(ended) <= {member.id for member in group.staying}
        assert group.desired - len(ended) >= min(group.desired, max(target.desired, group.min_size))


@given(situations())
def test_auto_scaling_never_has_to_pick_an_instance(situation):
    service, groups, targets, rule = situation
    for call in plan(service, decision_of(targets), groups, rule):
        if call.operation == "SetDesiredCapacity":
            group = groups[call.resource]
            assert call.arguments["DesiredCapacity"] >= min(group.desired, len(group.staying))


@given(situations())
def test_capacity_never_falls_for_a_higher_target(situation):
    service, groups, targets, rule = situation
    after, _ = carry_out(plan(service, decision_of(targets), groups, rule), groups, rule)
    for name, group in groups.items():
        if targets[name].desired >= group.desired:
            assert after[name].desired >= group.desired
            assert after[name].desired == min(max(targets[name].desired, group.desired), group.max_size)
