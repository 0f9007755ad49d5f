"""From AWS to an observation."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gpu_fleet.scaling.boot import LastBoot
from gpu_fleet.scaling.observation import Phase, Reading
from gpu_fleet.scaling.state import PoolState, State
from tests.scaling.builders import remembered

MINUTE = datetime(2026, 3, 2, 10, 0, tzinfo=UTC).timestamp()
"""The end of the newest complete minute, 20 s before the run."""


def engine(
    world, metric: str, *values: float, pool: str = "l4", at: float = MINUTE + 10, service: str = "chat"
) -> None:
    """A gauge's period of 10 s that begins at `at` (by default the newest that has ended): a value of each instance."""
    for value in values:
        world.publish(metric, value, at, AutoScalingGroupName=f"{service}-{pool}")


class TestWhatStands:
    def test_groups_weights_and_instances_are_seen(self, world):
        world.stand(weights={"l4": 300, "l40s": 100}, maximum=7, spot=True)
        seen = world.observe()
        l4 = seen.pools["l4"]
        assert (l4.desired, l4.min_size, l4.max_size, l4.weight, l4.on_demand_base) == (2, 0, 7, 300, 0)
        assert seen.pools["l40s"].weight == 100
        assert {instance.id for instance in l4.instances} == set(world.ids("l4"))
        assert {instance.phase for instance in l4.instances} == {Phase.READY}
        assert all(instance.zone.startswith("us-east-1") and instance.type == "g6.xlarge" for instance in l4.instances)

    def test_only_healthy_instances_are_ready(self, world):
        world.stand(pools={"l4": 4})
        a, b, c, d = world.ids("l4")
        world.health |= {
            b: ("initial", "Elb.InitialHealthChecking"),
            c: ("unhealthy", "Target.Timeout"),
            d: ("draining", "Target.DeregistrationInProgress"),
        }
        phases = {instance.id: instance.phase for instance in world.observe().pools["l4"].instances}
        assert phases == {a: Phase.READY, b: Phase.STARTING, c: Phase.UNHEALTHY, d: Phase.DRAINING}

    def test_a_target_group_that_the_rule_does_not_know_has_no_weight(self, world):
        world.stand()
        (action,) = world.rule_actions()
        action["ForwardConfig"]["TargetGroups"] = action["ForwardConfig"]["TargetGroups"][:1]
        world.clients.elbv2.modify_rule(
            RuleArn=world.rules["chat"], Actions=[{"Type": "forward", "ForwardConfig": action["ForwardConfig"]}]
        )
        assert {name: pool.weight for name, pool in world.observe().pools.items()} == {"l4": 100, "l40s": 0}

    def test_a_new_instance_that_ec2_does_not_show_yet_was_launched_just_now(self, world):
        world.stand(pools={"l4": 1})
        with world.board.answering("ec2.DescribeInstances", lambda _: {"Reservations": []}):
            (instance,) = world.observe().pools["l4"].instances
        assert instance.since == world.now
        assert not instance.spot

    def test_the_boot_of_an_instance_is_seen_from_one_run_to_the_next(self, world, keeping):
        world.stand(pools={"l4": 1})
        (id_,) = world.ids("l4")
        world.health[id_] = ("initial", "Elb.InitialHealthChecking")
        assert world.observe().pools["l4"].instances[0].ready_at is None
        world.health.clear()
        world.now += 60
        assert world.observe().pools["l4"].instances[0].ready_at == world.now

    def test_a_group_without_instances_costs_no_call_for_its_targets(self, world, keeping):
        world.stand(pools={"l4": 0})
        world.run(keeping)
        assert "elbv2.DescribeTargetHealth" not in world.board.operations()


