"""EC2 step scaling on AWS's own worked example: 40 % to 60 % is left alone around a middle of 50 %."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.backtest.rivals.rival_signals import Signal
from gpu_fleet.backtest.rivals.step_scaling import StepScaling, change
from gpu_fleet.scaling.observation import Reading


@pytest.mark.parametrize(
    ("capacity", "percent", "expected"),
    # https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html: 12.7 is 12, 0.67 is 1,
    # -0.58 is -1, -6.67 is -6; 30 % of 11 is 3.3, so 3; 10 % of 14 is 1.4, so 1; 30 % of 13 is 3.9, so 3.
    [(127, 10, 12), (67, 1, 1), (58, -1, -1), (667, -1, -6), (11, 30, 3), (14, -10, -1), (13, -30, -3), (0, 30, 0)],
)
def test_percentages_round_as_documented(capacity: int, percent: float, expected: int) -> None:
    assert change(capacity, percent) == expected


def gpu(desk: Any, at: float, percent: float, **changes: Any) -> Any:
    return desk.seen(at, gpu_percent=Reading(percent, at), **changes)


def test_the_documents_example_step_by_step(desk: Any) -> None:
    service = desk.service()
    rule = StepScaling(service, "l40s", 50.0, Signal.GPU)
    assert desk.desired(rule, service, gpu(desk, 60.0, 59.0, ready=10), 60.0) == 10
    assert desk.desired(rule, service, gpu(desk, 120.0, 60.0, ready=10), 120.0) == 10  # one minute
    assert desk.desired(rule, service, gpu(desk, 180.0, 60.0, ready=10), 180.0) == 11  # two: + 10 % of 10
    # 62 while the new one warms up: + 10 % of the 10 counted is 11, which is what was asked for.
    assert desk.desired(rule, service, gpu(desk, 240.0, 62.0, ready=10, starting=1), 240.0) == 11
    # 70 while it warms up: + 30 % of 10 is 13, so 2 more.
    assert desk.desired(rule, service, gpu(desk, 300.0, 70.0, ready=10, starting=1), 300.0) == 13
    # 70 with 11 in service: 3.3, so 14.
    assert desk.desired(rule, service, gpu(desk, 360.0, 70.0, ready=11, desired=11), 360.0) == 14


def test_it_shrinks_by_the_low_ladder_after_fifteen_minutes(desk: Any) -> None:
    service = desk.service()
    for percent, expected in ((41.0, 14), (40.0, 13), (30.0, 10)):  # -10 % of 14 is -1.4; -30 % is -4.2
        rule = StepScaling(service, "l40s", 50.0, Signal.GPU)
        decided = [desk.desired(rule, service, gpu(desk, 60.0 * m, percent, ready=14), 60.0 * m) for m in range(1, 16)]
        assert decided == [14] * 14 + [expected]


def test_those_that_terminate_are_not_taken_a_second_time(desk: Any) -> None:
    service = desk.service()
    rule = StepScaling(service, "l40s", 50.0, Signal.GPU)
    # 13 ready and one draining make 14: 14 - 1 = 13 stand already.
    for m in range(1, 20):
        assert desk.desired(rule, service, gpu(desk, 60.0 * m, 39.0, ready=13, draining=1), 60.0 * m) == 13


def test_no_scale_in_while_an_instance_starts_nor_without_data(desk: Any) -> None:
    service = desk.service()
    rule = StepScaling(service, "l40s", 50.0, Signal.GPU)
    for m in range(1, 20):
        assert desk.desired(rule, service, gpu(desk, 60.0 * m, 10.0, ready=13, starting=1), 60.0 * m) == 14
    assert desk.desired(rule, service, desk.seen(1500.0, ready=14), 1500.0) == 14
