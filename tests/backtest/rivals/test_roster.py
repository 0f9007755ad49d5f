"""Who takes part: every name makes a fresh rule, every rule keeps the bounds, and ours is the scaler's own function."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest import ours
from gpu_fleet.backtest.rivals.static_peak import StaticPeak, instances_for
from gpu_fleet.backtest.roster import OURS, RIVALS, make, pools_for, service_with, tunings
from gpu_fleet.scaling.decision import Decision, PoolTarget, Signals
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import State


@pytest.mark.parametrize("name", list(RIVALS))
def test_each_rival_is_tuned_over_shares_of_capacity_with_its_default_among_them(name: str) -> None:
    shares = tunings(name)
    assert RIVALS[name].default_share in shares
    assert list(shares) == sorted(set(shares))
    assert 0 < shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_lower_share_never_wants_fewer_instances(desk: Any, name: str) -> None:
    service = desk.service()

    def after_a_rise(share: float) -> int:
        contender = make(name, service, "l40s", share, peak_rps=12.0)
        world = desk.world(service, lambda now, _ready: 2.0 if now < 1200 else 12.0, start=2)
        world.play(contender, 4000.0)
        return world.changes[-1][1] if world.changes else 2

    counts = [after_a_rise(share) for share in (0.2, 0.5, 1.0)]
    assert counts == sorted(counts, reverse=True)
    if name != "target-tracking-gpu":  # the world of this test shows no GPU metric, so that one must hold
        assert counts[0] > counts[-1]


@pytest.mark.parametrize("name", list(RIVALS))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_rival_leaves_its_bounds_whatever_it_sees(desk: Any, name: str, data: st.DataObject) -> None:
    service = desk.service(desk.pool(min_instances=1, max_instances=7))
    contender = make(name, service, "l40s", 0.5, peak_rps=100.0)
    now = 0.0
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.sampled_from([5.0, 20.0, 60.0, 900.0]))
        number = st.integers(0, 6)
        load = data.draw(st.none() | st.floats(0, 1e6))
        seen = desk.seen(
            now - data.draw(st.sampled_from([0.0, 90.0, 400.0])),
            ready=data.draw(number),
            starting=data.draw(number),
            draining=data.draw(number),
            unhealthy=data.draw(number),
            running=load,
            rate=load,
            gpu_percent=None if load is None else Reading(min(load, 100.0), now),
            desired=data.draw(st.integers(1, 7)),
        )
        target = contender.decide(service, seen, now)["l40s"]
        assert 1 <= target.desired <= 7
        standing = {i.id for i in seen.pools["l40s"].instances if i.phase != "draining"}
        assert set(target.take) <= standing
        assert len(target.take) == max(0, len(standing) - target.desired)


def test_runs_do_not_share_a_memory(desk: Any) -> None:
    service = desk.service()
    for name in RIVALS:
        assert make(name, service, "l40s", peak_rps=1.0) is not make(name, service, "l40s", peak_rps=1.0)


def test_targets_are_shares_of_what_the_pool_carries(desk: Any) -> None:
    service = desk.service()  # C = 10 requests, 2 a second
    assert vars(make("target-tracking", service, "l40s"))["target"] == 5.0
    assert vars(make("kpa", service, "l40s"))["target"] == 7.0
    assert vars(make("ray-serve", service, "l40s"))["target"] == 4.0  # 2 of 5
    assert vars(make("skyserve", service, "l40s"))["target"] == 2.0
    assert vars(make("target-tracking-requests", service, "l40s"))["target"] == 1.0
    assert vars(make("target-tracking-gpu", service, "l40s"))["target"] == 50.0
    assert vars(make("predictive-scaling", service, "l40s"))["target_rps"] == 1.0
    assert vars(make("kpa-requests", service, "l40s"))["target"] == pytest.approx(1.4)


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_rival_is_called_as_it_was_asked_for(desk: Any, name: str) -> None:
    assert make(name, desk.service(), "l40s", peak_rps=1.0).name == name


def test_static_peak_is_the_peak_over_the_share_of_an_instance(desk: Any) -> None:
    service = desk.service()
    assert instances_for(12.0, desk.pool(), 1.0) == 6
    assert instances_for(12.0, desk.pool(), 0.8) == 8  # 12 / 1.6 = 7.5
    static = make("static-peak", service, "l40s", 1.0, peak_rps=12.0)
    for now, load in ((0.0, 0.0), (3600.0, 500.0)):
        assert desk.desired(static, service, desk.seen(now, ready=2, running=load), now) == 6
    with pytest.raises(ValueError, match="peak_rps: static-peak needs"):
        make("static-peak", service, "l40s")
    with pytest.raises(ValueError, match="count: must not be negative"):
        StaticPeak(service, "l40s", -1)
    with pytest.raises(ValueError, match="share: must be above 0"):
        instances_for(1.0, desk.pool(), 0.0)


def test_rivals_are_tried_on_the_pools_that_reach_the_slo(desk: Any) -> None:
    slow, fast = desk.pool("l4", reaches_slo=False), desk.pool("l40s")
    assert pools_for(desk.service(slow, fast)) == ("l40s",)
    assert pools_for(desk.service(slow)) == ("l4",)


def test_a_rivals_user_has_one_pool_and_pays_for_no_other(desk: Any) -> None:
    service = desk.service(desk.pool("l4", min_instances=2), desk.pool("l40s"))
    alone = service_with(service, "l40s")
    assert [pool.name for pool in alone.pools] == ["l40s"]
    assert alone.policy == service.policy
    with pytest.raises(ValueError, match=r"pool: must be one of l4, l40s \(got h100\)"):
        service_with(service, "h100")


def test_unknown_names_are_told_with_those_that_are_there(desk: Any) -> None:
    with pytest.raises(ValueError, match=r"contender: must be one of gpu-fleet, static-peak, .* \(got keda\)"):
        make("keda", desk.service(), "l40s")
    with pytest.raises(ValueError, match=r"contender: .* \(got keda\)"):
        tunings("keda")
    with pytest.raises(ValueError, match=r"pool: must be one of l40s \(got h100\)"):
        make("kpa", desk.service(), "h100")


def test_ours_hands_on_the_state_and_keeps_the_decision(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, seen = desk.service(), desk.seen(0.0, ready=2, running=4.0)
    given_states: list[State] = []

    def fake(_service: Any, _observation: Any, state: State, now: float) -> Decision:
        given_states.append(state)
        signals = Signals(None, None, None, None, None, None)
        return Decision({"l40s": PoolTarget(3, 100)}, (), signals, State(at=now + 1.0))

    monkeypatch.setattr(ours, "decide", fake)
    contender = make(OURS, service, "")
    assert desk.desired(contender, service, seen, 0.0) == 3
    assert desk.desired(contender, service, seen, 60.0) == 3
    assert [state.at for state in given_states] == [0.0, 1.0]
    assert isinstance(contender, ours.Ours)
    assert contender.last is not None
    assert contender.state.at == 61.0


def test_ours_is_the_scalers_own_function(desk: Any) -> None:
    from gpu_fleet.scaling.decide import decide

    assert ours.decide is decide
