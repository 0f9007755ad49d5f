from __future__ import annotations

from collections.abc import Callable

from gpu_fleet.emulator import Change
from gpu_fleet.emulator.faults import (
    Shortage,
    api_call_will_fail,
    no_capacity,
    rebalance_recommendation,
    spot_interruption,
)
from gpu_fleet.replay import LoggedDecision, Replay
from gpu_fleet.replay.replay_result import MinuteOfReplay
from gpu_fleet.scaling.observation import Phase


def minutes(replay: Replay, count: int) -> list[MinuteOfReplay]:
    """Replay this many minutes more, and return them."""
    before = len(replay.minutes)
    for _ in range(count):
        replay.step()
    return replay.minutes[before:]


def total(minute: MinuteOfReplay) -> int:
    return sum(pool.desired for pool in minute.pools.values())


def newest(replay: Replay, service: str = "chat") -> LoggedDecision:
    return next(one for run in reversed(replay.invocations) for one in run.decisions if one.service == service)


def desired(replay: Replay) -> dict[str, int]:
    """Return the groups' desired counts by pool."""
    groups = replay.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    by_name = {group["AutoScalingGroupName"]: group["DesiredCapacity"] for group in groups}
    return {pool: by_name[one["group"]] for pool, one in replay.cloud.services["chat"]["bindings"]["pools"].items()}


def until(replay: Replay, condition: Callable[[], bool], most: int = 12) -> None:
    for _ in range(most):
        replay.step()
        if condition():
            return
    raise AssertionError(f"did not happen within {most} minutes")


def test_pools_grow_on_a_rise_and_shrink_after_it_and_no_request_is_lost(loop):
    """A rise that the engines' queues take; of a larger one they refuse a part."""
    replay = loop([(4, 2.0), (7, 8.0), (9, 2.0)], ready={"l4": 2})
    result = replay.run()
    assert result.failures == ()
    sizes = [total(minute) for minute in result.minutes]
    assert max(sizes) > sizes[0]
    assert sizes[-1] < max(sizes)
    assert result.requests == replay.simulation.arrived
    assert result.lost == 0
    assert result.rejected == 0
    scheduled = [run for run in result.invocations if run.trigger == "schedule"]
    assert len(scheduled) == 19, "once a minute, and not at the trace's end"
    assert result.cost_usd == sum(result.usd_by_pool.values()) > 0
    # Instances are billed by the second: less than the largest fleet all the time, more than half of the first.
    hours = sum(result.machine_hours.values())
    assert sizes[0] * 20 / 60 * 0.5 < hours < max(sizes) * 20 / 60


def test_traffic_goes_where_capacity_is_ready_and_nowhere_else(loop):
    replay = loop([(5, 3.0), (8, 25.0)], ready={"l4": 2})
    for minute in replay.run().minutes[2:]:
        for name, pool in minute.pools.items():
            assert pool.weight == 0 or pool.ready or pool.draining, f"{name} at {minute.at:g} s: {pool}"


def test_a_burst_runs_the_scaler_before_the_minute_is_over(loop):
    replay = loop([(3, 1.0), (6, 30.0)], ready={"l4": 1})
    result = replay.run()
    early = [run for run in result.invocations if run.trigger == "alarm"]
    assert early
    assert all(run.failure is None for run in early)
    assert any((run.at - result.start) % 60 for run in early)


def test_a_service_that_cannot_be_observed_costs_the_other_nothing_and_recovers_in_the_next_run(loop, two_services):
    replay = loop([(8, 3.0)], ready={"l4": 2}, project=two_services)
    minutes(replay, 3)
    with api_call_will_fail("elbv2", "DescribeTargetHealth", "AccessDenied", status=403):
        replay.step()
    hit = replay.invocations[-1]
    outcomes = {one.service: one.outcome for one in hit.decisions}
    assert set(outcomes) == {"chat", "code"}
    assert sorted(outcome == "failed" for outcome in outcomes.values()) == [False, True]
    assert hit.error is None, "a fault of one service does not fail the run"
    assert hit.failure is not None
    assert [one["code"] for one in hit.decisions for one in one.faults] == ["AccessDenied"]
    replay.step()
    assert replay.invocations[-1].failure is None
    assert {one.outcome for one in replay.invocations[-1].decisions} <= {"applied", "unchanged"}


def test_a_write_that_fails_is_made_by_the_next_run(loop):
    replay = loop([(4, 2.0), (10, 14.0)], ready={"l4": 2})
    minutes(replay, 4)
    before = sum(desired(replay).values())
    with api_call_will_fail("autoscaling", "SetDesiredCapacity", "AccessDenied", times=None, status=403):
        until(replay, lambda: replay.invocations[-1].failure is not None)
        replay.step()
        assert sum(desired(replay).values()) == before
    until(replay, lambda: replay.invocations[-1].failure is None, most=1)
    assert sum(desired(replay).values()) > before
    assert replay.result().lost == 0


def spot_instances(replay: Replay) -> list[str]:
    return sorted(id_ for id_, one in replay.fleet.running.items() if one.machine.spot)


def test_a_spot_instance_that_will_be_interrupted_drains_and_is_replaced_at_once(loop, spot):
    """EventBridge, the rule and the handler do it: the instance's own agent may not end an instance."""
    replay = loop([(10, 6.0)], ready={"l4": 4}, project=spot)
    changes = []
    replay.cloud.watch(changes.append)
    minutes(replay, 2)
    going = spot_instances(replay)[0]
    with spot_interruption(replay.cloud, going):
        # EC2 may send both notices together.
        rebalance_recommendation(replay.cloud, going)
        minutes(replay, 1)
        answered = [run for run in replay.invocations if run.trigger == "notice"]
        assert len(answered) == 2
        assert all(run.failure is None and run.decisions == () for run in answered)
        standing = replay.fleet.count("l4", Phase.READY) + replay.fleet.count("l4", Phase.STARTING)
        assert standing == desired(replay)["l4"], "one replacement, even for two notices"
        result = replay.run()
    of_going = [change.change for change in changes if change.instance_id == going]
    assert of_going == [Change.INTERRUPTION_NOTICE, Change.DRAINING, Change.GONE]
    assert (result.lost, result.failures) == (0, ())


