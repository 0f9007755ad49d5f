"""A scaling rule run in a world: observe, decide, apply, from the trace's first minute to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.world import MinuteOfWorld, World


class Decider(Protocol):
    """A scaling rule, such as `gpu_fleet.backtest.rivals.Contender`.

    Observations carry the history and the instances' own loads only when `wants_history` and `wants_instance_loads`
    are true: of the rule's `state` if it has one (`gpu_fleet.scaling.state.State`, as in the Lambda), else of the rule.
    """

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return counts and weights at `now` (seconds since the epoch)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MinuteSeries:
    """Figures minute by minute; [m] or [pools, m]."""

    at: NDArray[np.float64]
    """End of each minute, seconds since the epoch."""
    arrivals_rps: NDArray[np.float64]
    ended: NDArray[np.int64]
    """Requests completed, rejected or lost in that minute."""
    attained: NDArray[np.int64]
    rejected: NDArray[np.int64]
    lost: NDArray[np.int64]
    running: NDArray[np.float64]
    waiting: NDArray[np.float64]
    ttft_p95_seconds: NDArray[np.float64]
    """nan for a minute without a first token."""
    usd_per_hour: NDArray[np.float64]
    desired: NDArray[np.int64]
    ready: NDArray[np.int64]
    starting: NDArray[np.int64]
    draining: NDArray[np.int64]
    weight: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """Result of a run."""

    pools: tuple[str, ...]
    requests: int
    slo_attainment: float
    """Share of all requests; 1.0 without requests."""
    cost_usd: float
    usd_by_pool: Mapping[str, float]
    launch_usd: float
    """Of the cost, what launches cost beside the machines' hours."""
    gpu_hours: float
    machine_hours: Mapping[str, float]
    lost: int
    rejected: int
    refused: int
    """Those of the rejected that reached an instance whose queue was full."""
    scale_events: int
    launches: int
    failed_launches: int
    capacity_errors: int
    interruptions: int
    p50_ttft_seconds: float | None
    """Of the requests that were served, as all latencies here."""
    p95_ttft_seconds: float | None
    p99_ttft_seconds: float | None
    p95_tpot_seconds: float | None
    p95_e2e_seconds: float | None
    series: MinuteSeries | None
    """None if the world does not keep its minutes."""


def run(
    world: World,
    decider: Decider,
    every_seconds: float = 60.0,
    progress: Callable[[float], None] | None = None,
) -> RunResult:
    """Run the world to the end of its trace; the rule decides every `every_seconds`, first after one such period.

    The requests then in flight may end; the bill ends with the trace. `progress` is called after each step with the
    share done. Raises ValueError if `every_seconds` is not above 0.
    """
    if not every_seconds > 0:
        raise ValueError(f"every_seconds: must be above 0 (got {every_seconds})")
    span = world.ends - world.start
    step = 0
    while world.now < world.ends:
        step += 1
        world.run(min(world.ends, world.start + step * every_seconds))
        if world.now < world.ends:
            wants = getattr(decider, "state", decider)
            observation = world.observe(
                world.now,
                history=bool(getattr(wants, "wants_history", False)),
                instance_loads=bool(getattr(wants, "wants_instance_loads", False)),
            )
            world.apply(decider.decide(world.service, observation, world.now), world.now)
        if progress is not None:
            progress((world.now - world.start) / span)
    world.finish()
    return _result(world)


def _result(world: World) -> RunResult:
    """Return the result of the world's run so far."""
    totals = world.totals
    total = totals.window.total
    return RunResult(
        pools=tuple(world.groups),
        requests=total.ended,
        slo_attainment=1.0 if total.slo_attainment is None else total.slo_attainment,
        cost_usd=totals.cost_usd,
        usd_by_pool=totals.usd,
        launch_usd=totals.launch_usd,
        gpu_hours=totals.gpu_hours,
        machine_hours={name: seconds / 3600 for name, seconds in totals.machine_seconds.items()},
        lost=total.lost,
        rejected=total.rejected,
        refused=total.rejected_queue_full,
        scale_events=totals.scale_events,
        launches=totals.launches,
        failed_launches=totals.failed_launches,
        capacity_errors=totals.capacity_errors,
        interruptions=totals.interruptions,
        p50_ttft_seconds=total.ttft.quantile(0.5),
        p95_ttft_seconds=total.ttft.quantile(0.95),
        p99_ttft_seconds=total.ttft.quantile(0.99),
        p95_tpot_seconds=total.tpot.quantile(0.95),
        p95_e2e_seconds=total.e2e.quantile(0.95),
        series=None if world.minutes is None else _series(world.minutes, len(world.groups)),
    )


def _series(minutes: list[MinuteOfWorld], pools: int) -> MinuteSeries:
    def counts(name: str) -> NDArray[np.int64]:
        return np.array([getattr(minute, name) for minute in minutes], np.int64)

    def values(name: str) -> NDArray[np.float64]:
        return np.array([getattr(minute, name) for minute in minutes], np.float64)

    def by_pool(name: str) -> NDArray[np.int64]:
        rows = [[getattr(pool, name) for pool in minute.pools] for minute in minutes]
        return np.array(rows, np.int64).reshape(len(minutes), pools).T

    return MinuteSeries(
        at=values("at"),
        arrivals_rps=counts("arrivals") / 60.0,
        ended=counts("ended"),
        attained=counts("attained"),
        rejected=counts("rejected"),
        lost=counts("lost"),
        running=values("running"),
        waiting=values("waiting"),
        ttft_p95_seconds=values("ttft_p95_seconds"),
        usd_per_hour=values("usd_per_hour"),
        desired=by_pool("desired"),
        ready=by_pool("ready"),
        starting=by_pool("starting"),
        draining=by_pool("draining"),
        weight=by_pool("weight"),
    )
