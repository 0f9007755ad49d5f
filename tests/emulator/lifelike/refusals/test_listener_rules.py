from __future__ import annotations

from typing import Any

import pytest


def paths(*values: str) -> list[dict[str, Any]]:
    return [{"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}]


def hosts(*values: str) -> list[dict[str, Any]]:
    return [{"Field": "host-header", "HostHeaderConfig": {"Values": list(values)}}]


class Scene:
    """A load balancer with a listener and seven target groups."""

    def __init__(self, account: Any, forward: Any) -> None:
        self.elb, self.forward, self.account = account.elb, forward, account
        self.vpc = account.vpc()
        self.subnets = account.two_zones(self.vpc)
        self.balancer = account.balancer(self.subnets)
        self.listener = account.listener(self.balancer)
        self.groups = [account.target_group(self.vpc) for _ in range(7)]

    def rule(self, priority: int, *shares: tuple[str, int], conditions: Any = None, listener: str = "") -> str:
        made = self.elb.create_rule(
            ListenerArn=listener or self.listener,
            Priority=priority,
            Conditions=conditions or paths("/v1/*"),
            Actions=self.forward(*shares),
        )
        return str(made["Rules"][0]["RuleArn"])

    def set_priorities(self, **priorities: int) -> None:
        self.elb.set_rule_priorities(
            RulePriorities=[{"RuleArn": arn, "Priority": priority} for arn, priority in priorities.items()]
        )

    def priority(self, rule: str) -> str:
        return str(self.elb.describe_rules(RuleArns=[rule])["Rules"][0]["Priority"])


@pytest.fixture
def scene(account: Any, forward: Any) -> Scene:
    return Scene(account, forward)


def test_a_priority_is_unique(scene: Scene, refused: Any) -> None:
    scene.rule(1, (scene.groups[0], 1))
    with refused("PriorityInUse", "The specified priority is in use"):
        scene.rule(1, (scene.groups[1], 1))
    scene.rule(2, (scene.groups[1], 1))


def test_rules_can_swap_priorities_only_in_one_call(scene: Scene, refused: Any) -> None:
    first, second = scene.rule(1, (scene.groups[0], 1)), scene.rule(2, (scene.groups[1], 1))
    with refused("PriorityInUse"):
        scene.set_priorities(**{first: 2})
    scene.set_priorities(**{first: 2, second: 1})
    assert (scene.priority(first), scene.priority(second)) == ("2", "1")
    scene.set_priorities(**{first: 2})  # its own


def test_the_priorities_of_another_listener_do_not_count(scene: Scene) -> None:
    other = scene.account.listener(scene.balancer, port=81)
    scene.rule(1, (scene.groups[0], 1))
    rule = scene.rule(2, (scene.groups[0], 1), listener=other)
    scene.set_priorities(**{rule: 1})
    assert scene.priority(rule) == "1"


@pytest.mark.parametrize("weight", [-1, 1000])
def test_a_weight_is_0_to_999(scene: Scene, refused: Any, weight: int) -> None:
    with refused("ValidationError", "between 0 and 999"):
        scene.rule(1, (scene.groups[0], weight))
    rule = scene.rule(1, (scene.groups[0], 999), (scene.groups[1], 0))
    with refused("ValidationError", "between 0 and 999"):
        scene.elb.modify_rule(RuleArn=rule, Actions=scene.forward((scene.groups[0], weight)))


def test_an_action_forwards_to_at_most_five_target_groups(scene: Scene, refused: Any) -> None:
    with refused("TooManyTargetGroups"):
        scene.rule(1, *((group, 1) for group in scene.groups[:6]))
    rule = scene.rule(1, *((group, 1) for group in scene.groups[:5]))
    with refused("TooManyTargetGroups"):
        scene.elb.modify_rule(RuleArn=rule, Actions=scene.forward(*((group, 1) for group in scene.groups[:6])))


def test_a_target_group_belongs_to_one_load_balancer(scene: Scene, refused: Any) -> None:
    other = scene.account.listener(scene.account.balancer(scene.subnets))
    rule = scene.rule(1, (scene.groups[0], 1))
    message = "cannot be associated with more than one load balancer"
    with refused("TargetGroupAssociationLimit", message):
        scene.rule(1, (scene.groups[0], 1), listener=other)
    with refused("TargetGroupAssociationLimit", message):
        scene.elb.modify_listener(ListenerArn=other, DefaultActions=scene.forward((scene.groups[0], 1)))
    scene.rule(2, (scene.groups[0], 1))  # twice on its own is no matter
    scene.elb.delete_rule(RuleArn=rule)
    with refused("TargetGroupAssociationLimit", message):
        scene.rule(1, (scene.groups[0], 1), listener=other)


def test_deleting_a_load_balancer_releases_its_target_groups(scene: Scene) -> None:
    scene.rule(1, (scene.groups[0], 1))
    scene.elb.delete_load_balancer(LoadBalancerArn=scene.balancer)
    group = scene.elb.describe_target_groups(TargetGroupArns=[scene.groups[0]])["TargetGroups"][0]
    assert group["LoadBalancerArns"] == []
    other = scene.account.balancer(scene.subnets)
    scene.rule(1, (scene.groups[0], 1), listener=scene.account.listener(other))
    group = scene.elb.describe_target_groups(TargetGroupArns=[scene.groups[0]])["TargetGroups"][0]
    assert group["LoadBalancerArns"] == [other]


def test_a_target_group_is_in_use_while_a_rule_forwards_to_it(scene: Scene, refused: Any) -> None:
    rule = scene.rule(1, (scene.groups[0], 1), (scene.groups[1], 0))
    with refused("ResourceInUse"):
        scene.elb.delete_target_group(TargetGroupArn=scene.groups[1])
    scene.elb.modify_rule(RuleArn=rule, Actions=scene.forward((scene.groups[0], 1)))
    scene.elb.delete_target_group(TargetGroupArn=scene.groups[1])


def test_a_target_group_of_another_vpc_is_refused(scene: Scene, refused: Any) -> None:
    with refused("InvalidConfigurationRequest", "different VPC"):
        scene.rule(1, (scene.account.target_group(scene.account.vpc("10.1.0.0/16")), 1))


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (paths("/{x}"), paths("/x_-.$~\"'@:+&")),
        (paths("/a b"), paths("/a?b")),
        (paths("/1", "/2", "/3", "/4", "/5", "/6"), paths("/1", "/2", "/3", "/4", "/5")),
        (paths("/*/*/*/*/*/*/*"), paths("/*/*/*/*/*/*")),
        (paths("/1", "/2", "/3") + hosts("a.example", "b.example", "c.example"), paths("/1") + hosts("a.example")),
        (hosts("https://a.example"), hosts("*.a.example")),
        (hosts("localhost"), hosts("local.host")),
        (hosts("a_b.example"), hosts("a-b.example")),
        (hosts("a.example:8080"), hosts("a.example")),
    ],
)
def test_conditions_keep_to_their_alphabet_and_number(scene: Scene, refused: Any, bad: Any, good: Any) -> None:
    with refused("ValidationError"):
        scene.rule(1, (scene.groups[0], 1), conditions=bad)
    rule = scene.rule(1, (scene.groups[0], 1), conditions=good)
    with refused("ValidationError"):
        scene.elb.modify_rule(RuleArn=rule, Conditions=bad)


