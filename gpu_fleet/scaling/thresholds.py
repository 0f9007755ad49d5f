"""Node signals over their limit ask for instances, whatever the load says (the article, 3.2.1 and 3.2.2).

A signal over its limit asks for the ready capacity times value / limit, as if it fell in proportion to the work of an
instance; what is coming counts, so one shortage is ordered once. Whether it does fall is then watched:

- each share (work over the throughput of what is ready) at which a signal kept or passed its limit is remembered. No
  instance leaves if the rest would work at a share that was too much, or at one never seen that would be too much in
  proportion. So a signal with a part that load does not move (CPU 20 % when idle, memory) neither holds a fleet for
  ever nor sends it back and forth;
- a signal that falls by less than a quarter of what the fall of the share promised is not cured by instances. It asks
  for none for a day, unless it does react or keeps its limit for half an hour. Not so a percentage that stays at 100
  while requests wait in the engines: instances that came did not suffice yet.

Worked: 10 instances at GPU 100 % of 80 ask for 12.5, so 3 come; at 77 % of 80, 12.5 must stay, and the 13 do. A network
latency of 0.2 s of 0.05 asks for twice as many, once: it stays at 0.2, and they leave again.

Means over minutes are compared, since one noisy minute says little. A reading from before the last change of the ready
instances is not multiplied by their number after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import pool_load
from gpu_fleet.scaling.fleet import Fleet, ready_throughput_rps
from gpu_fleet.scaling.model import utilization
from gpu_fleet.scaling.observation import PoolObservation, Reading
from gpu_fleet.scaling.policy import SizingMode
from gpu_fleet.scaling.reasons import sizing as reasons
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import Passed, Point, SignalMemory, ThresholdMemory

MOST_RAISED = 2.0
"""A signal asks for no more than twice what is ready before it is seen what these instances do to it."""
MEAN_SECONDS = 180.0
"""Time over which signals and work are averaged."""
MINUTE = 60.0
"""Interval that a reading is measured over."""
SETTLED_SECONDS = 180.0
"""Time after a change of the ready instances until a signal shows what it did."""
SAME_CAPACITY = 0.04
"""Changes by less than this share are no change: one instance of 30."""
MOVED = 0.19
"""Fall of the share that tells whether a signal follows it: one instance more on four is a fall by 0.2."""
LEAST_FOLLOWED = 0.25
"""Part of that fall that the signal must show."""
REACTS, REACTS_TO = 0.75, 0.24
"""A signal that asks for none is believed again when it shows this part of such a move of the share, up or down."""
SATURATED_PERCENT = 99.0
"""From here on a percentage cannot tell more: it is judged once capacity has doubled and the engines' queues are
gone."""
QUEUED_SHARE = 0.25
"""Requests that wait in the engines over those in service, from which on there is a queue."""
CLEAR_SECONDS = 1800.0
"""After this time within its limit a signal that passes it again is a new case."""
DISPROVED = 1.15
"""A signal that keeps its limit at this multiple of the share that was too much disproves it; less may be noise."""
PASSING_SECONDS = 600.0
"""A signal may rise on for so long after it has passed its limit: a mean follows slowly."""
PAUSE_SECONDS = 86400.0
OVER_KEPT_SECONDS = 86400.0
"""How long it is remembered that a share was too much."""


@dataclass(frozen=True, slots=True)
class Raised:
    """The work that must be carried, with what node signals ask for."""

    rps: float
    reasons: tuple[Reason, ...]
    memory: ThresholdMemory
    by_signal: bool = False
    """A node signal asks for more than the load does, or holds it."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """The capacity now and the work on it."""

    now: float
    passed_seconds: float
    """Since the last evaluation."""
    full_rps: float
    since: float
    """When the capacity last changed; 0: before anybody looked."""
    share: float

    def settled(self, reading: Reading) -> bool:
        return reading.at - self.since >= SETTLED_SECONDS

    def mean(self, old: float | None, new: float, window_seconds: float) -> float:
        if old is None or window_seconds <= self.passed_seconds:
            return new
        return old + (new - old) * self.passed_seconds / window_seconds


@dataclass(slots=True)
class _Asked:
    """What the signals ask for, in throughput of ready instances."""

    raised: dict[str, float] = field(default_factory=dict)
    """Worst value over limit of each pool, above 1."""
    held_rps: float = 0.0
    passed: list[tuple[str, str, float, float]] = field(default_factory=list)
    """Signals that raise: pool, name, value, limit."""
    holding: tuple[str, str] = ("", "")
    """The pool and signal behind `held_rps`."""
    reasons: list[Reason] = field(default_factory=list)


def raised(context: Context, work_rps: float, fleet: Fleet, required_rps: float) -> Raised:
    """Raise the capacity required to what the node signals ask for, and hold what they need.

    `work_rps` is the demand now. What signals ask for counts from what is ready; what they hold is at most what stands.
    """
    memory, full_rps = context.state.thresholds, ready_throughput_rps(context)
    if full_rps <= 0:
        return Raised(required_rps, (), replace(memory, full_rps=0.0))
    moment, memory = _look(context, memory, work_rps, full_rps)
    asked, signals = _Asked(), {}
    for pool, view in context.pools():
        queued = _is_queued(context, view)
        for name, reading, limit in _signals(context, pool, view):
            key, seen = f"{pool.name}.{name}", reading if context.value(reading) is not None else None
            before = memory.signals.get(key, SignalMemory())
            if view.ready_count == 0:
                seen, before = None, replace(before, value=None)
            after = _watch(before, seen, limit, moment, percent=name.endswith("_percent"), queued=queued)
            if after != SignalMemory():
                signals[key] = after
            if view.ready_count:  # a pool that nobody is in holds nobody elsewhere
                _ask(asked, after, (pool.name, name, limit), seen, moment)
    rps, why = _together(context, asked, moment, fleet, required_rps)
    return Raised(rps, why, replace(memory, signals=signals), by_signal=rps > required_rps)


def _signals(context: Context, pool: Pool, view: PoolObservation) -> Iterator[tuple[str, Reading | None, float]]:
    """Each signal of a pool with its limit; in mode `threshold` the load too: U of the pool over n, as a percentage."""
    limits = context.policy.thresholds
    readings = (
        ("cpu_percent", view.cpu_percent, limits.cpu_percent),
        ("memory_percent", view.memory_percent, limits.memory_percent),
        ("gpu_percent", view.gpu_percent, limits.gpu_percent),
        ("kv_cache_percent", view.kv_cache_percent, limits.kv_cache_percent),
        ("network_latency_seconds", view.network_latency_seconds, limits.network_latency_seconds),
    )
    yield from ((name, reading, limit) for name, reading, limit in readings if limit is not None)
    load, measured = pool_load(context, pool, view), view.load or view.rate_rps
    if context.policy.sizing_mode is SizingMode.THRESHOLD and view.ready_count and load is not None and measured:
        running = context.value(view.running)  # what waits is a backlog, and has its own time to be drained in
        load = load if running is None else min(load, running)
        u = utilization([load], [view.ready_count * pool.capacity * context.correction(pool)])
        yield "load_percent", Reading(100 * u, measured.at), 100 * context.policy.sizing.target_utilization


def _is_queued(context: Context, view: PoolObservation) -> bool:
    running, waiting = context.value(view.running), context.value(view.waiting)
    return running is not None and waiting is not None and waiting > QUEUED_SHARE * running


def _look(
    context: Context, memory: ThresholdMemory, work_rps: float, full_rps: float
) -> tuple[_Moment, ThresholdMemory]:
    """Bring work and capacity up to now; where the capacity changed, the signals' means begin anew."""
    now, known = context.now, memory.full_rps
    same = known is not None and known > 0 and abs(full_rps / known - 1) <= SAME_CAPACITY
    since = memory.since if same else 0.0 if known is None else now
    passed_seconds = max(0.0, now - context.state.at)
    moment = _Moment(now, passed_seconds, full_rps, since, 0.0)
    work_rps = moment.mean(memory.work_rps, work_rps, MEAN_SECONDS)
    signals = memory.signals if same else {key: replace(s, value=None) for key, s in memory.signals.items()}
    after = replace(memory, full_rps=known if same else full_rps, since=since, work_rps=work_rps, signals=signals)
    return replace(moment, share=work_rps / full_rps), after


