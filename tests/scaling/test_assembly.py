"""The one assembly of an observation: what was not seen stays unknown, and zero is a value only where it was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.assembly import PoolFacts, PoolSeries, ServiceFacts, ServiceSeries, assemble
from gpu_fleet.scaling.observation import Instance, Observation, Phase, Reading
from gpu_fleet.scaling.policy import Policy
from tests.scaling.builders import policy

MINUTE = 1_000_000_020.0
"""The end of a minute, and when everything here is observed."""


def series(*values: float, end: float = MINUTE, step: float = 60) -> tuple[Reading, ...]:
    return tuple(Reading(v, end - step * (len(values) - 1 - i)) for i, v in enumerate(values))


def fine(*values: float) -> tuple[Reading, ...]:
    return series(*values, step=10)


def facts(ready: int = 2, phase: Phase = Phase.READY) -> PoolFacts:
    instances = tuple(Instance(f"i-{n}", "g6.xlarge", "a", phase, MINUTE - 900) for n in range(ready))
    return PoolFacts(desired=ready, min_size=0, max_size=9, weight=100, instances=instances)


BUSY = PoolSeries(
    requests=series(600, 600),
    heartbeat=series(2, 2),
    publishers=fine(*[2] * 8),
    running=fine(*[40] * 8),
    waiting=fine(*[0] * 8),
    finished=fine(*[10] * 8),
)
"""Two instances with 20 requests each; 10 requests per second arrive and end."""


def seen(pools: dict[str, tuple[PoolFacts, PoolSeries]], of: Policy | None = None, **more: Any) -> Observation:
    waiting = more.pop("waiting_jobs", None)
    return assemble(
        of or policy(),
        ServiceFacts({name: fact for name, (fact, _) in pools.items()}, waiting),
        ServiceSeries({name: published for name, (_, published) in pools.items()}, **more),
        MINUTE,
    )


def test_the_load_is_the_sum_over_those_that_published():
    observation = seen({"l4": (facts(), BUSY)})
    pool = observation.pools["l4"]
    assert (pool.running, pool.load, pool.publishers) == (Reading(40, MINUTE), Reading(40, MINUTE), 2)
    assert pool.rate_rps == observation.arrivals_rps == Reading(10, MINUTE)
    assert observation.burst_rps == observation.engine_rps == observation.matched_rps == Reading(10, MINUTE)
    assert observation.dispersion == Reading(0, MINUTE)


@given(st.integers(0, 40), st.lists(st.floats(0, 100), min_size=8, max_size=8), st.integers(1, 40))
def test_instances_that_join_or_leave_change_no_load_that_was_published_before(ready, load, publishers):
    """145 in flight at 8 instances are 145, whether 3 or 13 are ready by now."""
    published = replace(BUSY, publishers=fine(*[publishers] * 8), running=fine(*load))
    pool = seen({"l4": (facts(ready), published)}).pools["l4"]
    expected = sum(load[2:]) / 6 if ready else 0.0
    assert pool.load is not None
    assert pool.load.value == pytest.approx(expected)


def test_an_instance_that_joins_is_no_burst():
    """160 in flight at eight; two more publish what they already hold."""
    published = replace(BUSY, publishers=fine(*[8] * 7, 10), running=fine(*[160] * 7, 200))
    observation = seen({"l4": (facts(10), published)})
    assert observation.burst_rps == Reading(10, MINUTE - 10)
    assert observation.engine_rps == Reading(10, MINUTE - 10)


def test_ten_seconds_that_some_instances_have_not_reported_are_no_fall():
    """At the end of the period four of ten have published."""
    published = replace(BUSY, publishers=fine(*[10] * 7, 4), running=fine(*[200] * 7, 80))
    observation = seen({"l4": (facts(10), published)})
    assert observation.pools["l4"].load == Reading(200, MINUTE - 10)
    assert observation.burst_rps == Reading(10, MINUTE - 10)


def test_an_instance_in_service_that_has_not_published_yet_carried_nothing_before():
    ready_at = MINUTE - 20
    joined = replace(facts(1), instances=(replace(facts(1).instances[0], ready_at=ready_at),))
    observation = seen({"l4": (facts(), BUSY), "l40s": (joined, PoolSeries(requests=()))})
    assert observation.pools["l40s"].load == Reading(0, ready_at)
    assert observation.burst_rps == Reading(10, ready_at)
    long_ago = replace(facts(1), instances=(replace(facts(1).instances[0], ready_at=MINUTE - 900),))
    assert seen({"l40s": (long_ago, PoolSeries(requests=()))}).pools["l40s"].load is None


def test_the_engines_count_is_of_the_minute_that_the_load_balancer_counted():
    """The balancer's newest minute ended a minute ago, and 20 rps have come since."""
    engines = {name: fine(*[value] * 13) for name, value in (("publishers", 2), ("running", 40), ("waiting", 0))}
    published = PoolSeries(
        requests=series(600, 600, end=MINUTE - 60),
        heartbeat=series(2, 2, end=MINUTE - 60),
        finished=fine(*[10] * 7, *[20] * 6),
        **engines,
    )
    observation = seen({"l4": (facts(), published)})
    assert observation.arrivals_rps == observation.matched_rps == Reading(10, MINUTE - 60)
    assert observation.engine_rps == Reading(20, MINUTE)


