"""The fleet at the start of a run: sized alike for every contender, from the first five minutes of the trace.

Every contender starts with 1.2 times the capacity that these minutes need; a rival's instances are filled to 90 %.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.trace_demand import TraceDemand
from gpu_fleet.scaling import mix
from gpu_fleet.scaling.fleet import counted_share
from gpu_fleet.scaling.policy import Request
from gpu_fleet.scaling.request_mix import at_request
from gpu_fleet.scaling.service import Service

FIRST_SECONDS = 300.0
MARGIN = 1.2
RIVAL_FILL = 0.9


def rival_start(service: Service, demand: TraceDemand) -> dict[str, int]:
    """Return the ready instances of a rival's only pool at the start."""
    (pool,) = service.pools
    first = _first_windows(demand)
    work_rps = float(demand.work_rps[first, 0].mean())
    count = max(instances_for(MARGIN * work_rps, pool, RIVAL_FILL), service.policy.availability.min_instances)
    return {pool.name: min(pool.max_instances, max(pool.min_instances, count))}


def own_start(service: Service, demand: TraceDemand) -> dict[str, int]:
    """Return the policy's ready instances at the start, by pool: the cheapest mix that carries the first minutes.

    Instances are filled as far as the policy's sizing fills them for requests of these minutes' lengths. A rival's
    target is tuned on the trace; the policy starts without a state, as a new service does, and learns as it runs.
    """
    first = _first_windows(demand)
    requests = demand.requests[first]
    required_rps = MARGIN * float(requests.sum() / demand.seconds[first].sum())
    if required_rps == 0:
        return {pool.name: pool.min_instances for pool in service.pools}
    request = Request(
        input_tokens=max(1.0, float(np.average(demand.input_tokens[first], weights=requests))),
        output_tokens=max(1.0, float(np.average(demand.output_tokens[first], weights=requests))),
    )
    policy = service.policy.model_copy(update={"request": request})
    options = []
    for pool in (at_request(pool, service, request) for pool in service.pools):
        fleet_size = math.ceil(required_rps / pool.throughput_rps)
        share = counted_share(pool, policy, fleet_size, scv=1.0)
        options.append(
            mix.PoolOption(
                name=pool.name,
                instance_rps=pool.throughput_rps * share,
                usd_per_hour=pool.usd_per_hour,
                at_least=pool.min_instances,
                at_most=pool.max_instances if pool.reaches_slo else pool.min_instances,
            )
        )
    counts = mix.cheapest(options, required_rps, {}, service.policy.availability.min_instances)
    return dict(mix.largest(options, {}) if counts is None else counts)


def _first_windows(demand: TraceDemand) -> NDArray[np.bool_]:
    """Return which windows lie in the first five minutes; the first always does."""
    first = np.cumsum(demand.seconds) <= FIRST_SECONDS + 1e-6
    first[0] = True
    return first