class TestRequests:
    def test_requests_are_seen_by_pool_and_over_all(self, world):
        world.stand()
        world.publish_requests("l4", MINUTE - 60, 600)
        world.publish_requests("l40s", MINUTE - 60, 120)
        seen = world.observe()
        assert seen.pools["l4"].rate_rps == Reading(10, MINUTE)
        assert seen.pools["l40s"].rate_rps == Reading(2, MINUTE)
        assert seen.arrivals_rps == Reading(12, MINUTE)

    def test_no_requests_under_a_heartbeat_are_zero(self, world):
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 60, None)
        assert world.observe().arrivals_rps == Reading(0, MINUTE)

    def test_no_requests_and_no_heartbeat_are_missing(self, world):
        world.stand(pools={"l4": 1})
        seen = world.observe()
        assert seen.arrivals_rps is None
        assert seen.pools["l4"].rate_rps is None

    def test_one_pool_that_is_not_known_leaves_the_whole_unknown(self, world):
        world.stand()
        world.publish_requests("l4", MINUTE - 60, 600)
        seen = world.observe()
        assert seen.pools["l4"].rate_rps == Reading(10, MINUTE)
        assert seen.arrivals_rps is None

    def test_a_pool_without_instances_gets_no_requests_and_hides_nothing(self, world):
        world.stand(pools={"l4": 1, "l40s": 0})
        world.publish_requests("l4", MINUTE - 60, 600)
        seen = world.observe()
        assert seen.pools["l40s"].rate_rps == Reading(0, MINUTE)
        assert seen.arrivals_rps == Reading(10, MINUTE)

    def test_the_last_requests_of_a_pool_that_has_just_gone_count(self, world):
        world.stand(pools={"l4": 1, "l40s": 0})
        world.publish_requests("l4", MINUTE - 60, 600)
        world.publish_requests("l40s", MINUTE - 60, 60, healthy=None)
        assert world.observe().arrivals_rps == Reading(11, MINUTE)

    def test_the_minute_under_way_is_not_read(self, world):
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 60, 600)
        world.publish_requests("l4", MINUTE, 6000)
        assert world.observe().arrivals_rps == Reading(10, MINUTE)

    def test_an_incomplete_newest_minute_is_no_fall(self, world):
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 120, 600)
        world.publish_requests("l4", MINUTE - 60, 180)
        assert world.observe().arrivals_rps == Reading(10, MINUTE - 60)

    def test_a_newest_minute_of_which_only_the_heartbeat_has_come_is_no_fall_to_zero(self, world):
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 120, 600)
        world.publish_requests("l4", MINUTE - 60, None)
        assert world.observe().arrivals_rps == Reading(10, MINUTE - 60)

    def test_stale_requests_are_missing(self, world):
        world.stand(pools={"l4": 1}, policy={"load": {"stale_after_seconds": 90}})
        world.publish_requests("l4", MINUTE - 180, 600)
        assert world.observe().arrivals_rps is None

    def test_a_minute_that_is_just_not_stale_yet_is_read_from_its_beginning(self, world):
        # The run is 20 s into the minute: what ended 180 s before the minute is 200 s old.
        world.stand(pools={"l4": 1}, policy={"load": {"stale_after_seconds": 200}})
        world.publish_requests("l4", MINUTE - 240, 600)
        assert world.observe().arrivals_rps == Reading(10, MINUTE - 180)

    def test_each_service_is_read_by_its_own_staleness(self, world):
        """One window is asked for all; the most patient service sets it."""
        world.stand("chat", {"l4": 1}, policy={"load": {"stale_after_seconds": 90}})
        world.stand("code", {"l4": 1}, policy={"load": {"stale_after_seconds": 600}})
        for service in ("chat", "code"):
            world.publish_requests("l4", MINUTE - 300, 600, service)
        assert world.observe("chat").arrivals_rps is None
        world.clients.dynamodb.delete_item(TableName="gpu-fleet-test-state", Key={"service": {"S": "code"}})
        assert world.observe("code").arrivals_rps == Reading(10, MINUTE - 240)

    def test_rejected_requests_are_read_for_a_service_that_can_sleep(self, world):
        world.stand(pools={"l4": 0})
        world.publish(
            "HTTPCode_ELB_503_Count", 30, MINUTE - 60, namespace="AWS/ApplicationELB", LoadBalancer=world.load_balancer
        )
        seen = world.observe()
        assert seen.rejected_rps == Reading(0.5, MINUTE)
        assert seen.arrivals_rps == Reading(0, MINUTE)

    def test_a_late_sign_of_waking_is_not_passed_over(self, world):
        world.stand(pools={"l4": 1})
        world.publish(
            "HTTPCode_ELB_503_Count", 30, MINUTE - 120, namespace="AWS/ApplicationELB", LoadBalancer=world.load_balancer
        )
        world.publish_requests("l4", MINUTE - 60, None)
        assert world.observe().rejected_rps == Reading(0.5, MINUTE - 60)

    def test_without_any_sign_of_the_load_balancer_rejections_are_missing(self, world):
        world.stand(pools={"l4": 0})
        assert world.observe().rejected_rps is None


