"""The scaler's own metrics."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpu_fleet.scaling.boot import LastBoot
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.state import PoolState
from lambdas.scaler.publish import publish
from lambdas.scaler.result import ErrorCode, Fault, Outcome, Result


@pytest.fixture
def reported(world, deciding):
    world.stand()
    world.health[world.ids("l4")[0]] = ("initial", "Elb.InitialHealthChecking")
    world.run(deciding(l4=PoolTarget(4, 300)))
    return world.reports[0]


@pytest.fixture
def published(capsys):
    """`published(result, observation)`: all metrics as {(dimensions, name): value}."""

    def read(result, observation):
        capsys.readouterr()
        publish(result, observation, "gpu-fleet-test")
        values = {}
        for text in capsys.readouterr().out.splitlines():
            line = json.loads(text)
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "GpuFleet/Scaler"
            (names,) = directive["Dimensions"]
            dimensions = tuple((name, line[name]) for name in sorted(names))
            for metric in directive["Metrics"]:
                (value,) = line[metric["Name"]]
                values[dimensions, metric["Name"]] = value
        return values

    return read


SERVICE = (("service", "chat"), ("stack", "gpu-fleet-test"))
L4 = (("pool", "l4"), *SERVICE)


def test_signals_are_published_by_service_and_counts_by_pool(reported, published):
    result, _, observation, _ = reported
    metrics = published(result, observation)
    by_service = {name: value for (dimensions, name), value in metrics.items() if dimensions == SERVICE}
    assert by_service == {
        "errors": 0, "superseded": 0, "held": 0, "utilization": 0.5, "response_time": 0.4, "ratio": 0.6,
        "demand_rps": 3.0, "forecast_rps": 4.0, "required_rps": 5.0, "usd_per_hour": 1.6, "unserved": 0,
    }  # fmt: skip
    assert {name: value for (dimensions, name), value in metrics.items() if dimensions == L4} == {
        "desired": 4, "weight": 300, "ready": 1,
    }  # fmt: skip


def test_unknown_values_are_left_out(reported, published):
    result, _, observation, _ = reported
    signals = replace(result.decision.signals, utilization=None, ratio=float("inf"), demand_rps=None)
    metrics = published(replace(result, decision=replace(result.decision, signals=signals)), observation)
    assert not {(SERVICE, name) for name in ("utilization", "ratio", "demand_rps")} & metrics.keys()
    assert (SERVICE, "forecast_rps") in metrics


def test_a_failure_is_counted_even_without_a_decision(published):
    faults = (Fault(ErrorCode.THROTTLED, "slow"), Fault(ErrorCode.UNKNOWN_GROUP, "gone"))
    assert published(Result("chat", Outcome.FAILED, faults=faults), None) == {
        (SERVICE, "errors"): 2,
        (SERVICE, "superseded"): 0,
    }


def test_an_unreadable_state_is_no_error(published):
    faults = (Fault(ErrorCode.STATE_UNREADABLE, "old"),)
    assert published(Result("chat", Outcome.UNCHANGED, faults=faults), None)[SERVICE, "errors"] == 0


@pytest.mark.parametrize(
    ("desired", "required_rps", "ready", "unserved"),
    [
        (4, 5.0, 1, 0),
        (4, 5.0, 0, 1),
        (0, 5.0, 0, 1),  # its pools cannot launch, so nothing is ordered
        (4, None, 0, 1),  # training
        (0, 0.0, 0, 0),  # asleep
        (0, None, 0, 0),
    ],
)
def test_a_service_that_wants_instances_and_has_none_is_counted(
    reported, published, desired, required_rps, ready, unserved
):
    result, _, observation, _ = reported
    decision = result.decision
    targets = {name: replace(target, desired=desired) for name, target in decision.targets.items()}
    decision = replace(decision, targets=targets, signals=replace(decision.signals, required_rps=required_rps))
    pools = {name: replace(pool, instances=pool.instances if ready else ()) for name, pool in observation.pools.items()}
    metrics = published(replace(result, decision=decision), replace(observation, pools=pools))
    assert metrics[SERVICE, "unserved"] == unserved


def test_a_held_decision_is_counted(reported, published):
    result, _, observation, _ = reported
    metrics = published(replace(result, decision=replace(result.decision, held=True)), observation)
    assert metrics[SERVICE, "held"] == 1


def test_a_boot_is_published_once_in_the_turn_that_saw_its_end(reported, published):
    result, _, observation, _ = reported
    decision = result.decision
    boot = LastBoot(decision.state.at, 650.0, {})
    at = {"now": boot, "before": replace(boot, at=boot.at - 60)}
    for when, one in at.items():
        state = replace(decision.state, pools={"l4": PoolState(boot=one)})
        metrics = published(replace(result, decision=replace(decision, state=state)), observation)
        assert metrics.get((L4, "boot_seconds")) == (650.0 if when == "now" else None)
