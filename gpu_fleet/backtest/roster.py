"""The roster of contenders: each rival's signal and default target, and the targets over which it is tuned.

A target is given as a share of what one instance shows at its capacity C, in the rival's own signal, so that a number
means the same on every pool. Each rival is a rule for one pool. A comparison tries every pool that reaches the SLO and
keeps the rival's best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpu_fleet.backtest.clairvoyant import Clairvoyant
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

OURS = Ours.name
CLAIRVOYANT = Clairvoyant.name
"""No rival: a user cannot have it. `gpu_fleet.backtest.slo_bound` finds its best plan."""

WORK_SHARES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Targets tried for rules on rates and percentages. None is above 1: beyond C the SLO is broken in a steady state."""
CONCURRENCY_SHARES = (0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Targets tried for rules on concurrency. They are denser at the bottom: an instance with a tenth of C in it may
already do half of the work of C (slowdown 8.5: 0.1 * 8.5 / (1 + 7.5 * 0.1) = 0.49)."""

Build = Callable[[Service, Pool, float, float | None], Contender]
"""Makes a rival from a service, a pool, a target share, and the trace's peak rate if it is known."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A rule that a user would have instead of the scaler."""

    name: str
    signal: Signal
    default_share: float
    default_from: str
    """The source of the default target."""
    build: Build


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contender ready to run: ours, or a rival on one pool with one target."""

    rule: str
    """The contender's name."""
    pool: str | None = None
    """None: all pools."""
    share: float | None = None
    """Target as a share of a full instance; None: the rival's default."""
    tuned: bool = False
    look_minutes: float = 1.0
    """Of the clairvoyant fleet only; `share` is its fill."""

    @property
    def name(self) -> str:
        """The name in tables; it tells a rival with its default target from the tuned one."""
        return self.rule if self.rule == OURS or self.tuned else f"{self.rule} (default)"


def _static_peak(service: Service, pool: Pool, share: float, peak_rps: float | None) -> Contender:
    if peak_rps is None:
        raise ValueError("peak_rps: static-peak needs the trace's peak rate")
    return StaticPeak(service, pool.name, instances_for(peak_rps, pool, share))


def _on_fixed_signal(rule: Callable[[Service, str, float], Contender], signal: Signal) -> Build:
    """Return the maker of a rule that takes a service, a pool's name and a target."""

    def build(service: Service, pool: Pool, share: float, peak_rps: float | None) -> Contender:
        return rule(service, pool.name, share * of_a_full_instance(pool, signal, service.policy.load.unit))

    return build


def _on_signal(rule: Callable[[Service, str, float, Signal], Contender], signal: Signal) -> Build:
    """Return the maker of a rule that works on several signals, for this one."""
    return _on_fixed_signal(lambda service, pool, target: rule(service, pool, target, signal), signal)


CONSOLE = "the EC2 console's default target of 50 %"
LADDER = "the middle of the ladder in AWS's example"
HPA = "the API's default of 80 %"
KPA = "its target utilisation of 70 %"
CONCURRENCY, REQUESTS, GPU = Signal.CONCURRENCY, Signal.REQUESTS, Signal.GPU

_RIVALS = (
    Rival("static-peak", REQUESTS, 0.8, "ours: the article's threshold of 80 %, on the peak minute", _static_peak),
    Rival("target-tracking", CONCURRENCY, 0.5, CONSOLE, _on_signal(TargetTracking, CONCURRENCY)),
    Rival("target-tracking-requests", REQUESTS, 0.5, CONSOLE, _on_signal(TargetTracking, REQUESTS)),
    Rival("target-tracking-gpu", GPU, 0.5, CONSOLE, _on_signal(TargetTracking, GPU)),
    Rival("step-scaling", CONCURRENCY, 0.5, LADDER, _on_signal(StepScaling, CONCURRENCY)),
    Rival("step-scaling-requests", REQUESTS, 0.5, LADDER, _on_signal(StepScaling, REQUESTS)),
    Rival("hpa", CONCURRENCY, 0.8, HPA, _on_signal(HorizontalPodAutoscaler, CONCURRENCY)),
    Rival("hpa-requests", REQUESTS, 0.8, HPA, _on_signal(HorizontalPodAutoscaler, REQUESTS)),
    Rival("kpa", CONCURRENCY, 0.7, KPA, _on_signal(KnativePodAutoscaler, CONCURRENCY)),
    Rival("kpa-requests", REQUESTS, 0.7, KPA, _on_signal(KnativePodAutoscaler, REQUESTS)),
    Rival(
        "ray-serve",
        CONCURRENCY,
        TARGET_ONGOING_REQUESTS / MAX_ONGOING_REQUESTS,
        "target_ongoing_requests 2 of max_ongoing_requests 5",
        _on_fixed_signal(RayServe, CONCURRENCY),
    ),
    Rival(
        "skyserve",
        REQUESTS,
        1.0,
        "no default: what a replica carries, as its guide says",
        _on_fixed_signal(SkyServe, REQUESTS),
    ),
    Rival(
        "predictive-scaling",
        REQUESTS,
        0.5,
        f"{CONSOLE}, for both policies",
        _on_fixed_signal(PredictiveScaling, REQUESTS),
    ),
)
RIVALS = {rival.name: rival for rival in _RIVALS}


def tunings(name: str) -> tuple[float, ...]:
    """Return the target shares over which the rival is tuned, rising, its default among them.

    Raises ValueError for an unknown name.
    """
    rival = _rival(name)
    shares = CONCURRENCY_SHARES if rival.signal is Signal.CONCURRENCY else WORK_SHARES
    return tuple(sorted({*shares, rival.default_share}))


def pools_for(service: Service) -> tuple[str, ...]:
    """Return the pools that a rival is tried on: those that reach the SLO, or all if none does."""
    able = tuple(pool.name for pool in service.pools if pool.reaches_slo and pool.max_instances > 0)
    return able or tuple(pool.name for pool in service.pools)


def service_with(service: Service, pool: str) -> Service:
    """Return the service of a rival's user: this pool alone, so that no other's minimum is on the rival's bill.

    Raises ValueError for an unknown pool.
    """
    return service.model_copy(update={"pools": (_pool(service, pool),)})


def make(
    name: str, service: Service, pool: str, share: float | None = None, peak_rps: float | None = None
) -> Contender:
    """Return a fresh contender for one run: a rival on that pool with that target share, or ours on all pools.

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