class TestEngine:
    @pytest.mark.parametrize("ready", [1, 2, 5])
    def test_running_and_waiting_are_totals_over_the_instances_that_published(self, world, ready):
        """However many are ready by the time of the run."""
        world.stand(pools={"l4": ready})
        engine(world, "requests_running", 10, 14)
        engine(world, "requests_waiting", 0, 3)
        pool = world.observe().pools["l4"]
        assert pool.running == Reading(24, MINUTE + 20)
        assert pool.waiting == Reading(3, MINUTE + 20)
        assert pool.load == Reading(27, MINUTE + 20)
        assert pool.publishers == 2

    def test_a_silent_engine_is_missing_and_not_idle(self, world):
        world.stand(pools={"l4": 1})
        pool = world.observe().pools["l4"]
        assert pool.load is None
        assert pool.running is None
        assert pool.waiting is None

    def test_half_an_answer_is_no_load(self, world):
        world.stand(pools={"l4": 1})
        engine(world, "requests_running", 12)
        assert world.observe().pools["l4"].load is None

    def test_a_pool_that_only_boots_carries_nothing(self, world):
        world.stand(pools={"l4": 1})
        world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
        pool = world.observe().pools["l4"]
        assert pool.load is not None
        assert pool.load.value == 0
        assert pool.rate_rps == Reading(0, MINUTE)

    def test_a_pool_that_only_drains_carries_nothing_and_hides_no_burst(self, world):
        """Its engines are silent: 15 minutes without the service's count would be as many without a burst seen."""
        world.stand(pools={"l4": 1, "l40s": 1})
        world.health[world.ids("l40s")[0]] = ("draining", "Target.DeregistrationInProgress")
        for pool in ("l4", "l40s"):
            world.publish_requests(pool, MINUTE - 60, 300)
        for i, running in enumerate([10, 70]):
            engine(world, "requests_running", running, at=MINUTE + 10 * i)
            engine(world, "requests_waiting", 0, at=MINUTE + 10 * i)
            engine(world, "finished_rps", 1, at=MINUTE + 10 * i)
        seen = world.observe()
        assert seen.pools["l40s"].load == Reading(0, MINUTE + 20)
        assert seen.pools["l40s"].rate_rps == Reading(5, MINUTE)
        assert seen.burst_rps == Reading(7, MINUTE + 20)

    def test_the_newest_minute_is_averaged_and_the_newest_ten_seconds_tell_a_burst(self, world):
        world.stand(pools={"l4": 2})
        world.publish_requests("l4", MINUTE - 60, 600)
        for i, running in enumerate([100, 100, 100, 100, 100, 160]):
            at = MINUTE + 10 - 10 * (5 - i)
            engine(world, "requests_running", running, running, at=at)
            engine(world, "requests_waiting", 0, 0, at=at)
            engine(world, "finished_rps", 4, 6, at=at)
        seen = world.observe()
        assert seen.pools["l4"].running == Reading(220, MINUTE + 20)
        # 120 more in flight within 10 s, on top of the 10 rps that end.
        assert seen.burst_rps == Reading(22, MINUTE + 20)

    def test_engines_that_do_not_tell_what_ended_tell_of_no_burst(self, world):
        """The load balancer's count in its place would be of requests, and not of their answers."""
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 60, 600)
        for i, running in enumerate([100, 160]):
            engine(world, "requests_running", running, at=MINUTE + 10 * i)
            engine(world, "requests_waiting", 0, at=MINUTE + 10 * i)
        assert world.observe().burst_rps is None

    def test_load_is_in_the_policys_unit(self, world):
        world.stand(pools={"l4": 2}, policy={"load": {"unit": "requests_per_second"}})
        world.publish_requests("l4", MINUTE - 60, 600)
        assert world.observe().pools["l4"].load == Reading(10, MINUTE)

    def test_prompt_lengths_count_by_the_pools_share_of_requests(self, world):
        world.stand()
        world.publish_requests("l4", MINUTE - 60, 300)
        world.publish_requests("l40s", MINUTE - 60, 100)
        engine(world, "input_tokens", 1000, at=MINUTE - 60)
        engine(world, "input_tokens", 2000, pool="l40s", at=MINUTE - 60)
        assert world.observe().input_tokens == Reading(1250, MINUTE)

    def test_late_requests_are_summed_over_instances_and_pools(self, world):
        """Of 60 requests on two instances of one pool 6 were late, and none of 240 in the other: 2 %."""
        world.stand(pools={"l4": 2, "l40s": 1}, policy={"slo": {"ttft_seconds": 2}})
        for i in range(6):
            for judged, late in ((4, 1), (6, 0)):
                engine(world, "judged_requests", judged, at=MINUTE - 60 + 10 * i)
                engine(world, "late_requests", late, at=MINUTE - 60 + 10 * i)
            engine(world, "judged_requests", 40, pool="l40s", at=MINUTE - 60 + 10 * i)
            engine(world, "late_requests", 0, pool="l40s", at=MINUTE - 60 + 10 * i)
        assert world.observe().late_share == Reading(0.02, MINUTE)

    def test_requests_that_engines_refused_are_demand_and_late(self, world):
        world.stand(pools={"l4": 2}, policy={"slo": {"ttft_seconds": 2}})
        world.publish_requests("l4", MINUTE - 60, 60)
        world.publish_refused("l4", MINUTE - 60, 30)
        engine(world, "judged_requests", 5, 5, at=MINUTE - 10)
        engine(world, "late_requests", 0, 0, at=MINUTE - 10)
        seen = world.observe()
        assert seen.arrivals_rps == Reading(1, MINUTE)
        assert seen.late_share is not None
        assert seen.late_share.value == pytest.approx(30 / 40)

    @pytest.mark.parametrize(
        ("policy", "asked"),
        [
            ({"slo": {"ttft_seconds": 2}}, True),
            ({"overload": {"max_wait_seconds": 9}}, True),
            ({"slo": {"ttft_seconds": 2}, "overload": {"refuse": False}}, False),
            ({}, False),
        ],
    )
    def test_refusals_are_read_where_engines_refuse(self, world, keeping, policy, asked):
        world.stand(pools={"l4": 2}, policy=policy)
        world.run(keeping)
        (call,) = [arguments for operation, arguments in world.board.calls if operation == "cloudwatch.GetMetricData"]
        names = [query["MetricStat"]["Metric"]["MetricName"] for query in call["MetricDataQueries"]]
        assert ("HTTPCode_Target_5XX_Count" in names) is asked

    def test_late_requests_are_not_read_without_an_slo(self, world):
        world.stand(pools={"l4": 1})
        engine(world, "judged_requests", 10, at=MINUTE - 10)
        engine(world, "late_requests", 1, at=MINUTE - 10)
        assert world.observe().late_share is None

    def test_node_signals_are_read_where_the_policy_has_a_limit_for_them(self, world):
        thresholds = {"cpu_percent": 90, "memory_percent": 90, "gpu_percent": 90, "network_latency_seconds": 0.1}
        world.stand(pools={"l4": 1}, policy={"thresholds": thresholds, "slo": {"ttft_seconds": 2}})
        given = {
            "cpu_percent": 51,
            "memory_percent": 52,
            "gpu_percent": 53,
            "network_latency_seconds": 0.02,
            "ttft_p95_seconds": 1.1,
            "kv_cache_percent": 60,
        }
        for metric, value in given.items():
            engine(world, metric, value, at=MINUTE - 60)
        pool = world.observe().pools["l4"]
        seen = (
            pool.cpu_percent,
            pool.memory_percent,
            pool.gpu_percent,
            pool.network_latency_seconds,
            pool.ttft_seconds,
            pool.kv_cache_percent,
        )
        assert [reading.value for reading in seen] == list(given.values())

    def test_what_the_policy_has_no_use_for_is_not_paid_for(self, world, keeping):
        world.stand(pools={"l4": 1})
        world.run(keeping)
        (asked,) = [arguments for operation, arguments in world.board.calls if operation == "cloudwatch.GetMetricData"]
        names = [q["MetricStat"]["Metric"]["MetricName"] for q in asked["MetricDataQueries"]]
        assert sorted(names) == sorted([
            "RequestCount", "HealthyHostCount", "TargetResponseTime", "HTTPCode_ELB_503_Count", "requests_running",
            "requests_running", "requests_waiting", "finished_rps", "input_tokens", "output_tokens", "kv_cache_percent",
        ])  # fmt: skip

    def test_the_phases_of_a_boot_are_read_after_a_launch_and_of_no_other_pool(self, world):
        world.stand()
        for pool in ("l4", "l40s"):
            for image in (300.0, 320.0):
                world.publish("boot_seconds", image, MINUTE - 60, AutoScalingGroupName=f"chat-{pool}", phase="image")
        boot = LastBoot(MINUTE - 40, 650.0, {})
        state = State(at=MINUTE - 40, pools={"l4": PoolState(boot=boot)})
        seen = world.observe(state=state)
        assert seen.pools["l4"].boot_seconds == {"image": Reading(310.0, MINUTE)}
        assert seen.pools["l40s"].boot_seconds == {}

    @pytest.mark.parametrize("boot", [None, LastBoot(MINUTE - 40, 650.0, {"image": 310.0}, wanted=False)])
    def test_the_phases_of_a_boot_cost_nothing_otherwise(self, world, boot):
        world.stand()
        world.observe(state=State(at=MINUTE - 40, pools={"l4": PoolState(boot=boot)}))
        (read,) = [arguments for operation, arguments in world.board.calls if operation == "cloudwatch.GetMetricData"]
        names = [query["MetricStat"]["Metric"]["MetricName"] for query in read["MetricDataQueries"]]
        assert names
        assert "boot_seconds" not in names

    def test_loads_of_single_instances_are_read_when_one_is_to_be_chosen(self, world):
        world.stand(pools={"l4": 2})
        a, b = world.ids("l4")
        for id_, running in ((a, 9), (b, 2)):
            world.publish("requests_running", running, MINUTE - 60, AutoScalingGroupName="chat-l4", InstanceId=id_)
            world.publish("requests_waiting", 1, MINUTE - 60, AutoScalingGroupName="chat-l4", InstanceId=id_)
        state = remembered(at=MINUTE - 40, loads_wanted_since=MINUTE - 40.0)
        loads = {i.id: i.load for i in world.observe(state=state).pools["l4"].instances}
        assert loads == {a: Reading(10, MINUTE), b: Reading(3, MINUTE)}

    def test_loads_of_single_instances_are_not_read_otherwise(self, world):
        world.stand(pools={"l4": 1})
        (id_,) = world.ids("l4")
        world.publish("requests_running", 9, MINUTE - 60, AutoScalingGroupName="chat-l4", InstanceId=id_)
        world.publish("requests_waiting", 9, MINUTE - 60, AutoScalingGroupName="chat-l4", InstanceId=id_)
        assert world.observe().pools["l4"].instances[0].load is None


