"""One run over all services: a failure affects only its own service."""

from __future__ import annotations

import json

import pytest

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.state import State
from lambdas.scaler.serve import _rotated
from lambdas.scaler.store import DynamoStateStore

TABLE = "gpu-fleet-test-state"


@pytest.fixture
def more(deciding):
    return deciding(l4=PoolTarget(4, 300))


@pytest.fixture
def two(world):
    """Two services with one pool each."""
    world.stand("chat", {"l4": 2})
    world.stand("code", {"l4": 2})
    return world


def codes(result):
    return [fault.code.value for fault in result.faults]


def test_every_service_gets_its_decision(two, more):
    results = two.run(more)
    assert {name: result.outcome for name, result in results.items()} == {"chat": "applied", "code": "applied"}
    assert two.desired("chat") == two.desired("code") == {"l4": 4}


class TestFaultsOfOneService:
    @pytest.mark.parametrize("text", ["", "{", "null", '{"service": {"name": "chat"}}'])
    def test_a_broken_parameter(self, two, more, text):
        two.put_parameter("chat", text) if text else two.put_parameter("chat", " ")
        results = two.run(more)
        assert codes(results["chat"]) == ["BrokenParameter"]
        assert results["code"].outcome == "applied"
        assert two.desired("chat") == {"l4": 2}

    def test_a_parameter_of_a_later_version(self, two, more):
        two.parameters["chat"]["service"]["policy"]["key_of_tomorrow"] = 1
        two.put_parameter("chat", json.dumps(two.parameters["chat"]))
        results = two.run(more)
        assert "service.policy.key_of_tomorrow" in results["chat"].faults[0].message
        assert two.desired("code") == {"l4": 4}

    def test_a_group_that_is_gone(self, two, more):
        two.clients.autoscaling.delete_auto_scaling_group(AutoScalingGroupName="chat-l4", ForceDelete=True)
        results = two.run(more)
        assert codes(results["chat"]) == ["UnknownGroup"]
        assert results["code"].outcome == "applied"

    def test_a_rule_that_is_gone(self, two, more):
        two.clients.elbv2.delete_rule(RuleArn=two.rules["chat"])
        results = two.run(more)
        assert codes(results["chat"]) == ["UnknownRule"]
        assert two.desired("chat") == {"l4": 2}
        assert results["code"].outcome == "applied"

    def test_target_health_that_cannot_be_read(self, two, more):
        """Without it the scaler knows no ready instance, and decides nothing."""
        with two.board.failing("elbv2.DescribeTargetHealth", only="chat-l4"):
            results = two.run(more)
        assert codes(results["chat"]) == ["Throttled"]
        assert results["chat"].decision is None
        assert two.desired("chat") == {"l4": 2}
        assert results["code"].outcome == "applied"

    @pytest.mark.parametrize("operation", ["SetDesiredCapacity", "ModifyRule"])
    @pytest.mark.parametrize(
        ("code", "expected"),
        [("Throttling", "Throttled"), ("AccessDenied", "AccessDenied"), ("ScalingActivityInProgress", "AwsError")],
    )
    def test_a_write_that_fails(self, two, more, operation, code, expected):
        client = "elbv2" if operation == "ModifyRule" else "autoscaling"
        only = two.rules["chat"] if operation == "ModifyRule" else "chat-l4"
        with two.board.failing(f"{client}.{operation}", code, only=only):
            results = two.run(more)
        assert results["chat"].outcome == "failed"
        assert codes(results["chat"]) == [expected]
        assert results["chat"].faults[0].during == operation
        assert results["code"].outcome == "applied"
        assert len(two.ids("l4", "chat")) >= 2

    def test_a_decision_that_raises(self, two, more):
        def broken(service, observation, state, now):
            if service.name == "chat":
                raise ZeroDivisionError("x / 0")
            return more(service, observation, state, now)

        results = two.run(broken)
        assert results["chat"].faults[0].message == "ZeroDivisionError: x / 0"
        assert codes(results["chat"]) == ["Unexpected"]
        assert results["code"].outcome == "applied"
        assert DynamoStateStore(two.clients.dynamodb, TABLE).read("chat").version == 0

    def test_an_answer_without_a_required_field(self, two, more):
        def without_id(arguments):
            if "chat-l4" not in arguments["TargetGroupArn"]:
                return None
            return {"TargetHealthDescriptions": [{"Target": {}}]}

        with two.board.answering("elbv2.DescribeTargetHealth", without_id):
            results = two.run(more)
        assert codes(results["chat"]) == ["Unexpected"]
        assert results["code"].outcome == "applied"


