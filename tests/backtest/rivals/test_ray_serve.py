"""Ray Serve. Target 2 ongoing requests per replica; loop and readings each 10 s."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest.rivals import ray_serve
from gpu_fleet.backtest.rivals.ray_serve import Ongoing, RayServe, installed_policy, rays_own, rule_from_source
from gpu_fleet.scaling.observation import Reading

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs ray (pip install 'ray[serve]'): compares with its own policy")
POLICIES = [pytest.param(rule_from_source, id="source"), pytest.param(rays_own, id="ray", marks=needs_ray)]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_wish_to_grow_lasts_30_s_and_one_to_shrink_600_s(desk: Any, policy: ray_serve.Policy) -> None:
    service = desk.service()
    # 2 requests; 16 from 60 on; 1 from 400 on. 16 / 2 = 8 at 60 + 30, 1 / 2 at 400 + 600: what ray 2.60.0 itself does.
    world = desk.world(service, lambda now, _ready: 2.0 if now < 60 else 16.0 if now < 400 else 1.0)
    assert world.play(RayServe(service, "l40s", 2.0, policy), 1500.0) == [(90.0, 8), (1000.0, 1)]


def test_a_moment_without_the_wish_starts_the_clock_anew(desk: Any) -> None:
    service = desk.service()
    # 6 requests want 3 replicas at 60, 70 and 80; at 90 it is 1 again, 30 s after the wish began.
    world = desk.world(service, lambda now, _ready: 6.0 if now % 120 in {60, 70, 80} else 1.0)
    assert world.play(RayServe(service, "l40s", 2.0, rule_from_source), 1200.0) == []


def test_from_zero_at_once_and_to_zero_only_from_one(desk: Any) -> None:
    service = desk.service(availability={"min_instances": 0})
    world = desk.world(service, lambda _now, _ready: 0.0, start=4)
    # To 1 after 600 s, to 0 after another 600 (counted from the next loop, 610).
    assert world.play(RayServe(service, "l40s", 2.0, rule_from_source), 2000.0) == [(600.0, 1), (1210.0, 0)]
    rule = RayServe(service, "l40s", 2.0, rule_from_source)
    seen = desk.seen(0.0, ready=0)
    held = type(seen)(pools=seen.pools, rejected_rps=Reading(0.2, 0.0))
    assert desk.desired(rule, service, held, 0.0) == 1


def test_without_metrics_nothing_changes(desk: Any) -> None:
    service = desk.service()
    rule = RayServe(service, "l40s", 2.0, rule_from_source)
    for t in range(0, 2000, 10):
        assert desk.desired(rule, service, desk.seen(float(t), ready=6), float(t)) == 6


def test_the_installed_policy_is_rays_own_where_ray_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert installed_policy() is rays_own
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert installed_policy() is rule_from_source


@needs_ray
@settings(deadline=None)  # the first call imports ray
@given(st.floats(0.0, 500.0), st.integers(0, 30), st.integers(0, 30), st.floats(0.1, 50.0))
def test_the_rule_from_source_is_rays_own(requests: float, running: int, target: int, per_replica: float) -> None:
    ongoing = Ongoing(requests, running, target, per_replica, 1, 30)
    assert rule_from_source(ongoing) == rays_own(ongoing)


@needs_ray
@settings(deadline=None)  # the first call imports ray
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([10, 20, 40, 300])), min_size=1, max_size=25))
def test_with_delays_it_is_rays_own_wrapper_too(desk: Any, plan: list[tuple[int, int]]) -> None:
    from ray.serve import autoscaling_policy  # pyright: ignore[reportMissingImports]

    service = desk.service()
    rule = RayServe(service, "l40s", 2.0, rule_from_source)
    wrapped = autoscaling_policy._apply_autoscaling_config(autoscaling_policy.replica_queue_length_autoscaling_policy)
    count, rays, state, now = 3, 3, {}, 0.0
    with pytest.MonkeyPatch.context() as patch:
        for requests, step in plan:
            now += step
            patch.setattr(autoscaling_policy.time, "time", lambda now=now: now)
            seen = desk.seen(now, at=now + 30.0, ready=count, running=float(requests), desired=count)
            count = desk.desired(rule, service, seen, now)
            asked = ray_serve.context(Ongoing(float(requests), rays, rays, 2.0, 1, 30))
            asked.policy_state = state
            wanted, state = wrapped(asked)
            rays = max(1, min(30, math.ceil(wanted)))
            assert count == rays