def _watch(
    memory: SignalMemory, reading: Reading | None, limit: float, moment: _Moment, *, percent: bool, queued: bool
) -> SignalMemory:
    """Note the signal's mean, at which share it keeps its limit, and whether it follows the share."""
    if memory.over is not None and moment.now - memory.over_at > OVER_KEPT_SECONDS:
        memory = replace(memory, over=None)
    if reading is None or reading.at - moment.since < MINUTE:
        return memory
    value = moment.mean(memory.value, reading.value, min(MEAN_SECONDS, moment.now - moment.since))
    older = tuple(p for p in memory.newest if p.at < reading.at)[-1:]
    memory = replace(memory, value=value, newest=(*older, Point(reading.at, reading.value)))
    if value > limit:
        memory = replace(memory, passed_at=moment.now)
    elif moment.now - memory.passed_at > CLEAR_SECONDS:
        memory = replace(memory, passed=None, quiet_until=0.0)
    if not moment.settled(reading):
        return memory
    if value <= limit:
        over = memory.over if memory.over is not None and moment.share < DISPROVED * memory.over else None
        within = max(memory.within or 0.0, moment.share)
        memory = replace(memory, within=within if over is None else min(within, over), over=over)
    saturated = percent and value >= SATURATED_PERCENT
    if memory.quiet_until:
        return _believed_again(memory, value, moment, drowned=saturated and queued)
    if value <= limit:
        return memory
    return _over(memory, value, limit, moment, saturated=saturated, drowned=saturated and queued)


