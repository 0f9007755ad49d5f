"""Who takes part, on which signal, with which default target, and over which targets each is tuned.

A target is given as a share of what one instance carries at its capacity C (in the rival's own signal), so that one
number means the same on every pool. Each rival is a rule for one pool; a comparison tries the pools that reach the SLO
and takes the rival's best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpu_fleet.backtest.contender import Contender
from gpu_fleet.backtest.ours import Ours
from gpu_fleet.backtest.rivals.hpa import HorizontalPodAutoscaler
from gpu_fleet.backtest.rivals.kpa import KnativePodAutoscaler
from gpu_fleet.backtest.rivals.predictive import PredictiveScaling
from gpu_fleet.backtest.rivals.ray_serve import MAX_ONGOING_REQUESTS, TARGET_ONGOING_REQUESTS, RayServe
from gpu_fleet.backtest.rivals.rival_signals import Signal, of_a_full_instance
from gpu_fleet.backtest.rivals.skyserve import SkyServe
from gpu_fleet.backtest.rivals.static_peak import StaticPeak, instances_for
from gpu_fleet.backtest.rivals.step_scaling import StepScaling
from gpu_fleet.backtest.rivals.target_tracking import TargetTracking
from gpu_fleet.scaling.service import Pool, Service

WORK_SHARES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Targets tried for rules on rates and percentages. Not above 1: beyond C the SLO is broken in a steady state."""
CONCURRENCY_SHARES = (0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Targets tried for rules on concurrency, closer together below: an instance with a tenth of C in it may already do
half of the work of C (slowdown 8.5: 0.1 * 8.5 / (1 + 7.5 * 0.1) = 0.49)."""

OURS = Ours.name


Build = Callable[[Service, Pool, float, float | None], Contender]
"""Service, pool, share, and the trace's peak rate where it is known."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One rule that a user would have instead."""

    name: str
    signal: Signal
    default_share: float
    default_from: str
    """Where the default target comes from."""
    build: Build


def _target(service: Service, pool: Pool, signal: Signal, share: float) -> float:
    return share * of_a_full_instance(pool, signal, service.policy.load.unit)


def _static(service: Service, pool: Pool, share: float, peak_rps: float | None) -> Contender:
    if peak_rps is None:
        raise ValueError("peak_rps: static-peak needs the trace's peak rate")
    return StaticPeak(service, pool.name, instances_for(peak_rps, pool, share))


def _by_target(rule: Callable[[Service, str, float], Contender], signal: Signal) -> Build:
    """For rules that take a service, a pool's name and a target."""

    def build(service: Service, pool: Pool, share: float, peak_rps: float | None) -> Contender:
        return rule(service, pool.name, _target(service, pool, signal, share))

    return build


def _on(
    rule: Callable[[Service, str, float, Signal], Contender], signal: Signal
) -> Callable[[Service, str, float], Contender]:
    """For rules that can take several signals: the one with this."""
    return lambda service, pool, target: rule(service, pool, target, signal)


CONSOLE = "the EC2 console's default target of 50 %"
_RIVALS = (
    Rival("static-peak", Signal.REQUESTS, 0.8, "ours: the article's threshold of 80 %, on the peak minute", _static),
    *(
        Rival(name, signal, 0.5, CONSOLE, _by_target(_on(TargetTracking, signal), signal))
        for name, signal in (
            ("target-tracking", Signal.CONCURRENCY),
            ("target-tracking-requests", Signal.REQUESTS),
            ("target-tracking-gpu", Signal.GPU),
        )
    ),
    *(
        Rival(
            name, signal, 0.5, "the middle of the ladder in AWS's example", _by_target(_on(StepScaling, signal), signal)
        )
        for name, signal in (("step-scaling", Signal.CONCURRENCY), ("step-scaling-requests", Signal.REQUESTS))
    ),
    *(
        Rival(name, signal, 0.8, "the API's default of 80 %", _by_target(_on(HorizontalPodAutoscaler, signal), signal))
        for name, signal in (("hpa", Signal.CONCURRENCY), ("hpa-requests", Signal.REQUESTS))
    ),
    *(
        Rival(
            name, signal, 0.7, "its target utilisation of 70 %", _by_target(_on(KnativePodAutoscaler, signal), signal)
        )
        for name, signal in (("kpa", Signal.CONCURRENCY), ("kpa-requests", Signal.REQUESTS))
    ),
    Rival(
        "ray-serve",
        Signal.CONCURRENCY,
        TARGET_ONGOING_REQUESTS / MAX_ONGOING_REQUESTS,
        "target_ongoing_requests 2 of max_ongoing_requests 5",
        _by_target(RayServe, Signal.CONCURRENCY),
    ),
    Rival(
        "skyserve",
        Signal.REQUESTS,
        1.0,
        "no default: what a replica carries, as its guide says",
        _by_target(SkyServe, Signal.REQUESTS),
    ),
    Rival(
        "predictive-scaling",
        Signal.REQUESTS,
        0.5,
        f"{CONSOLE}, for both policies",
        _by_target(PredictiveScaling, Signal.REQUESTS),
    ),
)
RIVALS = {rival.name: rival for rival in _RIVALS}


def tunings(name: str) -> tuple[float, ...]:
    """The target shares over which the rival is tuned, its default among them, in order.

    Raises ValueError for an unknown name.
    """
    rival = _rival(name)
    shares = CONCURRENCY_SHARES if rival.signal is Signal.CONCURRENCY else WORK_SHARES
    return tuple(sorted({*shares, rival.default_share}))


def pools_for(service: Service) -> tuple[str, ...]:
    """The pools that a rival is tried on: those that reach the SLO, or all where none does."""
    able = tuple(pool.name for pool in service.pools if pool.reaches_slo and pool.max_instances > 0)
    return able or tuple(pool.name for pool in service.pools)


def service_with(service: Service, pool: str) -> Service:
    """The service that a rival's user would have: this pool alone, so that no other's minimum is on the rival's bill.

    Raises ValueError for an unknown pool.
    """
    return service.model_copy(update={"pools": (_pool(service, pool),)})


def make(
    name: str, service: Service, pool: str, share: float | None = None, peak_rps: float | None = None
) -> Contender:
    """A fresh contender for one run: a rival on that pool with that target share, or ours, which takes all pools.

    `share` defaults to the rival's own; `peak_rps`, typical requests a second in the trace's busiest minute, is needed
    by static-peak alone. Raises ValueError for an unknown name or pool, and for a share that is not above 0.
    """
    if name == OURS:
        return Ours()
    rival = _rival(name)
    return rival.build(service, _pool(service, pool), rival.default_share if share is None else share, peak_rps)


def _pool(service: Service, name: str) -> Pool:
    for pool in service.pools:
        if pool.name == name:
            return pool
    raise ValueError(f"pool: must be one of {', '.join(p.name for p in service.pools)} (got {name})")


def _rival(name: str) -> Rival:
    if name not in RIVALS:
        raise ValueError(f"contender: must be one of {', '.join((OURS, *RIVALS))} (got {name})")
    return RIVALS[name]