def test_a_notice_that_the_scaler_may_not_act_on_costs_only_the_time_until_the_group_notices(loop, spot):
    replay = loop([(9, 2.0)], ready={"l4": 3}, project=spot)
    minutes(replay, 2)
    going = spot_instances(replay)[0]
    with (
        api_call_will_fail("autoscaling", "TerminateInstanceInAutoScalingGroup", "AccessDenied", status=403),
        spot_interruption(replay.cloud, going),
    ):
        minutes(replay, 1)
    (answered,) = [run for run in replay.invocations if run.trigger == "notice"]
    assert answered.error is None
    assert answered.faults == {"chat": ("AccessDenied",)}
    minutes(replay, 6)
    assert going not in replay.fleet.running
    assert replay.minutes[-1].pools["l4"].ready >= 1


def test_where_a_pool_has_no_capacity_another_carries_the_load(loop):
    replay = loop([(3, 5.0), (14, 40.0)], ready={"l4": 1, "l40s": 1})
    with no_capacity(replay.cloud, Shortage(group=replay.cloud.group_name("chat", "l40s"))):
        result = replay.run()
    assert max(minute.pools["l40s"].ready for minute in result.minutes) == 1
    others = [minute.pools["l4"].ready + minute.pools["h100"].ready for minute in result.minutes]
    assert others[-1] > others[0]
    assert result.failures == ()


def reasons(replay: Replay) -> set[str]:
    return set(newest(replay).codes)


def test_where_a_groups_launch_is_suspended_others_carry_the_rise_until_it_is_resumed(loop):
    """Somebody keeps a type out: its desired count stays with what stands, and the next run orders elsewhere."""
    replay = loop([(3, 5.0), (17, 40.0)], ready={"l4": 2, "l40s": 1})
    group = replay.cloud.group_name("chat", "l40s")
    autoscaling = replay.cloud.client("autoscaling")
    minutes(replay, 2)
    autoscaling.suspend_processes(AutoScalingGroupName=group, ScalingProcesses=["Launch"])
    for _ in range(10):
        replay.step()
        assert desired(replay)["l40s"] == 1
        assert [fault["code"] for fault in newest(replay).faults] == ["LaunchSuspended"]
        assert "mix.launch_suspended" in reasons(replay)
        assert replay.invocations[-1].failure is None
    others = [minute.pools["l4"].ready + minute.pools["h100"].ready for minute in replay.minutes]
    assert others[-1] >= 4
    autoscaling.resume_processes(AutoScalingGroupName=group, ScalingProcesses=["Launch"])
    minutes(replay, 2)
    assert newest(replay).faults == ()
    assert "mix.launch_suspended" not in reasons(replay)
    assert replay.result().lost == 0


def test_where_launches_fail_for_a_reason_that_time_does_not_cure_others_carry_and_the_log_says_why(loop):
    """The image of one pool's template is gone."""
    error = "InvalidAMIID.NotFound - The image id '[ami-02c7e84c65fcfecee]' does not exist."
    replay = loop([(3, 5.0), (12, 40.0)], ready={"l4": 1, "l40s": 1})
    with no_capacity(replay.cloud, Shortage(group=replay.cloud.group_name("chat", "l40s"), error=error)):
        until(replay, lambda: "mix.cannot_launch" in reasons(replay), most=8)
        minutes(replay, 1)  # a run between the minutes takes no order back
        assert desired(replay)["l40s"] == 1
        told = [fault for run in replay.invocations for one in run.decisions for fault in one.faults]
        assert {fault["code"] for fault in told} == {"LaunchFailed"}
        assert all(error in fault["message"] for fault in told)
        minutes(replay, 4)
        others = [minute.pools["l4"].ready + minute.pools["h100"].ready for minute in replay.minutes]
        assert others[-1] >= 4


def test_a_pool_all_of_spot_gets_on_demand_instances_while_there_is_no_spot(loop, spot):
    replay = loop([(3, 4.0), (9, 14.0)], ready={"l4": 2}, project=spot)
    group = replay.cloud.group_name("chat", "l4")
    with no_capacity(replay.cloud, Shortage(group=group, spot=True)):
        minutes(replay, 3)
        until(replay, lambda: len(replay.fleet.running) - len(spot_instances(replay)) > 3, most=4)
        assert replay.run().lost == 0
        assert replay.minutes[-1].pools["l4"].ready > 3, "the pool's own base is 1"


def test_a_lost_state_costs_a_hold_and_no_instance(loop):
    replay = loop([(16, 3.0)], ready={"l4": 6})
    minutes(replay, 1)
    table = replay.cloud.outputs["state_table"]
    before = desired(replay)
    for _ in range(3):  # while it is lost again and again, no instance leaves: three minutes are more than the window
        replay.cloud.client("dynamodb").delete_item(TableName=table, Key={"service": {"S": "chat"}})
        replay.step()
        assert desired(replay) == before
        assert newest(replay).outcome == "unchanged" or not any(
            write["operation"].startswith(("Terminate", "SetDesired")) for write in newest(replay).writes
        )
    until(replay, lambda: sum(desired(replay).values()) < sum(before.values()))
    assert replay.result().lost == 0