class TestHistory:
    STATE = remembered(at=MINUTE - 40, season_wanted=True)

    def test_history_is_read_when_the_state_asks_for_it(self, world):
        world.stand(policy={"forecast": {"history_days": 1}})
        for i in range(3):
            world.publish_requests("l4", MINUTE - 900 + 300 * i, 300 * (i + 1))
        world.publish_requests("l40s", MINUTE - 300, 150)
        history = world.observe(state=self.STATE).history_rps
        assert history == (Reading(1, MINUTE - 600), Reading(2, MINUTE - 300), Reading(3.5, MINUTE))

    def test_a_quiet_time_under_a_heartbeat_is_zero_and_a_gap_is_a_gap(self, world):
        world.stand(pools={"l4": 1}, policy={"forecast": {"history_days": 1}})
        world.publish_requests("l4", MINUTE - 900, 300)
        world.publish_requests("l4", MINUTE - 300, None)
        assert world.observe(state=self.STATE).history_rps == (Reading(1, MINUTE - 600), Reading(0, MINUTE))

    def test_no_history_is_read_otherwise(self, world, keeping):
        world.stand()
        world.run(keeping)
        assert world.board.operations().count("cloudwatch.GetMetricData") == 1

    def test_a_history_without_one_of_its_pools_is_none_rather_than_too_low(self, world):
        world.stand(policy={"forecast": {"history_days": 1}})

        def half(asked):
            queries = asked["MetricDataQueries"]
            if queries[0]["MetricStat"]["Period"] != 300:
                return None
            when = [datetime.fromtimestamp(MINUTE - 300, UTC)]
            return {
                "MetricDataResults": [
                    {"Id": q["Id"], "StatusCode": "InternalError"}
                    if "chat-l40s" in str(q)
                    else {"Id": q["Id"], "StatusCode": "Complete", "Timestamps": when, "Values": [300.0]}
                    for q in queries
                ]
            }

        with world.board.answering("cloudwatch.GetMetricData", half):
            assert world.observe(state=self.STATE).history_rps == ()

    def test_a_history_that_fails_leaves_the_newest_minutes_alone(self, world, keeping):
        world.stand(pools={"l4": 1})
        world.publish_requests("l4", MINUTE - 60, 600)
        world.scaler(keeping).store.write("chat", self.STATE, 0)
        with world.board.failing("cloudwatch.GetMetricData", only='"Period": 300'):
            result = world.run(keeping)["chat"]
        assert [fault.code for fault in result.faults] == ["Throttled"]
        observation = world.reports[0][2]
        assert observation.arrivals_rps == Reading(10, MINUTE)
        assert observation.history_rps == ()


