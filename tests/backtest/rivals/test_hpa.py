"""The Kubernetes HPA. Target 5 requests per pod."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest.rivals.hpa import HorizontalPodAutoscaler, replicas


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # No pending, no missing: ceil(1.6 * 4) = 7; within the tolerance of 10 % nothing; ceil(0.5 * 4) = 2.
        ({"current": 4, "ready": 4, "pending": 0, "missing": 0, "usage": 1.6}, 7),
        ({"current": 4, "ready": 4, "pending": 0, "missing": 0, "usage": 1.09}, 4),
        ({"current": 4, "ready": 4, "pending": 0, "missing": 0, "usage": 0.91}, 4),
        ({"current": 4, "ready": 4, "pending": 0, "missing": 0, "usage": 0.5}, 2),
        # 3 pending count as 0 on the way up: 4 * 1.6 / 7 = 0.914, which would turn the direction: no change.
        ({"current": 7, "ready": 4, "pending": 3, "missing": 0, "usage": 1.6}, 7),
        # The same with 4 * 2.5 / 7 = 1.43: ceil(10) = 10.
        ({"current": 7, "ready": 4, "pending": 3, "missing": 0, "usage": 2.5}, 10),
        # On the way down pending pods are left out: ceil(0.5 * 4) = 2.
        ({"current": 7, "ready": 4, "pending": 3, "missing": 0, "usage": 0.5}, 2),
        # One without metrics counts as full on the way down: (4 * 0.5 + 1) / 5 = 0.6: 3.
        ({"current": 5, "ready": 4, "pending": 0, "missing": 1, "usage": 0.5}, 3),
        # ... and as empty on the way up: 4 * 1.6 / 5 = 1.28: ceil(6.4) = 7.
        ({"current": 5, "ready": 4, "pending": 0, "missing": 1, "usage": 1.6}, 7),
        # 4 * 1.2 / 5 = 0.96 turns the direction: no change.
        ({"current": 5, "ready": 4, "pending": 0, "missing": 1, "usage": 1.2}, 5),
    ],
)
def test_replicas_by_hand(case: dict[str, Any], expected: int) -> None:
    assert replicas(**case) == expected


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 20), st.integers(0, 20), st.floats(0.0, 10.0))
def test_missing_and_pending_pods_never_turn_the_direction(
    ready: int, pending: int, missing: int, usage: float
) -> None:
    current = ready + pending + missing
    wanted = replicas(current, ready=ready, pending=pending, missing=missing, usage=usage)
    if usage > 1 and (pending or missing):
        assert wanted >= current
    if usage < 1:
        assert wanted <= current


def test_it_grows_at_once_but_by_no_more_than_the_greater_of_four_pods_and_double_in_15_s(desk: Any) -> None:
    service = desk.service()
    # 1 pod, 100 requests: 20 wanted. From 1: max(1 + 4, 2) = 5; from 5: max(9, 10) = 10; then 20.
    world = desk.world(service, lambda now, _ready: 5.0 if now < 60 else 100.0)
    assert world.play(HorizontalPodAutoscaler(service, "l40s", 5.0), 300.0) == [(60.0, 5), (75.0, 10), (90.0, 20)]


def test_pending_pods_hold_back_further_growth_during_the_boot(desk: Any) -> None:
    service = desk.service()
    # 2 pods with 8 each: ceil(2 * 1.6) = 4. 2 pending: 16 / 5 = 3.2 of 4 is 0.8: no change; all ready: 4 each.
    world = desk.world(service, lambda now, _ready: 10.0 if now < 60 else 16.0, boot_seconds=300.0, start=2)
    assert world.play(HorizontalPodAutoscaler(service, "l40s", 5.0), 600.0) == [(60.0, 4)]


def test_pods_that_became_ready_after_the_metric_was_measured_are_pods_without_metrics(desk: Any) -> None:
    service = desk.service()
    rule = HorizontalPodAutoscaler(service, "l40s", 5.0)
    assert desk.desired(rule, service, desk.seen(0.0, ready=2, running=16.0), 0.0) == 4
    # 2 more are ready at 300; the mean of 8 is still that of the 2 measured: 16 / 4 = 4, not 8 * 4 / 5 = 7 pods.
    assert desk.desired(rule, service, desk.seen(300.0, at=310.0, ready=4, running=32.0), 300.0) == 4


def test_it_shrinks_to_the_highest_recommendation_of_five_minutes(desk: Any) -> None:
    service = desk.service()
    # 40 requests want 8; from 600 on 10 want 2. The last recommendation of 8 is from 585, and 300 s old at 885.
    world = desk.world(service, lambda now, _ready: 40.0 if now < 600 else 10.0, start=8)
    assert world.play(HorizontalPodAutoscaler(service, "l40s", 5.0), 1800.0) == [(885.0, 2)]


def test_a_short_peak_restarts_the_five_minutes(desk: Any) -> None:
    service = desk.service()
    world = desk.world(service, lambda now, _ready: 40.0 if now < 600 or now == 840 else 10.0, start=8)
    assert world.play(HorizontalPodAutoscaler(service, "l40s", 5.0), 1800.0) == [(1140.0, 2)]  # 840 + 300


def test_without_metrics_nothing_changes(desk: Any) -> None:
    service = desk.service()
    rule = HorizontalPodAutoscaler(service, "l40s", 5.0)
    for t in (0.0, 300.0, 900.0):
        assert desk.desired(rule, service, desk.seen(t, ready=6), t) == 6


def test_it_never_sleeps(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    world = desk.world(service, lambda _now, _ready: 0.0, start=3)
    assert world.play(HorizontalPodAutoscaler(service, "l40s", 5.0), 600.0) == [(300.0, 1)]
    rule = HorizontalPodAutoscaler(service, "l40s", 5.0)
    assert desk.desired(rule, service, desk.seen(0.0, ready=0), 0.0) == 1