def test_a_port_has_one_listener_and_https_a_certificate(scene: Scene, refused: Any) -> None:
    with refused("DuplicateListener"):
        scene.account.listener(scene.balancer)
    scene.account.listener(scene.balancer, port=81)
    with refused("ValidationError", "certificate"):
        scene.elb.create_listener(
            LoadBalancerArn=scene.balancer,
            Port=443,
            Protocol="HTTPS",
            DefaultActions=scene.forward((scene.groups[0], 1)),
        )


def headers(name: str, *values: str) -> list[dict[str, Any]]:
    return [{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": list(values)}}]


@pytest.mark.parametrize("name", ["host", "x" * 41, "x session"])
def test_a_header_condition_has_a_headers_name(scene: Scene, refused: Any, name: str) -> None:
    scene.rule(1, (scene.groups[0], 1), conditions=headers("x-session-id", "*0"))
    with refused("ValidationError"):
        scene.rule(2, (scene.groups[0], 1), conditions=headers(name, "*0"))


def test_a_load_balancer_has_100_rules(scene: Scene, refused: Any) -> None:
    for priority in range(1, 101):
        scene.rule(priority, (scene.groups[0], 1))
    with refused("TooManyRules"):
        scene.rule(101, (scene.groups[0], 1))


def sticky(forward: list[dict[str, Any]], *, enabled: bool) -> list[dict[str, Any]]:
    config = {"Enabled": enabled, "DurationSeconds": 60}
    return [
        {**action, "ForwardConfig": {**action["ForwardConfig"], "TargetGroupStickinessConfig": config}}
        for action in forward
    ]


def stick_to_targets(scene: Scene, group: str) -> None:
    attributes = [{"Key": "stickiness.enabled", "Value": "true"}, {"Key": "stickiness.type", "Value": "lb_cookie"}]
    scene.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=attributes)


def test_targets_are_sticky_only_behind_a_sticky_rule(scene: Scene, refused: Any) -> None:
    """https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2734"""
    first, second, alone = scene.groups[:3]
    both = scene.forward((first, 50), (second, 50))
    rule = scene.rule(1, (first, 50), (second, 50))
    scene.rule(2, (alone, 1))
    stick_to_targets(scene, alone)
    with refused("InvalidConfigurationRequest", "You must enable group stickiness before enabling target stickiness"):
        stick_to_targets(scene, first)
    scene.elb.modify_rule(RuleArn=rule, Actions=sticky(both, enabled=True))
    stick_to_targets(scene, first)
    with refused("InvalidConfigurationRequest"):
        scene.elb.modify_rule(RuleArn=rule, Actions=sticky(both, enabled=False))
    with refused("InvalidConfigurationRequest"):
        scene.rule(3, (first, 1), (second, 1))