class TestCapacityErrors:
    def failed(self, message: str):
        when = datetime.fromtimestamp(MINUTE - 30, UTC)
        activity = {
            "StatusCode": "Failed",
            "StatusMessage": message,
            "StartTime": when,
            "EndTime": when,
            "Description": "Launching a new EC2 instance",
        }
        return lambda _: {"Activities": [activity]}

    def test_a_group_that_lacks_instances_is_asked_why(self, world):
        world.stand(pools={"l4": 2})
        world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
        message = "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available."
        with world.board.answering("autoscaling.DescribeScalingActivities", self.failed(message)):
            (error,) = world.observe().pools["l4"].capacity_errors
        assert (error.spot, error.at) == (True, MINUTE - 30)
        (asked,) = [a for operation, a in world.board.calls if operation == "autoscaling.DescribeScalingActivities"]
        assert asked == {"AutoScalingGroupName": "chat-l4", "MaxRecords": 20}

    def test_a_group_that_has_what_it_wants_is_not_asked(self, world, keeping):
        world.stand()
        world.run(keeping)
        assert "autoscaling.DescribeScalingActivities" not in world.board.operations()

    def test_a_launch_that_fails_for_another_reason_is_told_without_stopping_anything(self, world, keeping):
        world.stand(pools={"l4": 1})
        world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
        with world.board.answering(
            "autoscaling.DescribeScalingActivities", self.failed("Invalid IamInstanceProfile: node")
        ):
            result = world.run(keeping)["chat"]
        assert [(f.code, f.message) for f in result.faults] == [
            ("LaunchFailed", "chat-l4: Invalid IamInstanceProfile: node")
        ]
        assert not result.failed

    def test_any_failed_launch_reaches_the_model_with_its_reason(self, world):
        world.stand(pools={"l4": 1})
        world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
        with world.board.answering(
            "autoscaling.DescribeScalingActivities", self.failed("Invalid IamInstanceProfile: node")
        ):
            (error,) = world.observe().pools["l4"].capacity_errors
        assert (error.zone, error.spot, error.at) == ("", None, MINUTE - 30)
        assert error.why == "Invalid IamInstanceProfile: node"

    def test_a_suspended_launch_is_seen_and_told_without_an_alarm(self, world, keeping):
        world.stand()
        world.clients.autoscaling.suspend_processes(AutoScalingGroupName="chat-l4", ScalingProcesses=["Launch"])
        pools = world.observe().pools
        assert {name: view.launch_suspended for name, view in pools.items()} == {"l4": True, "l40s": False}
        result = world.run(keeping)["chat"]
        assert [(f.code, f.message) for f in result.faults] == [("LaunchSuspended", "chat-l4: Launch is suspended.")]
        assert not result.failed

    def test_the_groups_own_zones_are_seen(self, world):
        world.stand()
        assert {view.zones for view in world.observe().pools.values()} == {("us-east-1a", "us-east-1b")}

    def test_activities_that_cannot_be_read_cost_nothing_but_themselves(self, world, keeping):
        world.stand(pools={"l4": 1})
        world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
        with world.board.failing("autoscaling.DescribeScalingActivities"):
            result = world.run(keeping)["chat"]
        assert result.decision is not None
        assert [fault.code for fault in result.faults] == ["Throttled"]


