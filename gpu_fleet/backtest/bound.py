"""The clairvoyant fleet: the least that any fleet of these pools could have cost, knowing the whole trace beforehand.

**What it must carry.** Time is cut into windows of one minute. In each, the instances that stand must have the capacity
for the window's work: a request's work is what it takes of an instance that runs the largest batch that still keeps the
SLO's time per token (`gpu_fleet.scaling.profile`), for that window's own mix of prompt and answer lengths. It is
measured in typical requests a second, as `Pool.throughput_rps` is. Inside a window the work flows like a fluid: no
request waits, no instance is ever idle for want of one. A real fleet needs head-room for both, so it costs more.

**Why a minute.** It is the scaler's own step, EC2 bills an instance for at least 60 s
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html), and it is longer than the SLO lets a
request wait. Within shorter windows a fleet could follow single bursts, which nothing that boots can.

**Is it a lower bound?** For one pool: yes, for every policy whose capacity is constant within each minute and which
serves every request, except for what is carried over a minute's edge: requests in service at the edge (seconds' worth,
at most the SLO's time to first token plus an answer's length) may be finished by the next minute's instances. That is
not given to the bound; it matters only where a minute's peak is cut off at both sides. For several pools the demand of
a window is taken in the measure of that pool in which it is least (for any split x_p of the window, sum n_p * T_p >=
min_p D_p where D_p is its work in pool p's own typical requests and T_p that pool's throughput), so the bound stays
below or at the exact figure, and is exact where lengths do not vary. Lengths are not matched to pools within a window.

**Attainment.** By default every request is served. `may_fail` leaves out that share of all requests, where that saves
most: exact but for the last window cut, which is taken in part, so that the figure stays a lower bound. The fleet with
boot time always serves all.

**Also for the clairvoyant:** the pools' minima and maxima, each pool's own vCPU quota, and the service's floor
(`availability.min_instances`; not in minutes without a request where the policy lets the service sleep). Left out, all
of which would make it dearer: zones, spot interruptions (the price is the pool's mean price), capacity errors, drains,
and a quota that several pools share.

**Boot.** An instance is paid from its order, `boot_seconds` before it carries anything, and may be kept through a quiet
time where that is cheaper than to boot again. What stands in the first minute was ordered before the trace began, as
for every contender. One pool falls apart into levels: the k-th instance is needed whenever k or more are; each gap
between two such times is bridged when it is no longer than the boot. That is exact, since cost and constraint are both
sums over levels (the up-steps of a step function are those of its level sets). For several pools: dynamic programming
over the counts of all pools, which is exact too; only where that would be too much work, the best fleet with one pool
or more held at its minimum, and `exact` says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from gpu_fleet.scaling.policy import LoadUnit, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.service import Pool, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WINDOW_SECONDS = 60.0
MOST_WORK = 2_000_000_000
"""Pools' counts times windows that the dynamic programme may visit: about ten seconds on one core."""
_EDGE = 1e-9
"""Relative slack, so that 3.0000000001 instances' worth of work is carried by 3."""


class Stretch(Protocol):
    """The requests of one stretch of time, as a trace's `windows` yields them."""

    @property
    def starts_seconds(self) -> float:
        """From when, since the trace began."""
        ...

    @property
    def ends_seconds(self) -> float:
        """Until when."""
        ...

    @property
    def input_tokens(self) -> Floats:
        """Prompt length of each request."""
        ...

    @property
    def output_tokens(self) -> Floats:
        """Answer length of each request."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TraceDemand:
    """What the windows of a trace ask for."""

    seconds: Floats
    """Length of each window: shape (windows,)."""
    requests: Floats
    """Requests that arrive in each: shape (windows,)."""
    work_rps: Floats
    """Their work, as typical requests a second of each pool: shape (windows, pools), in the service's order."""
    input_tokens: Floats
    """Mean prompt of each window; 0 where nobody asked: shape (windows,)."""
    output_tokens: Floats
    """Mean answer of each: shape (windows,)."""

    def peak_rps(self, service: Service, pool: str) -> float:
        """The busiest window, as typical requests a second of this pool: what a static fleet must carry."""
        return float(self.work_rps[:, [p.name for p in service.pools].index(pool)].max())


