"""Training: instances follow the job queue. A busy node is never taken; an idle one is kept for a while, then leaves.

A job takes a place for as long as it runs; an instance has `training.jobs_per_instance` of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpu_fleet.scaling import capacity_errors, mix
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import PoolTarget, Reason
from gpu_fleet.scaling.missing import ALIVE, Missing, missing, unfilled
from gpu_fleet.scaling.observation import Instance, JobQueue, Phase, PoolObservation
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.purchase import spot_leaves_next
from gpu_fleet.scaling.reasons import training as reasons
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import TrainingMemory

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class TrainingDecision:
    """The counts to have, why, and what to remember."""

    targets: Mapping[str, PoolTarget]
    reasons: tuple[Reason, ...]
    memory: TrainingMemory
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Places:
    """Places for waiting jobs that need no further instance."""

    free: int
    """On ready instances, and trusted to be taken."""
    soon: int
    """Held by jobs that end within `protect_remaining_seconds`."""
    coming: int
    """On instances that boot or are ordered."""
    all: int
    """Of ready instances, free or not."""

    @property
    def near(self) -> int:
        """Those that a waiting job gets before long."""
        return self.free + self.soon + self.coming


@dataclass(frozen=True, slots=True)
class _PoolView:
    """One pool: what stands, what comes, and what is lost."""

    pool: Pool
    seen: PoolObservation
    missing: Missing
    blocked: bool
    """Its group cannot launch now."""
    correction: float

    @property
    def name(self) -> str:
        return self.pool.name

    @property
    def lost(self) -> int:
        """Instances of the desired count that carry nothing."""
        return min(self.missing.count, self.seen.desired)

    @property
    def standing(self) -> int:
        """Instances that serve or will."""
        return max(0, self.seen.desired - self.lost - self.vain)

    @property
    def unfilled(self) -> int:
        """Orders without an instance."""
        return unfilled(self.seen)

    @property
    def vain(self) -> int:
        """Orders that the group cannot fill now."""
        return self.unfilled if self.blocked else 0

    @property
    def least(self) -> int:
        return max(self.pool.min_instances, self.seen.min_size)

    @property
    def most(self) -> int:
        return min(self.pool.max_instances, self.seen.max_size)


@dataclass(frozen=True, slots=True)
class _Queue:
    """The waiting jobs, the places for them, and since when each idle instance has been so."""

    policy: Policy
    jobs: JobQueue
    places: _Places
    idle: Mapping[str, float]
    now: float

    def distrusted(self, instance: Instance) -> bool:
        """Whether it was idle all the while a job waited too long: it does not take jobs."""
        return _distrusted(self.policy, instance, self.idle, self.jobs, self.now)


@dataclass(slots=True)
class _Leaving:
    """Who leaves, chosen one by one, and the room that is left for more."""

    alive: int
    """Instances that serve or will, counted down to the floor."""
    left: dict[str, int]
    """Desired count of each pool."""
    room: dict[str, int]
    """Instances that may still leave each pool in this run."""
    takes: dict[str, list[str]] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    """Idle instances that stay."""

    def drop(self, name: str, count: int) -> None:
        self.drops[name] = count
        self.left[name] -= count
        self.room[name] -= count

    def take(self, name: str, id_: str) -> None:
        self.takes[name].append(id_)
        self.left[name] -= 1
        self.room[name] -= 1


def decide_training(context: Context) -> TrainingDecision:
    """Decide the counts of a training service.

    Waiting jobs go to free places first, then to those whose jobs end within `protect_remaining_seconds`, then to
    instances that boot. For the rest instances are started as soon as they would wait longer than
    `start_within_seconds`: when the oldest job has, when no place can ever become free, or when the queue does not
    drain in time at places / `mean_job_seconds`. Idle instances leave after `idle_seconds`, the longest idle first,
    down to zero where the pools' minimum allows; `availability.min_instances` stay while there are jobs. Busy
    instances, and those whose jobs are not known, are protected. Without a reading of the queue nothing changes.
    """
    policy, jobs = context.policy, context.seen.jobs
    views = [
        _PoolView(
            pool,
            view,
            missing(policy.horizontal, view, context.now),
            capacity_errors.blocked(pool, view, context.state.pool(pool.name), context.now),
            context.correction(pool),
        )
        for pool, view in context.pools()
    ]
    memory = TrainingMemory(_idle_since(views, context))
    if jobs is None:
        targets = {
            view.name: _target(context, view, max(view.seen.desired, min(view.least, view.most))) for view in views
        }
        return TrainingDecision(targets, (reasons.no_queue(),), memory, held=True)
    places = _places(views, policy, memory.idle_nodes, jobs, context.now)
    queue = _Queue(policy, jobs, places, memory.idle_nodes, context.now)
    needed, why_needed = _needed(queue)
    awake = jobs.waiting > 0 or any(_busy(i) for view in views for i in view.seen.instances)
    floor = policy.availability.min_instances if awake else 0
    counts, growth = _grown(context, views, needed, why_needed, floor)
    steady = [view for view in views if counts[view.name] <= view.standing]
    leaving = _leaving(queue, steady, floor, needed)
    targets = {
        view.name: _target(context, view, view.seen.desired - len(takes) - leaving.drops[view.name], tuple(takes))
        if (takes := leaving.takes.get(view.name)) is not None
        else _target(context, view, counts[view.name] + view.lost)
        for view in views
    }
    why = [
        reasons.queue(jobs, places.free, places.soon, places.coming),
        *growth,
        *_why_leaving(queue, leaving),
        *_why_protected(views),
    ]
    return TrainingDecision(targets, tuple(why), memory)


def _busy(instance: Instance) -> bool:
    """Whether it runs jobs, or may: such an instance is never taken."""
    if instance.phase is Phase.DRAINING:
        return False
    if instance.phase is Phase.STARTING:
        return bool(instance.jobs)
    return instance.jobs is None or instance.jobs > 0


def _idle_since(views: Sequence[_PoolView], context: Context) -> dict[str, float]:
    """Since when each ready instance without a job has been so; a lost state starts the count anew."""
    before, now = context.state.training.idle_nodes, context.now
    return {
        i.id: min(now, before.get(i.id, now))
        for view in views
        for i in view.seen.instances
        if i.phase is Phase.READY and i.jobs == 0
    }


def _places(
    views: Sequence[_PoolView], policy: Policy, idle: Mapping[str, float], jobs: JobQueue, now: float
) -> _Places:
    """Count the places; those of a distrusted instance do not count as free."""
    each = policy.training.jobs_per_instance
    free = soon = coming = everything = 0
    for view in views:
        starting = len(view.seen.those(Phase.STARTING)) - len(view.missing.stuck)
        coming += each * (starting + view.unfilled - view.vain)
        for i in view.seen.instances:
            if i.phase is not Phase.READY:
                continue
            everything += each
            if i.jobs is None or _distrusted(policy, i, idle, jobs, now):
                continue
            free += max(0, each - i.jobs)
            if i.remaining_seconds is not None and i.remaining_seconds <= policy.training.protect_remaining_seconds:
                soon += min(i.jobs, each)
    return _Places(free, soon, coming, everything)


def _distrusted(policy: Policy, instance: Instance, idle: Mapping[str, float], jobs: JobQueue, now: float) -> bool:
    patience = policy.training.start_within_seconds
    waited = jobs.waiting > 0 and jobs.oldest_seconds >= patience
    return waited and instance.id in idle and now - idle[instance.id] >= patience


def _needed(queue: _Queue) -> tuple[int, str]:
    """Instances to start, and why.

    Worked: 10 jobs wait, 2 of 4 places become free soon, jobs take 1200 s, 600 s are allowed and the oldest has waited
    300: 8 are left, the other 2 places free themselves 2 * 300 / 1200 = 0.5 times in time, so at one job an instance
    8 are started.
    """
    jobs, places, settings = queue.jobs, queue.places, queue.policy.training
    left = jobs.waiting - places.near
    if left <= 0:
        return 0, ""
    allowed = settings.start_within_seconds
    rest = allowed - jobs.oldest_seconds
    drained = 0.0
    if places.all + places.coming == 0:
        why = reasons.NO_PLACE
    elif rest <= 0:
        why = reasons.waited_too_long(jobs.oldest_seconds, allowed)
    elif jobs.mean_job_seconds is None:
        return 0, ""  # how long the wait will be is not known before it is too long
    else:
        drained = max(0, places.all - places.soon) * rest / max(1.0, jobs.mean_job_seconds)
        why = reasons.would_wait_too_long(max(0.0, left - drained), allowed)
    return max(0, math.ceil((left - drained) / settings.jobs_per_instance - ROUNDING)), why


def _grown(
    context: Context, views: Sequence[_PoolView], needed: int, why: str, floor: int
) -> tuple[Mapping[str, int], list[Reason]]:
    """Add what is needed to what stands, where a job costs least: USD per hour over work per hour."""
    quotas = context.service.vcpu_quotas
    options = [_option(context, view) for view in views]
    before = {view.name: view.standing for view in views}
    want = sum(before.values()) + needed
    counts = mix.cheapest(options, want, quotas, floor)
    short = counts is None
    if counts is None:
        want = max(want, floor)
        counts = mix.largest(options, quotas)
        if sum(counts.values()) > want:  # the floor alone did not fit; without it the need does
            counts = mix.cheapest(options, want, quotas) or counts
    started = {name: count - before[name] for name, count in counts.items() if count > before[name]}
    growth = [reasons.start(started, needed, why)] if started else []
    if short:
        growth.append(reasons.short(started, needed))
    return counts, growth


def _option(context: Context, view: _PoolView) -> mix.PoolOption:
    pool = view.pool
    most = min(view.most - view.lost, view.standing + context.policy.horizontal.max_step_out)
    if view.blocked:
        most = view.standing
    least = max(view.standing, min(view.least, most))
    price = pool.usd_per_hour / (pool.throughput_rps * view.correction)
    return mix.PoolOption(pool.name, 1.0, price, least, max(most, least), pool.vcpus, pool.quota)


def _leaving(queue: _Queue, views: Sequence[_PoolView], floor: int, needed: int) -> _Leaving:
    """Choose who leaves: boots that never end; and, where nothing is needed, orders that nobody waits for and the
    longest idle that no waiting job needs.
    """
    step = queue.policy.horizontal.max_step_in
    leaving = _Leaving(
        alive=sum(view.standing for view in views),
        left={view.name: view.seen.desired for view in views},
        room={view.name: step for view in views},
        takes={view.name: [] for view in views},
        drops={view.name: 0 for view in views},
    )
    _cancel_orders(queue, views, leaving, floor, needed)
    _take_idle(queue, views, leaving, floor, needed)
    return leaving


def _cancel_orders(queue: _Queue, views: Sequence[_PoolView], leaving: _Leaving, floor: int, needed: int) -> None:
    """Cancel orders that cannot be filled or that no job needs, and take boots that never end."""
    jobs, places = queue.jobs, queue.places
    each = queue.policy.training.jobs_per_instance
    surplus = max(0, places.coming - max(0, jobs.waiting - places.free - places.soon)) // each
    for view in views:
        name = view.name
        cancel = 0 if needed else min(surplus, view.unfilled - view.vain, max(0, leaving.alive - floor))
        spare = max(0, leaving.left[name] - view.least)
        leaving.drop(name, min(view.vain + cancel, leaving.room[name], spare))
        # Of the orders, those that may still come; the others never counted.
        cancelled = max(0, leaving.drops[name] - view.vain)
        surplus -= cancelled
        leaving.alive -= cancelled
        working = {i.id for i in view.seen.instances if _busy(i)}
        stuck = [i for i in view.missing.stuck if i not in working]
        for id_ in stuck[: max(0, min(leaving.room[name], leaving.left[name] - view.least))]:
            leaving.take(name, id_)


def _take_idle(queue: _Queue, views: Sequence[_PoolView], leaving: _Leaving, floor: int, needed: int) -> None:
    """Take the longest idle that no waiting job needs, after their idle time or above the pool's maximum.

    On-demand and spot instances leave as the group has too much of them: it would launch its base anew.
    """
    settings = queue.policy.training
    each = settings.jobs_per_instance
    by_age = sorted(
        ((queue.idle[i.id], i, view) for view in views for i in view.seen.instances if i.id in queue.idle),
        key=lambda found: (found[0], found[1].id),
    )
    # Free places of busy instances serve waiting jobs too; idle instances are kept for the rest.
    trusted = sum(1 for _, i, _ in by_age if not queue.distrusted(i))
    waiting = max(0, queue.jobs.waiting - (queue.places.free - each * trusted))
    spare = 0 if needed else len(by_age) - min(trusted, math.ceil(waiting / each))

    def may_go(since: float, instance: Instance, view: _PoolView) -> bool:
        name = view.name
        due = leaving.left[name] > view.most or queue.now - since >= settings.idle_seconds
        free = leaving.left[name] > view.least and leaving.alive > floor and leaving.room[name] > 0
        standing = [i.spot for i in view.seen.those(*ALIVE) if i.id not in leaving.takes[name]]
        spot = sum(standing)
        return due and free and instance.spot is spot_leaves_next(view.pool, len(standing) - spot, spot)

    while spare > 0 and (one := next((one for one in by_age if may_go(*one)), None)):
        by_age.remove(one)
        leaving.take(one[2].name, one[1].id)
        leaving.alive -= 1
        spare -= 1
    leaving.kept += len(by_age)


def _why_leaving(queue: _Queue, leaving: _Leaving) -> list[Reason]:
    why = [
        reasons.take(name, {i: queue.now - queue.idle[i] if i in queue.idle else None for i in ids})
        for name, ids in leaving.takes.items()
        if ids
    ]
    dropped = sum(leaving.drops.values())
    if dropped:
        why.append(reasons.drop(dropped))
    if leaving.kept:
        why.append(reasons.idle(leaving.kept, queue.policy.training.idle_seconds))
    return why


def _why_protected(views: Sequence[_PoolView]) -> list[Reason]:
    busy = sum(1 for view in views for i in view.seen.instances if _busy(i))
    return [reasons.busy(busy)] if busy else []


def _target(context: Context, view: _PoolView, desired: int, take: tuple[str, ...] = ()) -> PoolTarget:
    base = capacity_errors.changed_base(context, view.pool, desired, take)
    protect = tuple(i.id for i in view.seen.instances if _busy(i))
    return PoolTarget(desired=desired, weight=view.seen.weight, take=take, on_demand_base=base, protect=protect)