class TestTraining:
    @pytest.fixture
    def queue(self, world):
        return world.clients.sqs.create_queue(QueueName="jobs")["QueueUrl"]

    def stand(self, world, queue, count=2):
        world.stand("train", {"l4": count}, policy={"workload": "training"}, queue_url=queue)

    def test_the_queue_is_seen_with_its_oldest_job(self, world, queue):
        self.stand(world, queue)
        for _ in range(3):
            world.clients.sqs.send_message(QueueUrl=queue, MessageBody="job")
        world.publish("ApproximateAgeOfOldestMessage", 240, MINUTE - 60, namespace="AWS/SQS", QueueName="jobs")
        engine(world, "job_seconds", 900, at=MINUTE - 60, service="train")
        jobs = world.observe("train").jobs
        assert (jobs.waiting, jobs.oldest_seconds, jobs.mean_job_seconds) == (3, 240, 900)

    def test_an_empty_queue_has_no_oldest_job_whatever_the_late_metric_says(self, world, queue):
        self.stand(world, queue)
        world.publish("ApproximateAgeOfOldestMessage", 240, MINUTE - 60, namespace="AWS/SQS", QueueName="jobs")
        jobs = world.observe("train").jobs
        assert (jobs.waiting, jobs.oldest_seconds, jobs.mean_job_seconds) == (0, 0, None)

    def test_a_queue_that_cannot_be_read_is_missing_and_not_empty(self, world, queue, keeping):
        self.stand(world, queue)
        with world.board.failing("sqs.GetQueueAttributes"):
            result = world.run(keeping)["train"]
        assert world.reports[0][2].jobs is None
        assert [fault.code for fault in result.faults] == ["Throttled"]

    def test_jobs_on_an_instance_are_known_every_minute_and_unknown_where_it_is_silent(self, world, queue):
        self.stand(world, queue, 3)
        a, b, c = world.ids("l4", "train")
        world.publish("jobs_running", 0, MINUTE - 60, AutoScalingGroupName="train-l4", InstanceId=a)
        world.publish("jobs_running", 0.3, MINUTE - 60, AutoScalingGroupName="train-l4", InstanceId=b)
        instances = {instance.id: instance.jobs for instance in world.observe("train").pools["l4"].instances}
        assert instances == {a: 0, b: 1, c: None}

    def test_the_time_that_jobs_have_left_is_read_when_an_instance_is_to_be_chosen(self, world, queue):
        self.stand(world, queue, 1)
        (id_,) = world.ids("l4", "train")
        world.publish("job_remaining_seconds", 90, MINUTE - 60, AutoScalingGroupName="train-l4", InstanceId=id_)
        (instance,) = (
            world.observe("train", remembered(at=MINUTE - 40, loads_wanted_since=MINUTE - 40.0)).pools["l4"].instances
        )
        assert instance.remaining_seconds == 90

    def test_instances_of_a_training_pool_are_ready_without_a_load_balancer(self, world, queue):
        self.stand(world, queue)
        seen = world.observe("train")
        assert {instance.phase for instance in seen.pools["l4"].instances} == {Phase.READY}
        assert seen.arrivals_rps is None
        assert seen.pools["l4"].rate_rps is None