@dataclass(frozen=True, slots=True, eq=False)
class CheapestFleet:
    """The least cost, and the counts that have it."""

    usd: float
    counts: Mapping[str, Counts]
    """Serving instances of each pool in each window: shape (windows,)."""
    billed_seconds: Mapping[str, float]
    """Instance-seconds paid for in each pool, boot included."""
    short_windows: int
    """Windows whose demand is more than all pools at their maximum can carry: there the maximum stands."""
    exact: bool = True


def demand(service: Service, parts: Iterable[Stretch], profiles: Mapping[str, Profile] | None = None) -> TraceDemand:
    """The demand of requests, one window per stretch: `demand(service, trace.windows(WINDOW_SECONDS), profiles)`.

    `profiles` has each pool's serving profile; without it every request is a typical one. Raises ValueError for a pool
    without a profile.
    """
    rows = [
        (
            part.ends_seconds - part.starts_seconds,
            float(len(part.input_tokens)),
            part.input_tokens.sum(),
            part.output_tokens.sum(),
        )
        for part in parts
    ]
    seconds, requests, inputs, outputs = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    some = np.maximum(requests, 1.0)
    return demand_of_means(service, seconds, requests, inputs / some, outputs / some, profiles)


def demand_of_means(
    service: Service,
    seconds: Floats,
    requests: Floats,
    input_tokens: Floats | float,
    output_tokens: Floats | float,
    profiles: Mapping[str, Profile] | None = None,
) -> TraceDemand:
    """The demand of windows of which the counts and mean lengths are known.

    All arrays have shape (windows,). Raises ValueError for a window without length and a pool without a profile.
    """
    if (seconds <= 0).any():
        raise ValueError(f"seconds: every window must be longer than 0 (got {seconds.min()})")
    rate = requests / seconds
    columns: list[Floats] = []
    for pool in service.pools:
        if profiles is None:
            columns.append(rate)
            continue
        if pool.name not in profiles:
            raise ValueError(f"profiles: {pool.name} is missing")
        profile = profiles[pool.name]
        policy = service.policy
        typical = instance_capacity(profile, policy.request, policy.slo, LoadUnit.CONCURRENCY).throughput_rps
        here = full_rate_rps(profile, service.policy.slo, input_tokens, output_tokens)
        columns.append(np.where(requests > 0, rate * typical / here, 0.0))
    lengths = np.broadcast_to(input_tokens, rate.shape), np.broadcast_to(output_tokens, rate.shape)
    return TraceDemand(seconds, requests, np.stack(columns, axis=1), *lengths)


def full_rate_rps(
    profile: Profile, slo: Slo | None, input_tokens: Floats | float, output_tokens: Floats | float
) -> Floats:
    """Requests a second that one instance completes at the largest batch within the SLO:
    `gpu_fleet.scaling.profile.instance_capacity`, for many mixes of lengths at once. The batch is not rounded down to
    whole requests: over a minute its mean need not be whole, and rounding would put the bound above what can be done.

    In a steady state it depends on the mixture of lengths only by their means: with completions at rate r, a batch of b
    and mean lengths i and o, tokens come at r*o = b/tpot and prompts take r*p(i) of each second, so
    tpot = d(b) + b*p(i)/o whatever the mixture is.
    """
    inputs = np.asarray(input_tokens, dtype=np.float64)
    outputs = np.maximum(np.asarray(output_tokens, dtype=np.float64), 1.0)
    prefill = profile.prefill_base_seconds + inputs / profile.prefill_tokens_per_second
    batch = np.clip(profile.kv_cache_tokens / (inputs + outputs / 2), 1.0, float(profile.max_sequences))
    if slo is not None:
        per_sequence = profile.decode_seconds_per_sequence + prefill / outputs
        with np.errstate(divide="ignore"):
            fits = (slo.tpot_seconds - profile.decode_base_seconds) / per_sequence
        batch = np.where(per_sequence > 0, np.clip(fits, 1.0, batch), batch)
    step = profile.decode_base_seconds + batch * profile.decode_seconds_per_sequence
    return 1.0 / (outputs * step / batch + prefill)