def test_load_in_requests_per_second_is_the_rate():
    assert seen({"l4": (facts(), BUSY)}, policy(load={"unit": "requests_per_second"})).pools["l4"].load == Reading(
        10, MINUTE
    )


@pytest.mark.parametrize("missing", ["running", "waiting"])
def test_half_of_the_load_is_no_load(missing):
    pool = seen({"l4": (facts(), replace(BUSY, **{missing: ()}))}).pools["l4"]
    assert pool.load is None


def test_a_count_that_could_not_be_read_makes_the_whole_services_arrivals_unknown():
    pools = {"l4": (facts(), BUSY), "l40s": (facts(), replace(BUSY, requests=None))}
    observation = seen(pools)
    assert observation.arrivals_rps is None
    assert observation.burst_rps == Reading(20, MINUTE)  # the engines' own counts are still there
    assert observation.engine_rps == Reading(20, MINUTE)
    assert observation.matched_rps is None
    assert observation.pools["l4"].rate_rps == Reading(10, MINUTE)


def test_a_pool_where_nothing_can_take_a_request_is_known_to_carry_none():
    for nobody in (facts(0), facts(2, Phase.STARTING)):
        observation = seen({"l4": (facts(), BUSY), "l40s": (nobody, PoolSeries(requests=()))})
        assert observation.pools["l40s"].rate_rps == Reading(0, MINUTE)
        assert observation.pools["l40s"].load == Reading(0, MINUTE)
        assert observation.arrivals_rps == Reading(10, MINUTE)


def test_a_pool_that_only_drains_carries_nothing_that_its_engines_could_tell():
    draining = seen({"l4": (facts(2, Phase.DRAINING), replace(BUSY, running=(), waiting=(), finished=()))})
    assert draining.pools["l4"].load == Reading(0, MINUTE)


def test_silence_of_a_pool_that_serves_is_unknown():
    pool = seen({"l4": (facts(), PoolSeries(requests=()))}).pools["l4"]
    assert (pool.rate_rps, pool.load, pool.running) == (None, None, None)


def test_old_readings_are_unknown():
    old = PoolSeries(requests=series(600, end=MINUTE - 240), running=series(40, end=MINUTE - 240, step=10))
    pool = seen({"l4": (facts(), old)}).pools["l4"]
    assert (pool.rate_rps, pool.running) == (None, None)


def test_an_instances_load_needs_all_of_its_metrics():
    known = {"requests_running": series(3), "requests_waiting": series(1)}
    pool = seen({"l4": (facts(), replace(BUSY, of_instance={"i-0": known, "i-1": {**known, "requests_waiting": ()}}))})
    assert [instance.load for instance in pool.pools["l4"].instances] == [Reading(4, MINUTE), None]


def test_an_instance_that_worked_for_a_part_of_the_minute_is_busy():
    jobs = {"i-0": {"jobs_running": series(0.2), "job_remaining_seconds": series(90)}, "i-1": {"jobs_running": ()}}
    published = PoolSeries(of_instance=jobs)
    observation = seen(
        {"l4": (facts(), published)}, policy(workload="training"), waiting_jobs=0, oldest_job=series(300)
    )
    assert [(i.jobs, i.remaining_seconds) for i in observation.pools["l4"].instances] == [(1, 90), (None, None)]
    assert observation.jobs is not None
    assert observation.jobs.oldest_seconds == 0, "SQS reports the age late; without a message nothing waits"


