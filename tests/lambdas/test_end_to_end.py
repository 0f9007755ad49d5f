"""The scaler with the real model, minute by minute, against the small AWS."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling.decide import decide

SERVICE_SECONDS = 10.0
POLICY = {
    "slo": {"ttft_seconds": 5},
    "forecast": {"method": "trend"},
    "horizontal": {"scale_in_stabilization_seconds": 180},
    "availability": {"min_instances": 1},
}


@pytest.fixture
def chat(world):
    """Two pools: the cheaper has two instances, the more expensive none."""
    world.stand("chat", {"l4": 2, "l40s": 0}, policy=POLICY, weights={"l4": 100, "l40s": 0})
    return world


def run_minutes(world, rps: float, minutes: int) -> list[dict]:
    """Publish each minute's metrics, split by weight, then run the scaler. Return the desired counts of each minute."""
    history = []
    for _ in range(minutes):
        world.now += 60
        minute = world.now - world.now % 60
        weights = world.weights()
        for pool, group in world.pools["chat"].items():
            ids = world.ids(pool)
            if not ids:
                continue
            share = weights[pool] / (sum(weights.values()) or 1)
            world.publish_requests(pool, minute - 60, 60 * rps * share or None)
            for second in (-10, 0, 10):
                at = minute + second
                in_flight = rps * share * SERVICE_SECONDS / len(ids)
                world.publish("requests_running", in_flight, at, AutoScalingGroupName=group.group)
                world.publish("requests_waiting", 0, at, AutoScalingGroupName=group.group)
                world.publish("finished_rps", rps * share / len(ids), at, AutoScalingGroupName=group.group)
                for id_ in ids:
                    dimensions = {"AutoScalingGroupName": group.group, "InstanceId": id_}
                    world.publish("requests_running", in_flight, at, **dimensions)
                    world.publish("requests_waiting", 0, at, **dimensions)
        result = world.run(decide)["chat"]
        assert not result.failed, result.faults
        history.append(world.desired())
    return history


def test_capacity_follows_traffic_up_and_down_and_settles(chat):
    quiet = run_minutes(chat, 1.5, 8)
    assert quiet[-1] == quiet[-2], "steady traffic settles"
    busy = run_minutes(chat, 9.0, 8)
    assert sum(busy[-1].values()) > sum(quiet[-1].values())
    assert sum(chat.weights().values()) > 0
    calm = run_minutes(chat, 1.5, 16)
    assert sum(calm[-1].values()) < sum(busy[-1].values())
    assert sum(calm[-1].values()) >= 1
    assert calm[-1] == calm[-3], "and it settles again"


def test_a_second_run_at_once_changes_nothing(chat):
    run_minutes(chat, 6.0, 6)
    before = (chat.desired(), chat.weights())
    result = chat.run(decide)["chat"]
    assert not result.failed
    assert (chat.desired(), chat.weights()) == before


def test_without_metrics_nothing_is_removed(chat):
    run_minutes(chat, 6.0, 6)
    before = chat.desired()
    for _ in range(20):
        chat.now += 60
        assert not chat.run(decide)["chat"].failed
    assert chat.desired() == before


def test_a_state_lost_in_a_quiet_hour_removes_nothing_at_once(chat):
    run_minutes(chat, 6.0, 6)
    before = chat.desired()
    chat.clients.dynamodb.delete_item(TableName="gpu-fleet-test-state", Key={"service": {"S": "chat"}})
    (after,) = run_minutes(chat, 0.5, 1)
    assert after == before


def test_the_next_run_makes_throttled_writes(chat):
    run_minutes(chat, 1.5, 4)
    before = chat.desired()
    with chat.board.failing("autoscaling.SetDesiredCapacity"), pytest.raises(AssertionError):
        run_minutes(chat, 9.0, 4)
    assert chat.desired() == before
    assert sum(run_minutes(chat, 9.0, 3)[-1].values()) > sum(before.values())