def _over(
    memory: SignalMemory, value: float, limit: float, moment: _Moment, *, saturated: bool, drowned: bool
) -> SignalMemory:
    """A signal over its limit: note the share that would cure it, and give up where instances did not help."""
    passed = None if drowned else memory.passed  # judged from the first value that tells something
    if passed is None or _not_answered_yet(passed, moment):
        at = moment.now if passed is None else passed.at
        passed = Passed(at, value, moment.share, moment.full_rps)
    followed, fallen = _followed(passed, value, moment)
    least_fallen = 0.5 if saturated else MOVED
    if fallen >= least_fallen and followed < LEAST_FOLLOWED:
        return SignalMemory(
            value=value,
            newest=memory.newest,
            passed_at=moment.now,
            passed=Passed(moment.now, value, moment.share, moment.full_rps),
            quiet_until=moment.now + PAUSE_SECONDS,
        )
    cure = moment.share * limit / max(value, min(p.rps for p in memory.newest))
    over_at = memory.over_at if memory.over is not None and memory.over <= cure else moment.now
    return replace(
        memory,
        passed=passed,
        over=min(cure, math.inf if memory.over is None else memory.over),
        over_at=over_at,
        within=None if memory.within is None else min(memory.within, cure),
    )


def _not_answered_yet(passed: Passed, moment: _Moment) -> bool:
    """No instance has come since, and the signal may be rising still, or has more work on it."""
    more = moment.full_rps > passed.full_rps * (1 + SAME_CAPACITY)
    return not more and (moment.now - passed.at <= PASSING_SECONDS or moment.share >= passed.share)


