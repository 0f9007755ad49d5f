"""Training: instances follow the job queue. A busy node is never taken, an idle one is kept for a while, then goes.

A job takes a place for as long as it runs; an instance has `training.jobs_per_instance` of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling import capacity_errors, guard, learning, mix
from gpu_fleet.scaling.decision import PoolTarget, Reason, Step
from gpu_fleet.scaling.observation import Instance, JobQueue, Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import PoolState, State


@dataclass(frozen=True, slots=True)
class TrainingDecision:
    """The counts to have, with the reasons and what to remember."""

    targets: Mapping[str, PoolTarget]
    reasons: tuple[Reason, ...]
    state: State
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Places:
    """Where waiting jobs can go without an instance more."""

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
    """One pool with what of it stands, comes and is lost."""

    pool: Pool
    seen: PoolObservation
    remembered: PoolState
    gone: guard.Gone

    @property
    def lost(self) -> int:
        """Instances of the desired count that carry nothing."""
        return min(self.gone.count, self.seen.desired)

    @property
    def standing(self) -> int:
        """Instances that serve or will."""
        return self.seen.desired - self.lost

    @property
    def not_there(self) -> int:
        """Ordered, and not begun."""
        alive = sum(1 for i in self.seen.instances if i.phase is not Phase.DRAINING)
        return max(0, self.seen.desired - alive)

    @property
    def least(self) -> int:
        return max(self.pool.min_instances, self.seen.min_size)

    @property
    def most(self) -> int:
        return min(self.pool.max_instances, self.seen.max_size)


def decide_training(service: Service, seen: Observation, state: State, now: float) -> TrainingDecision:
    """Decide the counts of a training service; `now` in seconds since the epoch.

    Waiting jobs go to free places first, then to those whose jobs end within `protect_remaining_seconds`, then to
    instances that boot. For the rest instances are started as soon as they would wait longer than
    `start_within_seconds`: when the oldest job has, when no place can ever become free, or when the queue does not
    drain in time at places / `mean_job_seconds`. Idle instances go after `idle_seconds`, the longest idle first, down
    to zero where the pools' minimum allows; `availability.min_instances` is kept while there are jobs. Busy
    instances, and those whose jobs are not known, are protected. Without a reading of the queue nothing changes.
    """
    policy = service.policy
    views = [
        _PoolView(
            pool,
            seen.pools[pool.name],
            remembered := state.pools.get(pool.name, PoolState()),
            guard.gone(policy.horizontal, seen.pools[pool.name], remembered.short, now),
        )
        for pool in service.pools
    ]
    state = replace(state, idle_nodes=_idle_since(views, state, now))
    if seen.jobs is None:
        text = "The job queue was not seen: counts are held."
        targets = {
            view.pool.name: _target(view, max(view.seen.desired, min(view.least, view.most)), state, now)
            for view in views
        }
        return TrainingDecision(targets, (Reason(Step.DEMAND, "training.no_queue", text),), state, held=True)
    places = _places(views, policy, state.idle_nodes, seen.jobs, now)
    reasons = [_say_queue(seen.jobs, places)]
    needed, why = _needed(policy, seen.jobs, places)
    awake = seen.jobs.waiting > 0 or any(_busy(i) for view in views for i in view.seen.instances)
    floor = policy.availability.min_instances if awake else 0
    counts, said = _grown(service, views, needed, why, floor, now)
    reasons += said
    steady = [view for view in views if counts[view.pool.name] <= view.standing]
    takes, drops, kept = _leaving(policy, steady, seen.jobs, places, state.idle_nodes, floor, now, needed=needed)
    reasons += _say_leaving(policy, takes, drops, kept, state.idle_nodes, now)
    targets = {
        view.pool.name: _target(view, counts[view.pool.name] + view.lost, state, now)
        if view not in steady
        else _target(
            view,
            view.seen.desired - len(takes[view.pool.name]) - drops[view.pool.name],
            state,
            now,
            takes[view.pool.name],
        )
        for view in views
    }
    reasons += _say_protected(views)
    return TrainingDecision(targets, tuple(reasons), state)


def _busy(instance: Instance) -> bool:
    """Runs jobs, or may: such an instance is never taken."""
    if instance.phase is Phase.DRAINING:
        return False
    if instance.phase is Phase.STARTING:
        return bool(instance.jobs)
    return instance.jobs is None or instance.jobs > 0


def _idle_since(views: Sequence[_PoolView], state: State, now: float) -> dict[str, float]:
    """Since when each ready instance without a job has been so; a lost state starts the count anew."""
    return {
        i.id: min(now, state.idle_nodes.get(i.id, now))
        for view in views
        for i in view.seen.instances
        if i.phase is Phase.READY and i.jobs == 0
    }


def _places(
    views: Sequence[_PoolView], policy: Policy, idle: Mapping[str, float], jobs: JobQueue, now: float
) -> _Places:
    """Count them. An instance that was idle all the while a job waited too long does not take jobs: not trusted."""
    each = policy.training.jobs_per_instance
    patience = policy.training.start_within_seconds
    free = soon = coming = everything = 0
    for view in views:
        starting = sum(1 for i in view.seen.instances if i.phase is Phase.STARTING) - len(view.gone.stuck)
        coming += each * (starting + view.not_there - view.gone.missing)
        for i in view.seen.instances:
            if i.phase is not Phase.READY:
                continue
            everything += each
            if i.jobs is None or _distrusted(i, idle, jobs, patience, now):
                continue
            free += max(0, each - i.jobs)
            if i.remaining_seconds is not None and i.remaining_seconds <= policy.training.protect_remaining_seconds:
                soon += min(i.jobs, each)
    return _Places(free, soon, coming, everything)


def _distrusted(instance: Instance, idle: Mapping[str, float], jobs: JobQueue, patience: float, now: float) -> bool:
    waited = jobs.waiting > 0 and jobs.oldest_seconds >= patience
    return waited and instance.id in idle and now - idle[instance.id] >= patience


def _needed(policy: Policy, jobs: JobQueue, places: _Places) -> tuple[int, str]:
    """Instances to start, and why.

    Worked: 10 jobs wait, 2 of 4 places become free soon, jobs take 1200 s, 600 s are allowed and the oldest has waited
    300: 8 are left, the other 2 places free themselves 2 * 300 / 1200 = 0.5 times in time, so at one job an instance
    8 are started.
    """
    left = jobs.waiting - places.near
    if left <= 0:
        return 0, ""
    allowed = policy.training.start_within_seconds
    rest = allowed - jobs.oldest_seconds
    if places.all + places.coming == 0:
        why = "no place is there or comes"
        drained = 0.0
    elif rest <= 0:
        why = f"the oldest has waited {jobs.oldest_seconds:.0f} s, longer than {allowed:.0f} s"
        drained = 0.0
    elif jobs.mean_job_seconds is None:
        return 0, ""  # how long the wait will be is not known before it is too long
    else:
        drained = max(0, places.all - places.soon) * rest / max(1.0, jobs.mean_job_seconds)
        why = f"{max(0.0, left - drained):.1f} jobs would wait longer than {allowed:.0f} s"
    return max(0, math.ceil((left - drained) / policy.training.jobs_per_instance - 1e-9)), why


def _grown(
    service: Service, views: Sequence[_PoolView], needed: int, why: str, floor: int, now: float
) -> tuple[Mapping[str, int], list[Reason]]:
    """What stands, with what is needed on top, where a job costs least: USD per hour over work per hour."""
    policy = service.policy
    options = []
    for view in views:
        pool = view.pool
        alive = sum(1 for i in view.seen.instances if i.phase in {Phase.READY, Phase.STARTING})
        most = min(view.most - view.lost, view.standing + policy.horizontal.max_step_out)
        if capacity_errors.blocked(pool, view.remembered, now, spot=pool.spot_percent >= 100):
            most = min(most, alive - len(view.gone.stuck))
        least = max(view.standing, min(view.least, most))
        price = pool.usd_per_hour / (pool.throughput_rps * view.remembered.correction)
        options.append(mix.PoolOption(pool.name, 1.0, price, least, max(most, least), pool.vcpus, pool.quota))
    before = {view.pool.name: view.standing for view in views}
    want = sum(before.values()) + needed
    counts = mix.cheapest(options, want, service.vcpu_quotas, floor)
    short = counts is None
    if counts is None:
        want = max(want, floor)
        counts = mix.largest(options, service.vcpu_quotas)
        if sum(counts.values()) > want:  # the floor alone did not fit; without it the need does
            counts = mix.cheapest(options, want, service.vcpu_quotas) or counts
    started = {name: count - before[name] for name, count in counts.items() if count > before[name]}
    numbers = {"needed": float(needed), "started": float(sum(started.values()))}
    reasons = []
    if started:
        named = " + ".join(f"{count} {name}" for name, count in started.items())
        text = f"Starts {named}: {why or 'the minimum is not there'}."
        reasons.append(Reason(Step.MIX, "training.start", text, numbers))
    if short:
        text = f"{needed} instances are needed and bounds, quotas or capacity errors allow {sum(started.values())}."
        reasons.append(Reason(Step.MIX, "training.short", text, numbers))
    return counts, reasons


def _leaving(
    policy: Policy,
    views: Sequence[_PoolView],
    jobs: JobQueue,
    places: _Places,
    idle: Mapping[str, float],
    floor: int,
    now: float,
    *,
    needed: int,
) -> tuple[dict[str, tuple[str, ...]], dict[str, int], int]:
    """Who leaves, by pool: boots that never end; and, where nothing is needed, orders that nobody waits for and the
    longest idle that no waiting job needs. With the number of idle ones that stay.
    """
    settings = policy.training
    each = settings.jobs_per_instance
    left = {view.pool.name: view.seen.desired for view in views}
    room = {view.pool.name: policy.horizontal.max_step_in for view in views}
    takes: dict[str, list[str]] = {view.pool.name: [] for view in views}
    drops = dict.fromkeys(takes, 0)
    # Instances that serve or will, counted down to the floor.
    alive = sum(view.standing for view in views)
    surplus = max(0, places.coming - max(0, jobs.waiting - places.free - places.soon)) // each
    for view in views:
        name = view.pool.name
        fresh = view.not_there - view.gone.missing
        cancel = min(surplus, fresh, max(0, alive - floor))
        if not needed:
            drops[name] = min(view.gone.missing + cancel, room[name], max(0, left[name] - view.least))
        cancelled = max(0, drops[name] - view.gone.missing)  # orders that may still come; the missing never stood
        surplus -= cancelled
        alive -= cancelled
        left[name] -= drops[name]
        room[name] -= drops[name]
        working = {i.id for i in view.seen.instances if _busy(i)}
        stuck_idle = [i for i in view.gone.stuck if i not in working]
        for stuck in stuck_idle[: max(0, min(room[name], left[name] - view.least))]:
            takes[name].append(stuck)
            left[name] -= 1
            room[name] -= 1
    by_age = sorted(
        ((idle[i.id], i, view) for view in views for i in view.seen.instances if i.id in idle),
        key=lambda found: (found[0], found[1].id),
    )
    # Free places of busy instances serve waiting jobs too; what they do not serve keeps idle ones.
    patience = settings.start_within_seconds
    trusted = sum(1 for _, i, _ in by_age if not _distrusted(i, idle, jobs, patience, now))
    wanted = max(0, jobs.waiting - (places.free - each * trusted))
    spare = 0 if needed else len(by_age) - min(trusted, math.ceil(wanted / each))
    kept = 0
    for since, instance, view in by_age:
        name = view.pool.name
        over = left[name] > view.most
        if spare <= 0 or not (over or now - since >= settings.idle_seconds):
            kept += 1
            continue
        if left[name] <= view.least or alive <= floor or room[name] <= 0:
            kept += 1
            continue
        takes[name].append(instance.id)
        left[name] -= 1
        room[name] -= 1
        alive -= 1
        spare -= 1
    return {name: tuple(ids) for name, ids in takes.items()}, drops, kept


def _say_leaving(
    policy: Policy,
    takes: Mapping[str, Sequence[str]],
    drops: Mapping[str, int],
    kept: int,
    idle: Mapping[str, float],
    now: float,
) -> list[Reason]:
    reasons = []
    for name, ids in takes.items():
        gone = [f"{i} (idle for {now - idle[i]:.0f} s)" if i in idle else f"{i} (never ready)" for i in ids]
        if gone:
            text = f"{name}: {', '.join(gone)} leave."
            reasons.append(Reason(Step.GUARD, "training.take", text, {"taken": float(len(gone))}))
    dropped = sum(drops.values())
    if dropped:
        text = f"{dropped} ordered instances that are not there are no longer waited for."
        reasons.append(Reason(Step.GUARD, "training.drop", text, {"dropped": float(dropped)}))
    if kept:
        text = (
            f"{kept} idle instances stay: for {policy.training.idle_seconds:.0f} s, for waiting jobs or as the minimum."
        )
        reasons.append(Reason(Step.GUARD, "training.idle", text, {"idle": float(kept)}))
    return reasons


def _say_queue(jobs: JobQueue, places: _Places) -> Reason:
    text = (
        f"{jobs.waiting} jobs wait, the oldest for {jobs.oldest_seconds:.0f} s; {places.free} places are free,"
        f" {places.soon} will be soon, {places.coming} come with instances that start."
    )
    numbers = {
        "waiting": float(jobs.waiting),
        "oldest_seconds": jobs.oldest_seconds,
        "free": float(places.free),
        "soon": float(places.soon),
        "coming": float(places.coming),
    }
    return Reason(Step.DEMAND, "training.queue", text, numbers)


def _say_protected(views: Sequence[_PoolView]) -> list[Reason]:
    busy = sum(1 for view in views for i in view.seen.instances if _busy(i))
    if not busy:
        return []
    text = f"{busy} instances run jobs, or may, and are protected."
    return [Reason(Step.GUARD, "training.busy", text, {"busy": float(busy)})]


def _target(view: _PoolView, desired: int, state: State, now: float, take: tuple[str, ...] = ()) -> PoolTarget:
    base = None
    if view.pool.spot_percent > 0:
        lead = learning.lead_seconds(view.pool, state)
        base = capacity_errors.on_demand_base(view.pool, view.seen, view.remembered, lead, now)
        base = base if base != view.seen.on_demand_base else None
    protect = tuple(i.id for i in view.seen.instances if _busy(i))
    return PoolTarget(desired=desired, weight=view.seen.weight, take=take, on_demand_base=base, protect=protect)