def without_boot(
    service: Service, demand: TraceDemand, pools: Sequence[str] | None = None, may_fail: float = 0.0
) -> CheapestFleet:
    """The cheapest fleet if instances came at once and cost only while they serve.

    `pools` restricts it to these (default: all that reach the SLO; the others stay at their minimum); `may_fail` is the
    share of all requests that may be left out. Raises ValueError for an unknown pool and a share outside 0 to 1.
    """
    if not 0 <= may_fail < 1:
        raise ValueError(f"may_fail: must be 0 or more and below 1 (got {may_fail})")
    fleet = _fleet(service, demand, pools)
    counts = np.empty((len(fleet.work_rps), len(fleet.rungs)), dtype=np.int64)
    saved = 0.0
    spared: list[tuple[Floats, Floats]] = []
    for floor in np.unique(fleet.floor):
        windows = fleet.floor == floor
        ladder = _ladder(fleet.rungs, int(floor), fleet.work_rps.max(initial=0.0))
        choice = ladder.index(fleet.work_rps[windows])
        counts[windows] = ladder.counts[choice]
        if may_fail > 0:
            spared.append(
                _sparable(ladder, choice, fleet.work_rps[windows], demand.requests[windows], demand.seconds[windows])
            )
    if spared:
        usd, requests = (np.concatenate(column) for column in zip(*spared, strict=True))
        saved = _best_savings(usd, requests, may_fail * float(demand.requests.sum()))
    return _result(fleet, demand, counts, boot_seconds=dict.fromkeys((r.name for r in fleet.rungs), 0.0), saved=saved)


def with_boot(
    service: Service, demand: TraceDemand, boot_seconds: float | None = None, pools: Sequence[str] | None = None
) -> CheapestFleet:
    """The cheapest fleet whose instances are paid from their order, `boot_seconds` before they serve.

    `boot_seconds` holds for every pool (default: each pool's `lead_seconds`); `pools` as in `without_boot`. Raises
    ValueError for an unknown pool and a negative time.
    """
    if boot_seconds is not None and boot_seconds < 0:
        raise ValueError(f"boot_seconds: must not be negative (got {boot_seconds})")
    fleet = _fleet(service, demand, pools)
    lead = {p.name: p.lead_seconds if boot_seconds is None else boot_seconds for p in service.pools}
    free = [r for r in fleet.rungs if r.most > r.least]
    if len(free) <= 1 and all(r.rps > 0 for r in free):
        return _result(fleet, demand, _by_levels(fleet, demand, lead), lead)
    return _by_counts(fleet, demand, lead)


def cost_usd(
    service: Service, demand: TraceDemand, counts: Mapping[str, Counts], boot_seconds: float | Mapping[str, float]
) -> float:
    """What a schedule of serving instances costs: each second that they serve, and `boot_seconds` before each up-step.

    `counts` as in `CheapestFleet`. What stands in the first window was ordered before the trace: of an up-step at
    second t only min(t, boot) lies within it. Instances that leave are those that came last, which is cheapest.
    """
    lead = boot_seconds if isinstance(boot_seconds, Mapping) else dict.fromkeys(counts, boot_seconds)
    price = {pool.name: pool.usd_per_hour / 3600 for pool in service.pools}
    return sum(price[name] * _billed(demand, standing, lead[name]) for name, standing in counts.items())


@dataclass(frozen=True, slots=True)
class _Rung:
    """A pool as the bound sees it."""

    name: str
    rps: float
    usd_per_second: float
    least: int
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class _Fleet:
    rungs: tuple[_Rung, ...]
    work_rps: Floats
    """One figure per window: shape (windows,)."""
    floor: Counts
    """Instances over all pools, at least: shape (windows,)."""