def _believed_again(memory: SignalMemory, value: float, moment: _Moment, *, drowned: bool) -> SignalMemory:
    """A signal that asks for none asks again once it reacts or the engines drown, or when its pause is over."""
    followed, fallen = _followed(memory.passed, value, moment) if memory.passed else (0.0, 0.0)
    reacts = abs(fallen) >= REACTS_TO and followed >= REACTS
    if not (reacts or drowned) and moment.now < memory.quiet_until:
        return memory
    passed = Passed(moment.now, value, moment.share, moment.full_rps)
    return replace(memory, passed=passed, quiet_until=0.0)


def _followed(passed: Passed, value: float, moment: _Moment) -> tuple[float, float]:
    """How much of the fall of the share the signal shows (1: all), and that fall (0.2: by a fifth)."""
    share = moment.share / passed.share if passed.share > 0 else passed.full_rps / moment.full_rps
    fallen = 1 - share
    return ((1 - value / passed.value) / fallen if fallen else 0.0), fallen


def _ask(
    asked: _Asked, signal: SignalMemory, named: tuple[str, str, float], reading: Reading | None, moment: _Moment
) -> None:
    """Add what this signal asks for, or say why it asks for nothing."""
    pool, name, limit = named
    value = signal.value
    over = value is not None and value > limit
    if signal.quiet_until:
        if over and value is not None:
            asked.reasons.append(reasons.threshold_unmoved(pool, name, value, limit, signal.quiet_until - moment.now))
        return
    if over and value is not None and reading is not None and moment.settled(reading):
        value = max(value, min(p.rps for p in signal.newest))  # a jump that two readings show is no noise
        asked.passed.append((pool, name, value, limit))
        asked.raised[pool] = max(asked.raised.get(pool, 1.0), min(MOST_RAISED, value / limit if limit else math.inf))
    most = _most_share(signal, limit, moment)
    if 0 < most < math.inf and moment.share * moment.full_rps / most > asked.held_rps:
        asked.held_rps, asked.holding = moment.share * moment.full_rps / most, (pool, name)


def _most_share(signal: SignalMemory, limit: float, moment: _Moment) -> float:
    """The most work over throughput at which the signal keeps its limit, as far as is known."""
    known, too_much = signal.within or 0.0, math.inf if signal.over is None else signal.over
    if signal.value is None:
        return max(known, too_much) if signal.over is not None else known
    in_proportion = moment.share * limit / signal.value if signal.value > 0 else math.inf
    return max(known, min(in_proportion, too_much))


def _together(
    context: Context, asked: _Asked, moment: _Moment, fleet: Fleet, required_rps: float
) -> tuple[float, tuple[Reason, ...]]:
    """The most of load, of what is asked for and of what is held; with the reasons of what counts."""
    worth = fleet.ready_rps / moment.full_rps  # what a unit of throughput counts for
    rps, why = required_rps, list(asked.reasons)
    held_rps = min(fleet.standing_rps, asked.held_rps * worth)
    raised_rps = _raised_rps(context, asked, moment, fleet, worth)
    if raised_rps > rps and raised_rps >= held_rps:
        rps = raised_rps
        why += [reasons.threshold_passed(*one, rps) for one in asked.passed]
    elif held_rps > rps:
        rps = held_rps
        why.append(reasons.threshold_holds(*asked.holding, rps))
    return rps, tuple(why)


def _raised_rps(context: Context, asked: _Asked, moment: _Moment, fleet: Fleet, worth: float) -> float:
    """The demand to carry that the signals over their limit ask for; 0 where none is."""
    if fleet.shares:  # only the pool's own instances take work from it
        ready = {name: context.seen.pools[name].ready_count * fleet.worth[name] for name in fleet.shares}
        shares = fleet.shares.items()
        return max((asked.raised.get(name, 0.0) * ready[name] / share for name, share in shares), default=0.0)
    more = sum(
        view.ready_count * pool.throughput_rps * context.correction(pool) * (asked.raised[pool.name] - 1)
        for pool, view in context.pools()
        if pool.name in asked.raised
    )
    return (moment.full_rps + more) * worth if asked.raised else 0.0