class TestFaultsOfAllServices:
    def test_without_metrics_the_model_still_decides(self, two, more):
        with two.board.failing("cloudwatch.GetMetricData"):
            results = two.run(more)
        for result in results.values():
            assert codes(result) == ["Throttled"]
            assert result.failed
            assert result.outcome == "applied"
        assert all(report[2].arrivals_rps is None for report in two.reports)

    def test_parameters_that_cannot_be_read_end_the_run_before_any_write(self, two, more):
        with two.board.failing("ssm.GetParametersByPath"), pytest.raises(Exception, match="Rate exceeded"):
            two.run(more)
        assert two.board.writes() == []

    def test_groups_that_cannot_be_read_change_nothing(self, two, more):
        with two.board.failing("autoscaling.DescribeAutoScalingGroups"):
            results = two.run(more)
        assert [codes(result) for result in results.values()] == [["Throttled"], ["Throttled"]]
        assert two.board.writes() == []

    def test_services_are_served_without_an_answer_from_ec2(self, two, more):
        with two.board.failing("ec2.DescribeInstances", "RequestLimitExceeded"):
            results = two.run(more)
        assert [codes(result) for result in results.values()] == [["Throttled"], ["Throttled"]]
        assert two.desired("chat") == two.desired("code") == {"l4": 4}

    def test_a_service_without_time_for_its_turn_has_a_fault(self, two, more):
        results = two.run(more, remaining_seconds=1.0)
        assert [codes(result) for result in results.values()] == [["OutOfTime"], ["OutOfTime"]]
        assert two.board.writes() == []

    def test_each_minute_another_service_is_first(self):
        names = ["a", "b", "c"]
        orders = ["".join(_rotated(names, 60.0 * minute)) for minute in range(4)]
        assert orders == ["abc", "bca", "cab", "abc"]
        assert _rotated([], 0.0) == ()


class TestState:
    def test_the_state_is_written_before_anything_else(self, two, more):
        two.run(more, {"service": "chat"})
        order = [
            operation
            for operation in two.board.operations()
            if operation in ("dynamodb.PutItem", "autoscaling.SetDesiredCapacity")
        ]
        assert order == ["dynamodb.PutItem", "autoscaling.SetDesiredCapacity"]

    def test_the_next_run_starts_from_it(self, two, more, keeping):
        states = []

        def decide(service, observation, state, now):
            states.append(state)
            return keeping(service, observation, state, now)

        two.run(decide, {"service": "chat"})
        two.now += 60
        two.run(decide, {"service": "chat"})
        assert states == [State(), State(at=two.now - 60)]

    def test_of_two_runs_at_once_the_slower_changes_nothing(self, two, deciding):
        """Another whole run happens between this run's read and its write of the state."""
        fast, slow = deciding(l4=PoolTarget(3, 100)), deciding(l4=PoolTarget(7, 900))

        def overtaken(service, observation, state, now):
            own_calls = two.board.calls[:]
            two.run(fast, {"service": "chat"})
            two.board.calls[:] = own_calls
            return slow(service, observation, state, now)

        result = two.run(overtaken, {"service": "chat"})["chat"]
        assert result.outcome == "superseded"
        assert not result.failed
        assert two.board.writes() == []
        assert two.desired("chat") == {"l4": 3}

    def test_a_lost_state_is_a_fresh_one(self, two, keeping):
        store = DynamoStateStore(two.clients.dynamodb, TABLE)
        two.run(keeping)
        two.clients.dynamodb.delete_item(TableName=TABLE, Key={"service": {"S": "chat"}})
        assert two.run(keeping)["chat"].outcome == "unchanged"
        assert store.read("chat").version == 1

    def test_an_unreadable_state_counts_as_lost_is_reported_and_replaced(self, two, keeping):
        item = {"service": {"S": "chat"}, "version": {"N": "5"}, "state": {"S": "{"}}
        two.clients.dynamodb.put_item(TableName=TABLE, Item=item)
        result = two.run(keeping)["chat"]
        assert codes(result) == ["StateUnreadable"]
        assert not result.failed
        assert codes(two.run(keeping)["chat"]) == []

    @pytest.mark.parametrize("operation", ["dynamodb.GetItem", "dynamodb.PutItem"])
    def test_unless_the_state_was_written_capacity_is_added_and_none_removed(self, world, deciding, operation):
        world.stand()
        chosen = world.ids("l40s")[0]
        decide = deciding(l4=PoolTarget(4, 100), l40s=PoolTarget(0, 0, take=(chosen,)))
        with world.board.failing(operation, "ProvisionedThroughputExceededException"):
            result = world.run(decide)["chat"]
        assert codes(result) == ["Throttled"]
        assert world.desired() == {"l4": 4, "l40s": 1}
        assert world.weights() == {"l4": 100, "l40s": 0}
        assert result.writes[-1].note == "the state could not be written"

    def test_a_state_that_could_not_be_read_is_not_written_over(self, two, keeping):
        two.run(keeping)
        with two.board.failing("dynamodb.GetItem"):
            two.run(keeping)
        assert "dynamodb.PutItem" not in two.board.operations()
        assert DynamoStateStore(two.clients.dynamodb, TABLE).read("chat").version == 1


