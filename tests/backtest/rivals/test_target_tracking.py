"""EC2 target tracking. Target 5 requests per instance; high above 5, low below 4.5."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.backtest.rivals.rival_signals import Signal
from gpu_fleet.backtest.rivals.target_tracking import TargetTracking, proportional
from gpu_fleet.scaling.observation import Phase, Reading


def tracking(service: Any, **changes: Any) -> TargetTracking:
    return TargetTracking(service, "l40s", 5.0, **changes)


def test_it_scales_out_in_proportion_after_three_high_minutes(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    # 4 instances with 8 requests each: 4 * 8 / 5 = 6.4, so 7.
    decided = [desk.desired(rule, service, desk.seen(t, ready=4, running=32.0), t) for t in (60.0, 120.0, 180.0)]
    assert decided == [4, 4, 7]


def test_two_high_minutes_and_a_normal_one_do_nothing(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    for t, running in ((60.0, 32.0), (120.0, 32.0), (180.0, 19.0), (240.0, 32.0), (300.0, 32.0)):
        assert desk.desired(rule, service, desk.seen(t, ready=4, running=running), t) == 4


def test_instances_that_start_or_warm_up_are_not_counted_so_nothing_is_added_twice(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    for t in (60.0, 120.0, 180.0):
        desk.desired(rule, service, desk.seen(t, ready=4, running=32.0), t)
    # 3 starting: 4 * 8 / 5 is still 7, which is what stands.
    assert desk.desired(rule, service, desk.seen(240.0, ready=4, starting=3, running=32.0), 240.0) == 7
    # Ready at 500, still warming at 540: the metric is a minute old and still 8. 4 * 8 / 5 again, not 7 * 8 / 5 = 12.
    warming = tuple(desk.instance(i) for i in range(4)) + tuple(
        desk.instance(i, since=200.0, ready_at=500.0) for i in range(4, 7)
    )
    for t in (300.0, 360.0, 420.0, 480.0, 540.0):
        seen = desk.seen(t, running=56.0, instances=warming, desired=7)
        assert desk.desired(rule, service, seen, t) == 7


def test_the_fleet_that_stood_at_the_start_is_warm(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    fresh = tuple(desk.instance(i, since=0.0, ready_at=0.0) for i in range(4))
    decided = [
        desk.desired(rule, service, desk.seen(t, running=32.0, instances=fresh), t) for t in (60.0, 120.0, 180.0)
    ]
    assert decided == [4, 4, 7]


def test_it_scales_in_after_fifteen_low_minutes_and_rounds_what_it_removes_down(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    # 10 instances with 3.2 each: 10 * 3.2 / 5 = 6.4 are needed, 3.6 too many, so 3 go.
    decided = [desk.desired(rule, service, desk.seen(60.0 * m, ready=10, running=32.0), 60.0 * m) for m in range(1, 16)]
    assert decided == [10] * 14 + [7]


def test_between_low_threshold_and_target_nothing_moves(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    for m in range(1, 30):  # 4.6 is between 0.9 * 5 and 5
        assert desk.desired(rule, service, desk.seen(60.0 * m, ready=10, running=46.0), 60.0 * m) == 10


def test_the_cpu_like_alarm_waits_for_seven_tenths(desk: Any) -> None:
    service = desk.service()
    rule = TargetTracking(service, "l40s", 50.0, Signal.GPU)
    for m in range(1, 30):  # 36 is above 0.7 * 50
        seen = desk.seen(60.0 * m, ready=10, gpu_percent=Reading(36.0, 60.0 * m))
        assert desk.desired(rule, service, seen, 60.0 * m) == 10
    for m in range(30, 45):  # 34 is below: 10 * 34 / 50 = 6.8, so 7, after fifteen minutes
        seen = desk.seen(60.0 * m, ready=10, gpu_percent=Reading(34.0, 60.0 * m))
        assert desk.desired(rule, service, seen, 60.0 * m) == (7 if m == 44 else 10)


def test_it_never_scales_in_while_an_instance_starts_or_warms_up(desk: Any) -> None:
    service = desk.service()
    for arriving in (desk.instance(9, Phase.STARTING, since=0.0), desk.instance(9, since=0.0, ready_at=1900.0)):
        rule = tracking(service)
        instances = (*(desk.instance(i) for i in range(9)), arriving)
        desk.desired(rule, service, desk.seen(0.0, ready=9, running=20.0), 0.0)
        for m in range(1, 32):
            seen = desk.seen(60.0 * m, running=20.0, instances=instances)
            assert desk.desired(rule, service, seen, 60.0 * m) == 10


def test_a_late_metric_does_not_take_the_same_instances_away_twice(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    for m in range(1, 16):
        desk.desired(rule, service, desk.seen(60.0 * m, ready=10, running=20.0), 60.0 * m)  # 10 * 2 / 5: 4
    # At 960 the newest minute, (900, 960], begins at the change: it may be used. The minute before may not.
    late = desk.seen(900.0, ready=4, running=8.0, desired=4)
    assert desk.desired(rule, service, late, 930.0) == 4
    # 4 instances with 2 each in a minute wholly after the change: 4 * 2 / 5 = 1.6, so 2.
    assert desk.desired(rule, service, desk.seen(960.0, ready=4, running=8.0), 960.0) == 2


def test_terminating_instances_are_still_counted_when_it_scales_in(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    # 6 ready and 4 draining with 2 each: 10 * 2 / 5 = 4; without the draining ones it would be 6 * 2 / 5 = 2.4, so 3.
    decided = [
        desk.desired(rule, service, desk.seen(60.0 * m, ready=6, draining=4, running=12.0), 60.0 * m)
        for m in range(1, 16)
    ]
    assert decided[-1] == 4


def test_missing_data_never_scales_in(desk: Any) -> None:
    service = desk.service()
    rule = tracking(service)
    for m in range(1, 15):
        desk.desired(rule, service, desk.seen(60.0 * m, ready=10, running=20.0), 60.0 * m)
    for m in range(15, 40):
        assert desk.desired(rule, service, desk.seen(60.0 * m, ready=10), 60.0 * m) == 10


def test_zero_traffic_leaves_the_floor(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    rule = tracking(service)
    decided = [desk.desired(rule, service, desk.seen(60.0 * m, ready=3, running=0.0), 60.0 * m) for m in range(1, 16)]
    assert decided == [3] * 14 + [1]


def test_over_a_boot_of_300_s_a_step_of_load_is_met_once_and_not_overshot(desk: Any) -> None:
    service = desk.service()
    world = desk.world(service, lambda now, _ready: 10.0 if now < 600 else 40.0, boot_seconds=300.0, start=2)
    # 2 * 20 / 5 = 8 after the third high minute (600, 660, 720); ready at 1020, and then 40 / 8 is just the target.
    assert world.play(tracking(service), 3600.0) == [(720.0, 8)]


def test_a_target_must_be_above_zero(desk: Any) -> None:
    with pytest.raises(ValueError, match=r"target: must be above 0 \(got 0.0\)"):
        TargetTracking(desk.service(), "l40s", 0.0)


@pytest.mark.parametrize(
    ("current", "value", "target", "expected"),
    [(10, 5.0, 5.0, 10), (2, 3.5, 2.0, 4), (3, 1.0, 2.0, 2), (4, 0.0, 2.0, 0)],
)
def test_proportional_rounds_up(current: int, value: float, target: float, expected: int) -> None:
    assert proportional(current, value, target) == expected
