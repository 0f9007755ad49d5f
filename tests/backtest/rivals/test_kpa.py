"""Knative's KPA. Target 5 requests per pod; ticks and readings each 10 s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpu_fleet.backtest.rivals.kpa import KnativePodAutoscaler
from gpu_fleet.scaling.observation import Reading


def kpa(service: Any) -> KnativePodAutoscaler:
    return KnativePodAutoscaler(service, "l40s", 5.0)


def test_a_doubling_panics_and_is_met_at_once(desk: Any) -> None:
    service = desk.service()
    # 1 pod. At 60 there are 40: the panic window (the newest reading) wants 8, 8 / 1 >= 2.
    world = desk.world(service, lambda now, _ready: 4.0 if now < 60 else 40.0)
    assert world.play(kpa(service), 300.0) == [(60.0, 8)]


def test_a_slow_rise_is_followed_without_panic(desk: Any) -> None:
    service = desk.service()
    rule = kpa(service)
    # 8 pods, 40 requests; the fresh autoscaler panics until 60 s have passed without a doubling.
    for t in range(0, 80, 10):
        assert desk.desired(rule, service, desk.seen(float(t), ready=8, running=40.0), float(t)) == 8
    # 60 at 80: ceil(60 / 5) / 8 = 1.5 < 2, no panic: 12, and back to 8 in the next tick.
    assert desk.desired(rule, service, desk.seen(80.0, ready=8, running=60.0), 80.0) == 12
    assert desk.desired(rule, service, desk.seen(90.0, ready=8, starting=4, running=40.0), 90.0) == 8


def test_a_burst_of_the_newest_seconds_panics_before_the_minute_shows_it(desk: Any) -> None:
    service = desk.service()
    rule = kpa(service)
    # The minute has 10 requests in 2 pods and 1 a second; the newest 10 s brought 4 a second: 30 more, 40 / 5 = 8.
    seen = desk.seen(0.0, ready=2, running=10.0, rate=1.0)
    bursting = replace(seen, burst_rps=Reading(4.0, 0.0), matched_rps=seen.arrivals_rps)
    assert desk.desired(rule, service, bursting, 0.0) == 8
    calm = desk.seen(60.0, ready=2, starting=6, running=10.0, rate=1.0)
    assert desk.desired(rule, service, calm, 60.0) == 8  # a minute without a doubling has not passed
    assert desk.desired(rule, service, calm, 70.0) == 2


def test_it_never_shrinks_in_panic_and_leaves_it_a_whole_minute_after_the_last_doubling(desk: Any) -> None:
    service = desk.service()
    # 40 at 60 (panic, 8 pods), 5 from 70 on. Panic lasts while now - 60 <= 60; at 130 4 requests want 1,
    # but not below half of the 8 ready: 4, then 2, then 1.
    world = desk.world(service, lambda now, _ready: 40.0 if now == 60 else 4.0)
    assert world.play(kpa(service), 400.0) == [(60.0, 8), (130.0, 4), (140.0, 2), (150.0, 1)]


def test_a_fresh_autoscaler_with_several_pods_starts_in_panic_and_keeps_them(desk: Any) -> None:
    service = desk.service()
    rule = kpa(service)
    for t in range(0, 70, 10):
        assert desk.desired(rule, service, desk.seen(float(t), ready=6, running=5.0), float(t)) == 6
    assert desk.desired(rule, service, desk.seen(70.0, ready=6, running=5.0), 70.0) == 3


def test_boot_time_makes_it_panic_on_what_is_ready_but_not_add_more_than_the_load_wants(desk: Any) -> None:
    service = desk.service()
    world = desk.world(service, lambda now, _ready: 4.0 if now < 60 else 40.0, boot_seconds=300.0)
    assert world.play(kpa(service), 900.0) == [(60.0, 8)]


def test_missing_metrics_change_nothing(desk: Any) -> None:
    service = desk.service()
    rule = kpa(service)
    assert desk.desired(rule, service, desk.seen(0.0, ready=6), 0.0) == 6
    assert desk.desired(rule, service, desk.seen(600.0, ready=6), 600.0) == 6


def test_it_sleeps_after_a_quiet_minute_and_wakes_by_a_held_request(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    world = desk.world(service, lambda now, _ready: 4.0 if now < 60 else 0.0)
    assert world.play(kpa(service), 300.0) == [(60.0, 0)]  # a reading of 0 is a minute without one
    rule = kpa(service)
    assert desk.desired(rule, service, desk.seen(0.0, ready=0), 0.0) == 0
    seen = desk.seen(10.0, ready=0)
    held = type(seen)(pools=seen.pools, rejected_rps=Reading(0.2, 10.0))
    assert desk.desired(rule, service, held, 10.0) == 1