def _fleet(service: Service, demand: TraceDemand, pools: Sequence[str] | None) -> _Fleet:
    names = [pool.name for pool in service.pools]
    for name in pools or ():
        if name not in names:
            raise ValueError(f"pools: must be among {', '.join(names)} (got {name})")
    able = [p.name for p in service.pools if p.reaches_slo and p.max_instances > 0] or names
    chosen = [name for name in names if name in (able if pools is None else pools)]
    if not chosen:
        raise ValueError("pools: at least one is needed")
    rungs = tuple(_rung(service, pool, serves=pool.name in chosen) for pool in service.pools)
    columns = [names.index(name) for name in chosen]
    work = demand.work_rps[:, columns].min(axis=1)
    floor = np.full(len(work), service.policy.availability.min_instances, dtype=np.int64)
    if service.policy.zero.idle_seconds is not None:
        floor[demand.requests == 0] = 0
    kept = tuple(rung for rung in rungs if rung.most > 0)
    return _Fleet(kept, work, np.minimum(floor, sum(rung.most for rung in kept)))


def _rung(service: Service, pool: Pool, *, serves: bool) -> _Rung:
    most = pool.max_instances
    if pool.quota in service.vcpu_quotas:
        most = min(most, service.vcpu_quotas[pool.quota] // pool.vcpus)
    most = max(most, pool.min_instances)
    usd = pool.usd_per_hour / 3600
    if serves:
        return _Rung(pool.name, pool.throughput_rps, usd, pool.min_instances, most)
    return _Rung(pool.name, 0.0, usd, pool.min_instances, pool.min_instances)


def _result(
    fleet: _Fleet, demand: TraceDemand, counts: Counts, boot_seconds: Mapping[str, float], *, saved: float = 0.0
) -> CheapestFleet:
    capacity = counts @ np.array([rung.rps for rung in fleet.rungs])
    billed = {r.name: _billed(demand, counts[:, i], boot_seconds[r.name]) for i, r in enumerate(fleet.rungs)}
    return CheapestFleet(
        usd=sum(rung.usd_per_second * billed[rung.name] for rung in fleet.rungs) - saved,
        counts={rung.name: counts[:, i] for i, rung in enumerate(fleet.rungs)},
        billed_seconds=billed,
        short_windows=int((capacity < fleet.work_rps * (1 - _EDGE)).sum()),
    )


def _starts(demand: TraceDemand) -> Floats:
    return np.concatenate(([0.0], np.cumsum(demand.seconds)[:-1]))


def _billed(demand: TraceDemand, standing: Counts, boot_seconds: float) -> float:
    ups = np.maximum(np.diff(standing, prepend=standing[:1]), 0)
    return float((standing * demand.seconds).sum() + (ups * np.minimum(_starts(demand), boot_seconds)).sum())


def _needed(work_rps: Floats, rps: float) -> Counts:
    return np.ceil(work_rps / rps * (1 - _EDGE)).astype(np.int64)


# Without boot: the cheapest mix for every size of demand.


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """All mixes worth having, by capacity: more capacity always costs more."""

    capacity: Floats
    usd_per_second: Floats
    counts: Counts

    def index(self, work_rps: Floats) -> Counts:
        """The cheapest mix that carries each; the largest where none does."""
        place = np.searchsorted(self.capacity, work_rps * (1 - _EDGE), side="left")
        return np.minimum(place, len(self.capacity) - 1)


def _ladder(rungs: Sequence[_Rung], floor: int, top_rps: float) -> _Ladder:
    """Pool by pool; of the mixes so far only those that none beats are kept, apart for each count up to the floor."""
    capacity, usd, counts = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
    for rung in rungs:
        size = _most_worth(rung, floor, top_rps)
        extra = np.arange(rung.least, size + 1)
        capacity = np.add.outer(capacity, extra * rung.rps).ravel()
        usd = np.add.outer(usd, extra * rung.usd_per_second).ravel()
        counts = np.concatenate((np.repeat(counts, len(extra), axis=0), np.tile(extra, len(counts))[:, None]), axis=1)
        counted = np.minimum(counts.sum(axis=1), floor)
        keep = np.concatenate([_undominated(capacity, usd, np.flatnonzero(counted == n)) for n in np.unique(counted)])
        capacity, usd, counts = capacity[keep], usd[keep], counts[keep]
    enough = np.flatnonzero(counts.sum(axis=1) >= floor)
    order = _undominated(capacity, usd, enough)[::-1]
    return _Ladder(capacity[order], usd[order], counts[order])


def _most_worth(rung: _Rung, floor: int, top_rps: float) -> int:
    """More of one pool than carry the peak alone, or make the floor alone, are never worth having."""
    for_peak = int(_needed(np.array([top_rps]), rung.rps)[0]) if rung.rps > 0 else 0
    return max(rung.least, min(rung.most, max(for_peak, floor)))


def _undominated(capacity: Floats, usd: Floats, among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those than which none has as much capacity for less; by falling capacity."""
    order = among[np.lexsort((usd[among], -capacity[among]))]
    cheapest_before = np.minimum.accumulate(np.concatenate(([np.inf], usd[order][:-1])))
    return order[usd[order] < cheapest_before * (1 - 1e-12)]


def _sparable(
    ladder: _Ladder, choice: Counts, work_rps: Floats, requests: Floats, seconds: Floats
) -> tuple[Floats, Floats]:
    """What leaving requests out saves: (dollars, requests) of each cut, the cuts of one window by falling yield.

    A window's cost as a function of the work that is served is a staircase; its lower hull is that of the ladder up to
    the window's own point. So the first cut goes from that point to the hull's vertex seen at the steepest slope, and
    the next ones along the ladder's own hull.
    """
    at = _hull(ladder.capacity, ladder.usd_per_second)
    capacity, usd = ladder.capacity[at], ladder.usd_per_second[at]
    busy = np.flatnonzero((requests > 0) & (work_rps > 0) & (ladder.capacity[choice] >= work_rps * (1 - _EDGE)))
    if len(busy) == 0:
        return np.empty(0), np.empty(0)
    work, cost = work_rps[busy], ladder.usd_per_second[choice[busy]]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (cost[:, None] - usd) / (work[:, None] - capacity)
    slope[capacity >= work[:, None]] = -np.inf
    to = slope.argmax(axis=1)
    able = slope[np.arange(len(busy)), to] > 0
    per_rps, length = requests[busy] / work, seconds[busy]
    first_usd = np.where(able, (cost - usd[to]) * length, 0.0)
    first_requests = np.where(able, (work - capacity[to]) * per_rps, 0.0)
    steps = np.arange(len(capacity) - 1)
    follows = (steps < to[:, None]) & able[:, None]
    rest_usd = np.multiply.outer(length, np.diff(usd))[follows]
    rest_requests = np.multiply.outer(per_rps, np.diff(capacity))[follows]
    return np.concatenate((first_usd, rest_usd)), np.concatenate((first_requests, rest_requests))


def _hull(x: Floats, y: Floats) -> list[int]:
    """Lower hull of points sorted by x, those on its edges included (each is a place to stop)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) <= (y[i] - y[a]) * (x[b] - x[a]) * (1 + 1e-12):
                break
            hull.pop()
        hull.append(i)
    return hull


def _best_savings(usd: Floats, requests: Floats, budget: float) -> float:
    """The most dollars for so many requests; the last cut in part."""
    worth = np.flatnonzero((usd > 0) & (requests > 0))
    order = worth[np.argsort(-usd[worth] / requests[worth], kind="stable")]
    spent = np.cumsum(requests[order])
    whole = int(np.searchsorted(spent, budget, side="right"))
    saved = float(usd[order[:whole]].sum())
    if whole < len(order):
        left = budget - (spent[whole - 1] if whole else 0.0)
        saved += float(usd[order[whole]] * left / requests[order[whole]])
    return saved


# With boot, one pool: each level is alone.


def _by_levels(fleet: _Fleet, demand: TraceDemand, lead: Mapping[str, float]) -> Counts:
    counts = np.empty((len(fleet.work_rps), len(fleet.rungs)), dtype=np.int64)
    held = [rung for rung in fleet.rungs if rung.most == rung.least]
    fixed = sum(rung.least for rung in held)
    left = np.maximum(fleet.work_rps - sum(rung.least * rung.rps for rung in held), 0.0)
    for i, rung in enumerate(fleet.rungs):
        needed = np.full(len(fleet.work_rps), rung.least)
        if rung.most > rung.least:
            needed = np.maximum(np.maximum(needed, _needed(left, rung.rps)), fleet.floor - fixed)
        counts[:, i] = _bridged(np.minimum(needed, rung.most), demand, lead[rung.name])
    return counts


def _bridged(needed: Counts, demand: TraceDemand, boot_seconds: float) -> Counts:
    """The counts with every gap filled that is no longer than a boot."""
    starts = _starts(demand)
    ends = starts + demand.seconds
    deltas = np.zeros(len(needed) + 1, dtype=np.int64)
    for level in range(int(needed.min()) + 1, int(needed.max()) + 1):
        on = np.flatnonzero(needed >= level)
        after, before = on[:-1], on[1:]
        short = (before - after > 1) & (starts[before] - ends[after] <= boot_seconds)
        np.add.at(deltas, after[short] + 1, 1)
        np.add.at(deltas, before[short], -1)
    return needed + np.cumsum(deltas[:-1])


# With boot, several pools: dynamic programming over their counts.


def _by_counts(fleet: _Fleet, demand: TraceDemand, lead: Mapping[str, float]) -> CheapestFleet:
    top = float(fleet.work_rps.max(initial=0.0))
    floor = int(fleet.floor.max(initial=0))
    high = [_most_worth(rung, floor, top) for rung in fleet.rungs]
    shape = [h - rung.least + 1 for h, rung in zip(high, fleet.rungs, strict=True)]
    runs = _runs(fleet)
    if math.prod(shape) * len(runs) > MOST_WORK:
        return _with_one_held(fleet, demand, lead)
    states = np.array(list(itertools.product(*(range(size) for size in shape))), dtype=np.int64)
    states += np.array([rung.least for rung in fleet.rungs])
    capacity = states.astype(np.float64) @ np.array([rung.rps for rung in fleet.rungs])
    starts = _starts(demand)
    edges = np.append(starts, starts[-1] + demand.seconds[-1])
    begins, ends = edges[runs], np.append(edges[runs[1:]], edges[-1])
    price = np.array([rung.usd_per_second for rung in fleet.rungs])
    boots = np.array([lead[rung.name] for rung in fleet.rungs])
    chosen = _cheapest_path(
        np.array(shape, dtype=np.int64),
        capacity,
        states.sum(axis=1),
        states.astype(np.float64) @ price,
        np.minimum(fleet.work_rps[runs] * (1 - _EDGE), capacity.max()),
        fleet.floor[runs],
        ends - begins,
        price * np.minimum(begins[:, None], boots),
    )
    repeats = np.diff(np.append(runs, len(fleet.work_rps)))
    return _result(fleet, demand, np.repeat(states[chosen], repeats, axis=0), lead)


def _runs(fleet: _Fleet) -> NDArray[np.intp]:
    """Where the demand changes: within a run of equal windows a best fleet need not change."""
    changes = (np.diff(fleet.work_rps) != 0) | (np.diff(fleet.floor) != 0)
    return np.flatnonzero(np.concatenate(([True], changes)))


def _with_one_held(fleet: _Fleet, demand: TraceDemand, lead: Mapping[str, float]) -> CheapestFleet:
    """Too many counts: the best of the fleets in which one pool more stays at its minimum."""
    found: list[CheapestFleet] = []
    for i, rung in enumerate(fleet.rungs):
        if rung.most == rung.least:
            continue
        held = (*fleet.rungs[:i], replace(rung, most=rung.least), *fleet.rungs[i + 1 :])
        smaller = replace(fleet, rungs=held, floor=np.minimum(fleet.floor, sum(r.most for r in held)))
        free = sum(r.most > r.least for r in held)
        if free == 0:
            continue
        found.append(
            _by_counts(smaller, demand, lead)
            if free > 1
            else _result(smaller, demand, _by_levels(smaller, demand, lead), lead)
        )
    return replace(min(found, key=lambda f: (f.short_windows, f.usd)), exact=False)


@numba.njit(cache=True)
def _relax(value: Floats, shape: Counts, up_usd: Floats) -> None:
    """In place: the least cost to be at each state after any change of counts. Down is free, up costs a boot each."""
    stride = value.size
    for axis in range(shape.size):
        size = shape[axis]
        block = stride
        stride = block // size
        for base in range(0, value.size, block):
            for k in range(size - 2, -1, -1):
                for i in range(base + k * stride, base + (k + 1) * stride):
                    value[i] = min(value[i], value[i + stride])
            for k in range(1, size):
                for i in range(base + k * stride, base + (k + 1) * stride):
                    value[i] = min(value[i], value[i - stride] + up_usd[axis])


@numba.njit(cache=True)
def _stay(
    value: Floats, capacity: Floats, total: Counts, usd_per_second: Floats, work: float, floor: int, seconds: float
) -> None:
    """In place: add what each state costs during a run; no state that does not carry it."""
    for i in range(value.size):
        if capacity[i] < work or total[i] < floor:
            value[i] = np.inf
        else:
            value[i] += usd_per_second[i] * seconds


@numba.njit(cache=True)
def _cheapest_path(
    shape: Counts,
    capacity: Floats,
    total: Counts,
    usd_per_second: Floats,
    work: Floats,
    floor: Counts,
    seconds: Floats,
    up_usd: Floats,
) -> Counts:
    """The state in each run on the cheapest way through all of them.

    Values are kept at every root of the number of runs only, and computed again block by block on the way back, so that
    memory is states times that root.
    """
    runs, states = work.size, capacity.size
    step = max(1, int(np.sqrt(runs)))
    kept = np.empty(((runs + step - 1) // step, states))
    value = np.zeros(states)
    for r in range(runs):
        if r > 0:
            _relax(value, shape, up_usd[r])
        _stay(value, capacity, total, usd_per_second, work[r], floor[r], seconds[r])
        if r % step == 0:
            kept[r // step] = value
    path = np.empty(runs, dtype=np.int64)
    state = int(np.argmin(value))
    path[runs - 1] = state
    block = np.empty((step, states))
    coordinates = np.empty(shape.size, dtype=np.int64)
    for b in range(kept.shape[0] - 1, -1, -1):
        first, last = b * step, min(runs, (b + 1) * step)
        block[0] = kept[b]
        for r in range(first + 1, last):
            block[r - first] = block[r - first - 1]
            _relax(block[r - first], shape, up_usd[r])
            _stay(block[r - first], capacity, total, usd_per_second, work[r], floor[r], seconds[r])
        for r in range(min(last, runs - 1), first, -1):
            # From run r - 1 (values in the block) to `state` in run r: down is free, up is paid.
            state = _before(block[r - 1 - first], shape, up_usd[r], state, coordinates)
            path[r - 1] = state
    return path


@numba.njit(cache=True)
def _before(value: Floats, shape: Counts, up_usd: Floats, state: int, coordinates: Counts) -> int:
    """The state of the run before from which `state` is reached at least cost."""
    rest = state
    for axis in range(shape.size - 1, -1, -1):
        coordinates[axis] = rest % shape[axis]
        rest //= shape[axis]
    best, least = state, np.inf
    for i in range(value.size):
        if value[i] >= least:
            continue
        cost, rest = value[i], i
        for axis in range(shape.size - 1, -1, -1):
            up = coordinates[axis] - rest % shape[axis]
            rest //= shape[axis]
            if up > 0:
                cost += up * up_usd[axis]
        if cost < least:
            best, least = i, cost
    return best