def test_a_queue_that_could_not_be_read_is_unknown():
    assert seen({"l4": (facts(), PoolSeries())}, policy(workload="training")).jobs is None


def test_a_503_within_the_window_counts_whatever_came_after_it():
    published = PoolSeries(requests=(), heartbeat=series(1, 1, 1))
    rejected = (Reading(30, MINUTE - 120),)
    assert seen({"l4": (facts(0), published)}, rejected=rejected).rejected_rps == Reading(0.5, MINUTE - 120)
    assert seen({"l4": (facts(0), published)}, rejected=()).rejected_rps == Reading(0, MINUTE)
    assert seen({"l4": (facts(0), published)}).rejected_rps is None


def test_requests_that_the_engines_refused_are_demand_and_are_late():
    """Of 600 requests in the minute 120 were refused; the engines took 480, and of 50 that ended lately 5 were late."""
    published = replace(
        BUSY,
        finished=fine(*[8] * 8),
        refused=(Reading(120, MINUTE),),
        response_time=series(0.5),
        judged=fine(50, *[0] * 5),
        late=fine(5, *[0] * 5),
    )
    observation = seen({"l4": (facts(), published)})
    assert observation.arrivals_rps == Reading(10, MINUTE)
    assert observation.engine_rps == Reading(8, MINUTE)
    assert observation.matched_rps == Reading(10, MINUTE)
    assert observation.late_share is not None
    assert observation.late_share.value == pytest.approx((5 + 120) / (50 + 120))


def test_a_minute_without_refusals_is_as_before():
    published = replace(BUSY, refused=(Reading(120, MINUTE - 60),), judged=fine(*[10] * 6), late=fine(*[1] * 6))
    observation = seen({"l4": (facts(), published)})
    assert observation.matched_rps == Reading(10, MINUTE)
    assert observation.late_share is not None
    assert observation.late_share.value == pytest.approx(0.1)


def test_each_minute_of_refusals_counts_once():
    """The engines' minute ends 30 s before now, the load balancer's newest at least 60 s: no minute falls into two."""
    judged, late = (series(*[value] * 30, end=MINUTE - 30, step=10) for value in (10, 0))
    shares = []
    for ended in (0, 60, 120, 180):
        published = replace(BUSY, judged=judged, late=late, refused=(Reading(40, MINUTE - ended),))
        share = seen({"l4": (facts(), published)}).late_share
        assert share is not None
        shares.append(share.value)
    assert shares == [0, pytest.approx(40 / 100), 0, 0]


def test_a_pool_that_refuses_does_not_look_fast():
    """60 requests of 0.75 s and 60 refused at once are 0.375 s on average."""
    published = replace(BUSY, requests=series(120), refused=series(60), response_time=series(0.375))
    view = seen({"l4": (facts(), published)}).pools["l4"]
    assert view.response_time_seconds == Reading(0.75, MINUTE)


def test_a_pool_that_refuses_everything_has_no_response_time():
    published = replace(BUSY, requests=series(120), refused=series(120), response_time=series(0.001))
    assert seen({"l4": (facts(), published)}).pools["l4"].response_time_seconds is None


def test_a_response_time_whose_requests_were_not_read_stands():
    published = replace(BUSY, requests=None, response_time=series(0.375))
    assert seen({"l4": (facts(), published)}).pools["l4"].response_time_seconds == Reading(0.375, MINUTE)


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0, 100), st.integers(0, 5000)), min_size=1, max_size=4))
def test_the_service_is_the_sum_of_its_pools(parts: list[tuple[int, float, int]]) -> None:
    """However the same work is parted among pools, arrivals and loads add up to it."""
    pools = {
        f"p{n}": (
            facts(ready),
            PoolSeries(
                requests=series(count) if count else (),
                heartbeat=series(1),
                publishers=fine(ready, ready),
                running=fine(ready * mean, ready * mean),
                waiting=fine(0, 0),
            ),
        )
        for n, (ready, mean, count) in enumerate(parts)
    }
    observation = seen(pools)
    assert observation.arrivals_rps is not None
    assert observation.arrivals_rps.value == pytest.approx(sum(count for *_, count in parts) / 60)
    loads = [pool.load.value for pool in observation.pools.values() if pool.load is not None]
    assert sum(loads) == pytest.approx(sum(ready * mean for ready, mean, _ in parts))
