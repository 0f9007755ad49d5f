"""Decisions as API calls."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling.decision import PoolTarget, Refresh
from gpu_fleet.scaling.hashing import DIGITS


def operations(world):
    return [operation for operation, _ in world.board.writes()]


def test_without_a_difference_nothing_is_written(world, keeping):
    world.stand()
    assert world.run(keeping)["chat"].outcome == "unchanged"
    assert world.board.writes() == []


def test_applying_twice_writes_once(world, deciding):
    world.stand()
    decide = deciding(l4=PoolTarget(4, 300), l40s=PoolTarget(2, 100))
    world.run(decide)
    assert operations(world) == ["SetDesiredCapacity", "SetDesiredCapacity", "ModifyRule"]
    assert world.run(decide)["chat"].outcome == "unchanged"
    assert world.board.writes() == []


def test_new_capacity_comes_before_weight_and_weight_before_removal(world, deciding):
    world.stand()
    chosen = world.ids("l40s")[0]
    world.run(deciding(l4=PoolTarget(3, 100), l40s=PoolTarget(0, 0, take=(chosen,))))
    assert operations(world) == ["SetDesiredCapacity", "ModifyRule", "TerminateInstanceInAutoScalingGroup"]
    assert world.desired() == {"l4": 3, "l40s": 0}
    assert world.weights() == {"l4": 100, "l40s": 0}


def test_the_instances_that_go_are_those_that_were_chosen(world, deciding):
    world.stand(pools={"l4": 4})
    stay_a, go_a, go_b, stay_b = world.ids("l4")
    world.run(deciding(l4=PoolTarget(2, 100, take=(go_b, go_a))))
    assert set(world.ids("l4")) == {stay_a, stay_b}
    assert world.desired() == {"l4": 2}
    assert [arguments for _, arguments in world.board.writes()] == [
        {"InstanceId": go_b, "ShouldDecrementDesiredCapacity": True},
        {"InstanceId": go_a, "ShouldDecrementDesiredCapacity": True},
    ]


def test_an_instance_that_is_already_gone_is_skipped(world, deciding):
    world.stand(pools={"l4": 3})
    present = world.ids("l4")[0]
    result = world.run(deciding(l4=PoolTarget(2, 100, take=("i-00000000000000000", present))))["chat"]
    assert not result.faults
    assert present not in world.ids("l4")
    assert world.desired() == {"l4": 2}


def test_an_instance_that_ends_before_the_call_is_no_failure(world, deciding):
    world.stand(pools={"l4": 3})
    take = world.ids("l4")[0]
    message = f"Instance Id not found - No managed instance found for instance ID: {take}"
    with world.board.failing("autoscaling.TerminateInstanceInAutoScalingGroup", "ValidationError", message):
        result = world.run(deciding(l4=PoolTarget(2, 100, take=(take,))))["chat"]
    assert not result.failed
    assert result.outcome == "unchanged"
    assert [(write.made, write.note) for write in result.writes] == [(False, "already done")]


def test_another_validation_error_of_that_call_is_a_failure(world, deciding):
    world.stand(pools={"l4": 3})
    take = world.ids("l4")[0]
    message = (
        "Currently, desiredSize equals minSize (3). Terminating instance without replacement will violate group's min"
    )
    with world.board.failing("autoscaling.TerminateInstanceInAutoScalingGroup", "ValidationError", message):
        assert world.run(deciding(l4=PoolTarget(2, 100, take=(take,))))["chat"].failed


def test_a_minimum_raised_after_the_observation_is_kept(world, deciding):
    world.stand(pools={"l4": 3})
    ids = world.ids("l4")
    decide = deciding(l4=PoolTarget(0, 100, take=tuple(ids)))

    def raised(service, observation, state, now):
        # Somebody raises the minimum between observation and apply.
        world.clients.autoscaling.update_auto_scaling_group(AutoScalingGroupName="chat-l4", MinSize=2)
        return decide(service, observation, state, now)

    world.run(raised)
    assert world.desired() == {"l4": 2}
    assert len(set(world.ids("l4")) & set(ids)) == 2


def test_a_maximum_lowered_after_the_observation_is_kept_and_noted(world, deciding):
    world.stand(pools={"l4": 3})
    decide = deciding(l4=PoolTarget(9, 100))

    def lowered(service, observation, state, now):
        world.clients.autoscaling.update_auto_scaling_group(AutoScalingGroupName="chat-l4", MaxSize=5)
        return decide(service, observation, state, now)

    result = world.run(lowered)["chat"]
    assert world.desired() == {"l4": 5}
    assert [write.note for write in result.writes] == ["9 cut to the group's maximum"]


def test_a_scale_out_does_not_undo_what_the_backstop_added(world, deciding):
    world.stand(pools={"l4": 2})
    decide = deciding(l4=PoolTarget(3, 100))

    def backstop(service, observation, state, now):
        world.clients.autoscaling.set_desired_capacity(AutoScalingGroupName="chat-l4", DesiredCapacity=6)
        return decide(service, observation, state, now)

    world.run(backstop)
    assert world.desired() == {"l4": 6}


def test_unfilled_orders_are_cancelled_without_ending_instances(world, deciding):
    world.stand(pools={"l4": 2})
    ids = world.ids("l4")
    described = world.group("l4")
    short = {**described, "DesiredCapacity": 5}
    with world.board.answering("autoscaling.DescribeAutoScalingGroups", lambda _: {"AutoScalingGroups": [short]}):
        world.run(deciding(l4=PoolTarget(2, 100)))
    assert [arguments["DesiredCapacity"] for _, arguments in world.board.writes()] == [2]
    assert world.ids("l4") == ids


def test_orders_are_cancelled_before_an_instance_ends_so_that_it_is_not_replaced(world, deciding):
    world.stand(pools={"l4": 3})
    take = world.ids("l4")[0]
    short = {**world.group("l4"), "DesiredCapacity": 5}
    with world.board.answering("autoscaling.DescribeAutoScalingGroups", lambda _: {"AutoScalingGroups": [short]}):
        world.run(deciding(l4=PoolTarget(2, 100, take=(take,))))
    assert [(op, a.get("DesiredCapacity")) for op, a in world.board.writes()] == [
        ("SetDesiredCapacity", 3),
        ("TerminateInstanceInAutoScalingGroup", None),
    ]
    assert world.desired() == {"l4": 2}


def test_auto_scaling_never_picks_an_instance_itself(world, deciding):
    """The target is lower, but names no instance: then none ends."""
    world.stand(pools={"l4": 4})
    world.run(deciding(l4=PoolTarget(1, 100)))
    assert world.board.writes() == []
    assert len(world.ids("l4")) == 4


def test_a_busy_instance_is_not_ended(world, deciding):
    world.stand(pools={"l4": 2}, policy={"workload": "training"})
    busy, idle = world.ids("l4")
    world.run(deciding(l4=PoolTarget(1, 0, take=(busy, idle), protect=(busy,))))
    assert world.ids("l4") == [busy]


def test_busy_instances_are_protected_before_any_removal_and_idle_ones_released(world, deciding):
    world.stand(pools={"l4": 3}, policy={"workload": "training"})
    a, b, c = world.ids("l4")
    world.run(deciding(l4=PoolTarget(3, 0, protect=(a, b))))
    assert [i["ProtectedFromScaleIn"] for i in world.group("l4")["Instances"]] == [True, True, False]
    world.run(deciding(l4=PoolTarget(2, 0, take=(c,), protect=(b,))))
    assert operations(world) == ["SetInstanceProtection", "TerminateInstanceInAutoScalingGroup"]
    assert {i["InstanceId"]: i["ProtectedFromScaleIn"] for i in world.group("l4")["Instances"]} == {a: False, b: True}
    assert world.run(deciding(l4=PoolTarget(2, 0, protect=(b,))))["chat"].outcome == "unchanged"


def test_nothing_is_removed_if_protection_failed(world, deciding):
    world.stand(pools={"l4": 2}, policy={"workload": "training"})
    busy, idle = world.ids("l4")
    with world.board.failing("autoscaling.SetInstanceProtection"):
        result = world.run(deciding(l4=PoolTarget(1, 0, take=(idle,), protect=(busy,))))["chat"]
    assert result.outcome == "failed"
    assert set(world.ids("l4")) == {busy, idle}


def test_idle_instances_stay_protected_if_an_earlier_call_failed(world, deciding):
    world.stand(pools={"l4": 2}, policy={"workload": "training"})
    busy = tuple(world.ids("l4"))
    world.run(deciding(l4=PoolTarget(2, 0, protect=busy)))
    with world.board.failing("autoscaling.SetDesiredCapacity"):
        world.run(deciding(l4=PoolTarget(3, 0)))
    assert [i["ProtectedFromScaleIn"] for i in world.group("l4")["Instances"]] == [True, True]


def test_protection_by_hand_stays_except_in_training(world, keeping):
    world.stand(pools={"l4": 2})
    world.clients.autoscaling.set_instance_protection(
        AutoScalingGroupName="chat-l4", InstanceIds=world.ids("l4"), ProtectedFromScaleIn=True
    )
    assert world.run(keeping)["chat"].outcome == "unchanged"


def test_more_than_fifty_instances_are_protected_in_several_calls(world, deciding):
    world.stand(pools={"l4": 60}, maximum=60, policy={"workload": "training"})
    world.run(deciding(l4=PoolTarget(60, 0, protect=tuple(world.ids("l4")))))
    assert [len(arguments["InstanceIds"]) for _, arguments in world.board.writes()] == [50, 10]


def test_the_on_demand_base_rises_before_more_is_ordered(world, deciding):
    world.stand(pools={"l4": 2}, spot=True)
    world.run(deciding(l4=PoolTarget(4, 100, on_demand_base=2)))
    assert operations(world) == ["UpdateAutoScalingGroup", "SetDesiredCapacity"]
    _, sent = world.board.writes()[0]
    assert sent["MixedInstancesPolicy"]["InstancesDistribution"] == {
        "OnDemandBaseCapacity": 2,
        "OnDemandPercentageAboveBaseCapacity": 0,
        "SpotAllocationStrategy": "price-capacity-optimized",
    }
    assert sent["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"] == [
        {"InstanceType": "g6.xlarge"},
        {"InstanceType": "g6.2xlarge"},
    ]
    assert set(sent) == {"AutoScalingGroupName", "MixedInstancesPolicy"}, "this call must not set bounds or capacity"
    assert world.run(deciding(l4=PoolTarget(4, 100, on_demand_base=2)))["chat"].outcome == "unchanged"


def test_the_on_demand_base_falls_after_all_other_writes(world, deciding):
    world.stand(pools={"l4": 2}, spot=True)
    world.run(deciding(l4=PoolTarget(2, 100, on_demand_base=2)))
    world.run(deciding(l4=PoolTarget(3, 90, on_demand_base=0)))
    assert operations(world) == ["SetDesiredCapacity", "ModifyRule", "UpdateAutoScalingGroup"]


def test_a_decision_without_a_base_leaves_the_base(world, deciding):
    world.stand(pools={"l4": 2}, spot=True)
    world.run(deciding(l4=PoolTarget(2, 100, on_demand_base=2)))
    world.run(deciding(l4=PoolTarget(2, 100)))
    assert world.board.writes() == []


def test_the_rule_is_sent_whole_with_its_stickiness(world, deciding):
    world.stand(policy={"routing": {"strategy": "sticky", "stickiness_seconds": 1800}})
    world.run(deciding(l4=PoolTarget(2, 300), l40s=PoolTarget(1, 100)))
    (action,) = world.rule_actions()
    assert action["ForwardConfig"]["TargetGroupStickinessConfig"] == {"Enabled": True, "DurationSeconds": 1800}
    assert world.run(deciding())["chat"].outcome == "unchanged"


def test_a_policy_that_becomes_sticky_rewrites_the_rule_with_the_same_weights(world, keeping):
    world.stand()
    world.parameters["chat"]["service"]["policy"]["routing"] = {"strategy": "sticky"}
    world.put_parameter("chat", world.parameters["chat"])
    world.run(keeping)
    assert operations(world) == ["ModifyRule"]


@pytest.mark.parametrize("weight", [-1, 1000])
def test_a_weight_that_aws_refuses_changes_nothing(world, deciding, weight):
    world.stand()
    result = world.run(deciding(l4=PoolTarget(4, weight)))["chat"]
    assert [fault.code for fault in result.faults] == ["InvalidDecision"]
    assert world.board.writes() == []


def test_a_target_for_an_unknown_pool_changes_nothing(world, deciding):
    world.stand()
    result = world.run(deciding(l4=PoolTarget(4, 10), h100=PoolTarget(1, 10)))["chat"]
    assert [fault.code for fault in result.faults] == ["InvalidDecision"]
    assert result.faults[0].message == "decision.targets: must name pools of chat, ['l4', 'l40s'] (got ['h100'])"
    assert world.board.writes() == []


def test_a_failed_scale_out_lets_weights_change_and_removes_nothing(world, deciding):
    world.stand()
    chosen = world.ids("l40s")[0]
    with world.board.failing("autoscaling.SetDesiredCapacity"):
        result = world.run(deciding(l4=PoolTarget(3, 100), l40s=PoolTarget(0, 0, take=(chosen,))))["chat"]
    assert result.outcome == "failed"
    assert world.weights() == {"l4": 100, "l40s": 0}
    assert world.desired() == {"l4": 2, "l40s": 1}
    assert [(w.operation, w.made, w.note) for w in result.writes] == [
        ("SetDesiredCapacity", False, "failed"),
        ("ModifyRule", True, ""),
        ("TerminateInstanceInAutoScalingGroup", False, "an earlier call failed"),
    ]


def test_an_instance_stays_while_its_pool_keeps_its_weight(world, deciding):
    world.stand()
    chosen = world.ids("l40s")[0]
    with world.board.failing("elbv2.ModifyRule"):
        world.run(deciding(l4=PoolTarget(3, 100), l40s=PoolTarget(0, 0, take=(chosen,))))
    assert world.desired() == {"l4": 3, "l40s": 1}
    assert world.weights() == {"l4": 100, "l40s": 100}


def test_the_next_run_makes_the_writes_that_failed(world, deciding):
    world.stand()
    chosen = world.ids("l40s")[0]
    decide = deciding(l4=PoolTarget(3, 100), l40s=PoolTarget(0, 0, take=(chosen,)))
    with world.board.failing("elbv2.ModifyRule"):
        world.run(decide)
    assert world.run(decide)["chat"].outcome == "applied"
    assert world.desired() == {"l4": 3, "l40s": 0}
    assert world.weights() == {"l4": 100, "l40s": 0}


def test_nothing_is_written_if_the_groups_cannot_be_read_again(world, deciding):
    world.stand()
    calls = []

    def second_time_throttled(_):
        calls.append(1)
        return {"Error": {"Code": "Throttling", "Message": "Rate exceeded"}} if len(calls) == 2 else None

    with world.board.answering("autoscaling.DescribeAutoScalingGroups", second_time_throttled):
        result = world.run(deciding(l4=PoolTarget(4, 100)))["chat"]
    assert [fault.code for fault in result.faults] == ["Throttled"]
    assert world.board.writes() == []


class TestInstanceRefresh:
    POLICY = {"vertical": {"method": "in_place"}}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def refreshes(self, world):
        """moto has no instance refresh."""
        self.listed: list[dict] = []
        with (
            world.board.answering(
                "autoscaling.DescribeInstanceRefreshes", lambda _: {"InstanceRefreshes": self.listed}
            ),
            world.board.answering("autoscaling.StartInstanceRefresh", lambda _: {"InstanceRefreshId": "r-1"}),
        ):
            yield

    def refresh(self, deciding, *types, surge=10, **targets):
        return deciding({"refresh": Refresh("l4", types, surge)}, **targets)

    def test_a_refresh_brings_other_types_and_each_new_instance_before_an_old_one_goes(self, world, deciding):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        assert world.run(self.refresh(deciding, "g6e.xlarge"))["chat"].outcome == "applied"
        ((operation, sent),) = world.board.writes()
        assert operation == "StartInstanceRefresh"
        policy = sent["DesiredConfiguration"]["MixedInstancesPolicy"]
        assert policy["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g6e.xlarge"}]
        assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 100
        assert "LaunchTemplateName" not in policy["LaunchTemplate"]["LaunchTemplateSpecification"]
        assert sent["Preferences"] == {
            "MinHealthyPercentage": 100,
            "MaxHealthyPercentage": 110,
            "SkipMatching": True,
            "StandbyInstances": "Ignore",
        }

    def test_additional_instances_are_ordered_after_the_refresh_has_begun(self, world, deciding):
        """Ordered before it, they would come in the old types."""
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        world.run(self.refresh(deciding, "g6.xlarge", surge=50, l4=PoolTarget(8, 100)))
        (first, sent), (second, ordered) = world.board.writes()
        assert (first, second) == ("StartInstanceRefresh", "SetDesiredCapacity")
        assert sent["Preferences"]["MaxHealthyPercentage"] == 150
        assert ordered["DesiredCapacity"] == 8

    def test_if_the_refresh_fails_nothing_is_ordered_in_the_old_types(self, world, deciding):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        with world.board.failing("autoscaling.StartInstanceRefresh", "ResourceContention", "busy"):
            result = world.run(self.refresh(deciding, "g6.xlarge", l4=PoolTarget(8, 100)))["chat"]
        assert result.failed
        assert [operation for operation, _ in world.board.writes()] == ["StartInstanceRefresh"]

    def test_unless_the_state_was_written_no_refresh_begins(self, world, deciding):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        with world.board.failing("dynamodb.PutItem", "InternalServerError", "not now"):
            world.run(self.refresh(deciding, "g6e.xlarge", l4=PoolTarget(3, 100)))
        assert "StartInstanceRefresh" not in [operation for operation, _ in world.board.writes()]
        assert "SetDesiredCapacity" not in [operation for operation, _ in world.board.writes()]

    def test_the_types_that_a_group_launches_are_observed(self, world):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        assert world.observe().pools["l4"].types == ("g6.xlarge", "g6.2xlarge")

    def test_the_types_that_a_refresh_brings_are_observed_before_the_groups_own_change(self, world):
        template = {"Overrides": [{"InstanceType": "g6e.xlarge"}]}
        desired = {"MixedInstancesPolicy": {"LaunchTemplate": template}}
        self.listed.append({"InstanceRefreshId": "r-1", "Status": "Pending", "DesiredConfiguration": desired})
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        assert world.observe().pools["l4"].types == ("g6e.xlarge",)
        self.listed[0]["Status"] = "Failed"
        assert world.observe().pools["l4"].types == ("g6.xlarge", "g6.2xlarge")

    def test_types_that_the_group_already_has_start_no_refresh(self, world, deciding):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        assert world.run(self.refresh(deciding, "g6.xlarge", "g6.2xlarge"))["chat"].outcome == "unchanged"

    def test_a_refresh_under_way_is_no_failure(self, world, deciding):
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        with world.board.failing(
            "autoscaling.StartInstanceRefresh",
            "InstanceRefreshInProgress",
            "An Instance Refresh is already in progress",
        ):
            result = world.run(self.refresh(deciding, "g6e.xlarge"))["chat"]
        assert not result.failed

    @pytest.mark.parametrize(("status", "refreshing"), [("InProgress", True), ("Pending", True), ("Successful", False)])
    def test_a_refresh_is_observed(self, world, status, refreshing):
        self.listed.append({"InstanceRefreshId": "r-1", "Status": status})
        world.stand(pools={"l4": 2}, policy=self.POLICY)
        assert world.observe().pools["l4"].refreshing is refreshing

    def test_refreshes_are_not_read_for_a_service_that_moves_between_pools(self, world, keeping):
        world.stand()
        world.run(keeping)
        assert "autoscaling.DescribeInstanceRefreshes" not in world.board.operations()


@pytest.fixture
def hashing(world):
    """The service `chat` with a rule for each digit, all of its traffic at l4."""
    world.stand(pools={"l4": 2, "l40s": 1}, policy={"routing": {"strategy": "hash", "hash_header": "x-session-id"}})
    actions = world.rule_actions()
    made = [
        world.clients.elbv2.create_rule(
            ListenerArn=world.listener,
            Priority=500 + i,
            Conditions=[
                {
                    "Field": "http-header",
                    "HttpHeaderConfig": {"HttpHeaderName": "x-session-id", "Values": [f"*{digit}"]},
                }
            ],
            Actions=actions,
        )["Rules"][0]["RuleArn"]
        for i, digit in enumerate(DIGITS)
    ]
    world.parameters["chat"]["bindings"]["hash_rule_arns"] = made
    world.put_parameter("chat", world.parameters["chat"])
    return made


def of_digit(world, arn: str) -> dict[str, int]:
    by_arn = {pool.target_group_arn: name for name, pool in world.pools["chat"].items()}
    (rule,) = world.clients.elbv2.describe_rules(RuleArns=[arn])["Rules"]
    return {by_arn[t["TargetGroupArn"]]: t["Weight"] for t in rule["Actions"][0]["ForwardConfig"]["TargetGroups"]}


QUARTER = {"l4": PoolTarget(2, 750), "l40s": PoolTarget(1, 250)}


def test_the_rules_of_all_digits_follow_the_weights(world, deciding, hashing):
    world.run(deciding(**QUARTER))
    assert world.weights() == {"l4": 750, "l40s": 250}
    assert [of_digit(world, arn)["l4"] for arn in hashing] == [999] * 12 + [0] * 4
    assert world.run(deciding(**QUARTER))["chat"].outcome == "unchanged"


def test_a_rule_of_a_digit_that_differs_is_set_right(world, deciding, hashing):
    """A call of an earlier run failed, or somebody changed the rule."""
    world.run(deciding(**QUARTER))
    world.clients.elbv2.modify_rule(RuleArn=hashing[0], Actions=world.rule_actions())
    world.run(deciding(**QUARTER))
    assert operations(world) == ["ModifyRule"]
    assert of_digit(world, hashing[0]) == {"l4": 999, "l40s": 0}


def test_nothing_is_removed_while_a_digit_still_leads_there(world, deciding, hashing):
    world.run(deciding(**QUARTER))
    (last,) = world.ids("l40s")
    with world.board.failing("elbv2.ModifyRule", only=hashing[15]):
        result = world.run(deciding(l4=PoolTarget(2, 999), l40s=PoolTarget(0, 0, take=(last,))))["chat"]
    assert result.outcome == "failed"
    assert world.ids("l40s") == [last]
    world.run(deciding(l4=PoolTarget(2, 999), l40s=PoolTarget(0, 0, take=(last,))))
    assert of_digit(world, hashing[15]) == {"l4": 999, "l40s": 0}
    assert world.ids("l40s") == []


def test_nothing_is_changed_while_a_digits_rule_cannot_be_read(world, deciding, hashing):
    with world.board.failing("elbv2.DescribeRules", only=hashing[3]):
        result = world.run(deciding(**QUARTER))["chat"]
    assert result.outcome == "failed"
    assert world.board.writes() == []


def test_a_deleted_rule_of_a_digit_is_a_fault_and_stops_nothing(world, deciding, hashing):
    """The service's own rule takes its requests."""
    world.clients.elbv2.delete_rule(RuleArn=hashing[3])
    result = world.run(deciding(**QUARTER))["chat"]
    assert [(fault.code, fault.message) for fault in result.faults] == [
        ("UnknownRule", f"{hashing[3]}: no such listener rule")
    ]
    assert result.outcome == "applied"
    assert of_digit(world, hashing[4]) == {"l4": 999, "l40s": 0}