class TestShadow:
    def test_shadow_writes_the_state_and_nothing_else(self, world, deciding):
        world.stand(policy={"mode": "shadow"})
        chosen = world.ids("l40s")[0]
        decide = deciding(l4=PoolTarget(9, 100, on_demand_base=2), l40s=PoolTarget(0, 0, take=(chosen,)))
        result = world.run(decide)["chat"]
        assert result.outcome == "shadow"
        assert result.decision.targets["l4"].desired == 9
        assert world.board.writes() == []
        assert DynamoStateStore(world.clients.dynamodb, TABLE).read("chat").version == 1

    def test_one_service_in_shadow_leaves_the_others_enforced(self, world, more):
        world.stand("chat", {"l4": 2}, policy={"mode": "shadow"})
        world.stand("code", {"l4": 2})
        world.run(more)
        assert world.desired("chat") == {"l4": 2}
        assert world.desired("code") == {"l4": 4}


class TestEvents:
    def test_an_alarm_serves_the_service_behind_it_and_no_other(self, two, more):
        metric = {"metricStat": {"metric": {"dimensions": {"AutoScalingGroupName": "code-l4"}}}}
        two.run(more, {"alarmData": {"configuration": {"metrics": [metric]}}})
        assert two.desired("chat") == {"l4": 2}
        assert two.desired("code") == {"l4": 4}

    def test_a_run_for_one_service_does_not_forget_the_others_instances(self, two, keeping):
        two.run(keeping)
        two.run(keeping, {"service": "code"})
        two.run(keeping)
        assert "ec2.DescribeInstances" not in two.board.operations()


class TestCalls:
    def test_all_services_share_one_call_for_metrics_and_one_for_groups_and_one_for_rules(self, two, keeping):
        two.run(keeping)
        operations = two.board.operations()
        for shared in (
            "cloudwatch.GetMetricData",
            "autoscaling.DescribeAutoScalingGroups",
            "elbv2.DescribeRules",
            "ec2.DescribeInstances",
            "ssm.GetParametersByPath",
        ):
            assert operations.count(shared) == 1, shared

    def test_a_quiet_minute_writes_nothing_but_the_state(self, two, keeping):
        two.run(keeping)
        two.run(keeping)
        writes = [
            operation
            for operation in two.board.operations()
            if not operation.partition(".")[2].startswith(("Describe", "Get"))
        ]
        assert writes == ["dynamodb.PutItem", "dynamodb.PutItem"]

    def test_a_hundred_and_twenty_groups_are_served(self, world, keeping):
        """40 services of three pools each. The switchboard answers for their groups, which do not exist."""
        world.stand("chat", {"l4": 1})
        template = world.parameters["chat"]
        for i in range(40):
            parameter = json.loads(json.dumps(template))
            pool = parameter["service"]["pools"][0]
            binding = parameter["bindings"]["pools"]["l4"]
            parameter["service"]["name"] = f"s{i:02d}"
            parameter["service"]["pools"] = [{**pool, "name": name} for name in ("a", "b", "c")]
            parameter["bindings"]["pools"] = {
                name: {**binding, "group": f"s{i:02d}-{name}"} for name in ("a", "b", "c")
            }
            world.put_parameter(f"s{i:02d}", parameter)
        empty = {"DesiredCapacity": 0, "MinSize": 0, "MaxSize": 5, "Instances": []}

        def groups(arguments):
            names = arguments["AutoScalingGroupNames"]
            return {"AutoScalingGroups": [{**empty, "AutoScalingGroupName": name} for name in names]}

        with world.board.answering("autoscaling.DescribeAutoScalingGroups", groups):
            results = world.run(keeping)
        assert len(results) == 41
        assert {result.outcome for result in results.values()} == {"unchanged"}, results["s00"]
        operations = world.board.operations()
        assert operations.count("autoscaling.DescribeAutoScalingGroups") == 2
        queries = [
            len(a["MetricDataQueries"]) for operation, a in world.board.calls if operation == "cloudwatch.GetMetricData"
        ]
        # 120 pools of 7 of their own, of which requests_running is asked for twice: its sum and its number of values.
        # One pool of 10: the load balancer's three are of the target group that all share here, so they are read once
        # for all, as is its own metric.
        assert queries == [500, 120 * 7 + 10 + 1 - 500]


def test_the_services_own_quotas_override_the_accounts(world, keeping):
    from dataclasses import replace

    world.environment = replace(world.environment, vcpu_quotas={"G": 64, "P": 96})
    world.stand("chat", {"l4": 1})
    world.parameters["chat"]["service"]["vcpu_quotas"] = {"G": 16}
    world.put_parameter("chat", world.parameters["chat"])
    quotas = []

    def decide(service, observation, state, now):
        quotas.append(service.vcpu_quotas)
        return keeping(service, observation, state, now)

    world.run(decide)
    assert quotas == [{"G": 16, "P": 96}]
