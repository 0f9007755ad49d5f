"""Fixed shares of the traffic: each pool's count follows its weight."""

from __future__ import annotations

import pytest

from bench.fuzz_decide import check_steady, story_of
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.fixed_shares import carried_demand_rps, fixed_shares, pinned
from gpu_fleet.scaling.fleet import survey
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import RoutingPolicy
from gpu_fleet.scaling.state import State
from gpu_fleet.scaling.thresholds import raised
from tests.scaling.builders import NOW, pool, pool_seen, seen, service
from tests.scaling.mixes import option

TRIAL = RoutingPolicy.model_validate({"strategy": "static", "static_weights": {"old": 95, "new": 5}})
OPTIONS = (option("old", 2.0, 1.0, high=60), option("new", 10.0, 1.0))


def test_shares_follow_the_weights_of_the_pools_that_can_have_instances() -> None:
    assert fixed_shares(TRIAL, OPTIONS) == {"old": 0.95, "new": 0.05}
    assert fixed_shares(TRIAL, (OPTIONS[0], option("new", 10.0, 1.0, high=0))) == {"old": 1.0}
    assert fixed_shares(RoutingPolicy(), OPTIONS) == {}


def test_the_pool_that_is_full_first_says_how_much_demand_is_carried() -> None:
    """95 of 100 rps need 48 of the old ones, and one new one would carry 200 in all."""
    assert carried_demand_rps(OPTIONS, {"old": 19, "new": 1}, {"old": 0.95, "new": 0.05}) == pytest.approx(40)
    assert carried_demand_rps(OPTIONS, {"old": 19, "new": 0}, {"old": 0.95, "new": 0.05}) == 0
    assert carried_demand_rps(OPTIONS, {"old": 19, "new": 1}, {}) == pytest.approx(48)


def test_each_pool_gets_the_instances_of_its_share_within_its_bounds() -> None:
    assert [o.at_least for o in pinned(OPTIONS, {"old": 0.95, "new": 0.05}, 100.0)] == [48, 1]
    tight = (option("old", 2.0, 1.0, high=10), option("new", 10.0, 1.0, low=2))
    assert [o.at_least for o in pinned(tight, {"old": 0.95, "new": 0.05}, 100.0)] == [10, 2]


def test_a_trial_of_a_cheaper_type_does_not_take_the_other_pools_instances() -> None:
    """The new type does the work at a fifth of the price: by price alone it would carry everything."""
    holds = check_steady(story_of("steady-5600052"))
    assert holds.violations == []
    last = holds.looks[-1]
    assert last.desired == {"l4": 11, "l40s": 3}


def test_a_signal_of_one_pool_asks_for_that_pools_instances() -> None:
    """Half of the traffic goes to 4 l4 at twice their limit: 8 are needed, and as many of the other for its half."""
    weights = {"strategy": "static", "static_weights": {"l4": 1, "l40s": 1}}
    lax = {"slo": None, "sizing": {"target_utilization": 1.0}, "routing": weights}
    svc = service(pool("l4"), pool("l40s"), thresholds={"gpu_percent": 40, "kv_cache_percent": None}, **lax)
    views = {
        "l4": pool_seen(4, gpu_percent=Reading(80.0, NOW)),
        "l40s": pool_seen(8, gpu_percent=Reading(20.0, NOW)),
    }
    context = Context(svc, seen(pools=views), State(), NOW)
    context = context.remember(pools={name: context.state.pool(name) for name in views})
    assert raised(context, 8.0, survey(context), 1.0).rps == pytest.approx(8 * 2.0 / 0.5)
