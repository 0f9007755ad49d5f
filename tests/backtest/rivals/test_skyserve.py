"""SkyServe. Target 2 requests a second per replica; decisions each 20 s."""

from __future__ import annotations

from typing import Any

from gpu_fleet.backtest.rivals.skyserve import SkyServe
from gpu_fleet.scaling.observation import Reading


def test_fifteen_decisions_to_grow_and_sixty_to_shrink(desk: Any) -> None:
    service = desk.service()
    # 1 request a second; 9 from 60 on; 1 from 900 on. 9 / 2 = 4.5, so 5, at 60 + 14 * 20; down at 900 + 59 * 20: what
    # skypilot 0.14.1 itself does.
    world = desk.world(service, lambda now, _ready: 1.0 if now < 60 or now >= 900 else 9.0)
    assert world.play(SkyServe(service, "l40s", 2.0), 3000.0) == [(340.0, 5), (2080.0, 1)]


def test_one_decision_for_no_change_starts_the_count_anew(desk: Any) -> None:
    service = desk.service()
    rule = SkyServe(service, "l40s", 2.0)
    decided = []
    for i in range(30):  # 5 a second want 3 replicas, but for the fourteenth decision
        rate = 2.0 if i == 13 else 5.0
        decided.append(desk.desired(rule, service, desk.seen(20.0 * i, ready=1, rate=rate, desired=1), 20.0 * i))
    assert decided[:28] == [1] * 28
    assert decided[28] == 3  # the fifteenth after that


def test_from_zero_at_once_and_it_looks_more_often_there(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    rule = SkyServe(service, "l40s", 2.0)
    assert rule.every_seconds == 20.0
    assert desk.desired(rule, service, desk.seen(0.0, ready=0, rate=0.0), 0.0) == 0
    assert rule.every_seconds == 5.0
    assert desk.desired(rule, service, desk.seen(5.0, ready=0, rate=3.0), 5.0) == 2  # 3 / 2 = 1.5
    assert rule.every_seconds == 20.0


def test_without_a_rate_nothing_is_counted(desk: Any) -> None:
    service = desk.service()
    rule = SkyServe(service, "l40s", 2.0)
    for i in range(14):
        desk.desired(rule, service, desk.seen(20.0 * i, ready=1, rate=9.0), 20.0 * i)
    for i in range(14, 100):
        assert desk.desired(rule, service, desk.seen(20.0 * i, ready=1), 20.0 * i) == 1
    assert desk.desired(rule, service, desk.seen(2000.0, ready=1, rate=9.0), 2000.0) == 5  # the fifteenth


def test_requests_that_found_no_replica_are_in_the_rate(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    rule = SkyServe(service, "l40s", 2.0)
    seen = desk.seen(0.0, ready=0)  # the pool itself got nothing
    assert desk.desired(rule, service, type(seen)(pools=seen.pools, arrivals_rps=Reading(3.0, 0.0)), 0.0) == 2
