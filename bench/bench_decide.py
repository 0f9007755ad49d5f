"""Time of one decision, in seconds of one core: `python bench/bench_decide.py`.

First a service of 5 pools with 40 instances each and 14 days of season, then 500 services of 1 to 5 pools one after
another. No two services share a request rate or a burstiness, and prompt and answer lengths change every minute, so
that nothing computed for one decision helps the next.
"""

from __future__ import annotations

import math
import statistics
import time

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.profile import Speed, instance_capacity
from gpu_fleet.scaling.record import dump
from gpu_fleet.scaling.season import season_from
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import DemandMemory, ForecastMemory, State

START = 1_700_000_000.0
MINUTES = 120
DECISIONS = 600
SERVICES = 500
LADDER = [  # name, speed against the first, USD per hour: the shape of the catalog's types
    ("l4", 1.0, 0.8048),
    ("a10g", 1.6, 1.006),
    ("l40s", 3.4, 1.861),
    ("a100", 7.0, 4.1),
    ("h100", 14.0, 6.88),
]


def make_service(pool_count: int, name: str = "chat") -> Service:
    policy = Policy.model_validate({"model": "llama-3.1-8b", "slo": {"ttft_seconds": 2, "tpot_seconds": 0.1}})
    pools = []
    for pool_name, speed, usd in LADDER[:pool_count]:
        measured = Speed(
            prefill_tokens_per_second=3000 * speed,
            decode_base_seconds=0.05 / speed**0.5,
            decode_seconds_per_sequence=0.001 / speed,
            kv_cache_tokens=int(40_000 * speed),
        )
        full = instance_capacity(measured, policy.request, policy.slo, policy.load.unit)
        pools.append(
            Pool(
                name=pool_name,
                types=("g6.xlarge",),
                min_instances=0,
                max_instances=200,
                capacity=full.capacity,
                throughput_rps=full.throughput_rps,
                slowdown=full.slowdown,
                service_seconds=full.service_seconds,
                slots=full.slots,
                first_token_seconds=full.first_token_seconds,
                speed=measured,
                on_demand_usd_per_hour=usd,
                quota="g" if usd < 4 else "p",
                zones=("a", "b", "c"),
            )
        )
    return Service(name=name, policy=policy, pools=tuple(pools), vcpu_quotas={"g": 2000, "p": 4000})


def rate(at: float, peak: float) -> float:
    """Return the rate of a day with its night, different in every minute."""
    day = 0.6 + 0.4 * math.sin(2 * math.pi * (at / 86400 - 0.3))
    return peak * day * (1 + 0.05 * math.sin(at / 97.0))


def observe(service: Service, each: int, at: float, peak: float) -> Observation:
    """Return an observation of pools with `each` instances at this time's rate."""
    rps = rate(at, peak)
    total = sum(p.throughput_rps for p in service.pools) * each
    pools = {}
    for pool in service.pools:
        share = min(1.0, rps / total)
        load = pool.capacity * each * share / (pool.slowdown - (pool.slowdown - 1) * share)
        pools[pool.name] = PoolObservation(
            desired=each,
            min_size=0,
            max_size=200,
            weight=999 // len(service.pools),
            instances=tuple(
                Instance(f"i-{pool.name}-{n:04}", "g6.xlarge", "abc"[n % 3], Phase.READY, START - 86400)
                for n in range(each)
            ),
            load=Reading(load, at - 60),
            running=Reading(load, at - 60),
            waiting=Reading(0.0, at - 60),
            response_time_seconds=Reading(0.4, at - 60),
            kv_cache_percent=Reading(40.0, at - 60),
        )
    return Observation(
        pools=pools,
        arrivals_rps=Reading(rps, at - 60),
        burst_rps=Reading(rps * 1.1, at - 10),
        input_tokens=Reading(1000 + 100 * math.sin(at / 61.0), at - 60),
        output_tokens=Reading(200 + 20 * math.sin(at / 83.0), at - 60),
    )


def warm_state(service: Service, each: int, peak: float, minutes: int, dispersion: float | None = None) -> State:
    """Return the state after 14 days of history and some minutes of decisions."""
    first = START - minutes * 60
    history = tuple(Reading(rate(first - 300 * n, peak), first - 300 * n) for n in range(14 * 288, 0, -1))
    state = State(
        at=first - 60,
        since=first - 86400,
        demand=DemandMemory(dispersion=dispersion),
        forecast=ForecastMemory(season=season_from(history, first)),
    )
    for minute in range(minutes):
        at = first + 60 * minute
        state = decide(service, observe(service, each, at, peak), state, at).state
    return state


def one_service(title: str, busy: float) -> None:
    """Time one service; `busy` is the day's highest rate over the throughput of the 200 instances."""
    service = make_service(5)
    peak = busy * 40 * sum(p.throughput_rps for p in service.pools)
    state = warm_state(service, 40, peak, MINUTES)
    seconds = []
    for minute in range(DECISIONS):
        at = START + 60 * minute
        seen = observe(service, 40, at, peak)
        began = time.process_time()
        decision = decide(service, seen, state, at)
        seconds.append(time.process_time() - began)
        state = decision.state
    cuts = statistics.quantiles(seconds, n=100)
    print(
        f"one service, 5 pools x 40, {title}, {DECISIONS} decisions: median {1000 * statistics.median(seconds):.2f} ms,"
        f" p99 {1000 * cuts[98]:.2f} ms, most {1000 * max(seconds):.2f} ms; state {len(dump(state)) / 1000:.0f} kB"
    )


def many_services() -> None:
    prepared = []
    for n in range(SERVICES):
        service = make_service(1 + n % 5, f"s{n}")
        each = 2 + n % 11
        peak = 0.7 * each * sum(p.throughput_rps for p in service.pools) * (1 + n / 5000)
        state = warm_state(service, each, peak, 3, dispersion=1 + n / 300)
        prepared.append((service, observe(service, each, START, peak), state))
    began = time.process_time()
    for service, seen, state in prepared:
        decide(service, seen, state, START)
    print(f"{SERVICES} services of 1 to 5 pools one after the other: {time.process_time() - began:.2f} s of one core")


if __name__ == "__main__":
    one_service("too small all day", 1.2)
    one_service("about right", 0.8)
    one_service("too big all day", 0.3)
    many_services()
