"""From the counts wanted to those that may be had in this step, or that are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling import capacity_errors, guard, learning
from gpu_fleet.scaling.decision import PoolTarget, Reason
from gpu_fleet.scaling.demand import Demand, ready_count
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import SizingMode
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State


def step(
    service: Service,
    seen: Observation,
    fleet: Fleet,
    counts: Mapping[str, int],
    band: guard.Band,
    demand: Demand,
    state: State,
    now: float,
) -> tuple[dict[str, PoolTarget], State, list[Reason]]:
    """From the counts wanted to those that may be had in this step."""
    policy = service.policy
    reasons: list[Reason] = []
    targets: dict[str, PoolTarget] = {}
    need = 0.0 if state.asleep else band.in_rps
    spare = fleet.ready_rps - need
    fits = _fits(service, seen, demand) if not state.asleep else 10**6
    zones = guard.Zones.of(0 if state.asleep else policy.availability.min_zones, seen.pools.values())
    wants_loads = False
    for pool in service.pools:
        view, name = seen.pools[pool.name], pool.name
        want = counts[name] + fleet.lost[name]
        want = _within(pool, view, want)
        desired, take = view.desired, ()
        if want > view.desired:
            desired = min(want, view.desired + policy.horizontal.max_step_out)
        elif not guard.is_extra(state, now):
            gone = (
                guard.shrink(
                    pool,
                    view,
                    policy,
                    by=view.desired - want,
                    spare_rps=spare,
                    instance_rps=fleet.worth[name],
                    fits=fits,
                    patience=state.loads_wanted,
                    zones=zones,
                    now=now,
                    must=_over(pool, view),
                )
                if want < view.desired
                else guard.relieve(pool, view, policy, zones, now)
            )
            taken = set(gone.take)
            leaving = sum(1 for i in view.those(Phase.READY) if i.id in taken)
            spare -= leaving * fleet.worth[name]
            fits -= leaving
            zones = gone.zones
            wants_loads = wants_loads or gone.wants_loads
            reasons += gone.reasons
            take = gone.take
            desired = view.desired - len(take) - gone.drop
        base = None
        if pool.spot_percent > 0:
            lead = learning.lead_seconds(pool, state)
            # What is ordered now shall not wait for spot either, and what leaves is not there to be counted.
            staying = tuple(i for i in view.instances if i.id not in take)
            after = replace(view, desired=desired, instances=staying)
            base = capacity_errors.on_demand_base(pool, after, state.pools[name], lead, now)
            base = base if base != view.on_demand_base else None
        targets[name] = PoolTarget(desired=desired, weight=view.weight, take=take, on_demand_base=base)
    return targets, replace(state, loads_wanted=state.loads_wanted + 1 if wants_loads else 0), reasons


def hold(
    service: Service,
    seen: Observation,
    state: State,
    now: float,
) -> tuple[dict[str, PoolTarget], list[Reason]]:
    """Counts and weights as they stand, within the bounds."""
    targets: dict[str, PoolTarget] = {}
    reasons: list[Reason] = []
    zones = guard.Zones.of(service.policy.availability.min_zones, seen.pools.values())
    for pool in service.pools:
        view = seen.pools[pool.name]
        over = _over(pool, view)
        if over and not guard.is_extra(state, now):
            gone = guard.shrink(
                pool,
                view,
                service.policy,
                by=over,
                spare_rps=0.0,
                instance_rps=pool.throughput_rps,
                fits=0,
                patience=guard.LOADS_PATIENCE,
                zones=zones,
                now=now,
                must=over,
            )
            zones = gone.zones
            reasons += gone.reasons
            desired = view.desired - len(gone.take) - gone.drop
            targets[pool.name] = PoolTarget(desired=desired, weight=view.weight, take=gone.take)
        else:
            desired = max(view.desired, _within(pool, view, 0))
            targets[pool.name] = PoolTarget(desired=desired, weight=view.weight)
    return targets, reasons


def _fits(service: Service, seen: Observation, demand: Demand) -> int:
    """How many of the instances that serve may leave so that what they hold still fits the rest: load * N/(N-1)."""
    if demand.utilization is None:
        return 0
    ready = sum(ready_count(view) for view in seen.pools.values())
    limit = service.policy.sizing.target_utilization if service.policy.sizing_mode is SizingMode.THRESHOLD else 1.0
    return ready - max(1, -int(-demand.utilization // limit)) if ready else 0


def _within(pool: Pool, view: PoolObservation, count: int) -> int:
    """The count within the policy's bounds, and these within the group's, which alone AWS keeps to."""
    return max(view.min_size, min(view.max_size, max(pool.min_instances, min(pool.max_instances, count))))


def _over(pool: Pool, view: PoolObservation) -> int:
    """Instances above the pool's maximum, as after a change of the policy's bounds."""
    return max(0, view.desired - _within(pool, view, view.desired))
