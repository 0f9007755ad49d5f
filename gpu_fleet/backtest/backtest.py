"""A policy, or a rival, against a trace in the simulator: what it costs and how many requests keep to the SLO.

Four things in a row:

- `setting`: a service with its pools and their serving profiles, from a policy and a stack's file;
- `stretched`: a trace at the height that is wanted, in instances or by a factor;
- `scenario`: the trace at one seed and one boot time, with what it demands and the clairvoyant fleet's cost;
- `run`: one contender in it, from a warm start that is the same for all.

Everything here can be pickled, so that runs may be spread over processes and machines (`gpu_fleet.backtest.workers`).
A scenario carries the trace as it was read; single requests are scaled, and requests of rates drawn, where the run is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest import bound, roster
from gpu_fleet.backtest.contender import Contender
from gpu_fleet.backtest.ours import Ours
from gpu_fleet.backtest.rivals.static_peak import StaticPeak, instances_for
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library
from gpu_fleet.config.policy_files import policy_library
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.scaling import mix
from gpu_fleet.scaling.decision import Decision, PoolTarget
from gpu_fleet.scaling.fleet import counted_share
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.policy import Policy, Request, Workload
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.request_mix import at_request
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator import drive
from gpu_fleet.simulator.simulated_fleet import BootTime, MachineModel
from gpu_fleet.simulator.world import World, WorldOptions
from gpu_fleet.traffic import RateTrace, Trace, crop, peak_rps, scale_to

PEAK_INSTANCES = 24.0
"""How high a trace is made when nobody says: its busiest minute needs so many instances of the middle pool."""
BOOT_SECONDS = 300.0
ATTAINMENT = 0.995
"""What is asked of a policy without an SLO of its own."""
ROOM = 4.0
"""A pool may hold so many times the instances that the peak needs: nobody is to fail for want of a maximum, and a
rule that overshoots is to show by how much."""
WARM_SECONDS = 300.0
WARM_ROOM = 1.2
WARM_FILL = 0.9
"""The fleet at the start carries 1.2 times the work of the first five minutes, a rival's with 90 % of its capacity."""
BUSY_SHARE = 0.7
"""Steps below this share of a trace's highest cannot hold its busiest minute."""
SLACK = 0.005
"""How far a result may pass what cannot be passed: work that is carried over the trace's ends."""


class ImpossibleError(AssertionError):
    """A result that is better than any fleet can be: the harness itself is wrong."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is held against traces: a service, how fast its pools' instances serve, and what was changed to run it."""

    policy_name: str
    service: Service
    profiles: Mapping[str, Profile]
    """By pool: of the slowest type, all copies of an instance together."""
    gpus: Mapping[str, int]
    """GPUs of one instance, by pool."""
    notes: tuple[str, ...] = ()

    @property
    def attainment(self) -> float:
        """Share of requests that must keep to the SLO."""
        slo = self.service.policy.slo
        return slo.attainment if slo else ATTAINMENT

    @property
    def middle(self) -> Pool:
        """The pool in the middle by throughput (of an even number the greater): l40s of l4, l40s and h100."""
        able = [p for p in self.service.pools if p.reaches_slo] or list(self.service.pools)
        return sorted(able, key=lambda pool: pool.throughput_rps)[len(able) // 2]

    def with_policy(self, policy: Policy) -> Setting:
        """The same pools under another policy of the same model and request."""
        return replace(self, service=self.service.model_copy(update={"policy": policy}))


def setting(root: Path, policy: str, stack: str = "local", service: str | None = None) -> Setting:
    """The policy (a name or a file) on the pools of a stack's service.

    The service is the one named, else the first that has this policy, else (of a policy that no service has yet) the
    first whose policy serves the same model. Raises DocumentError where there is none, or a file is wrong.
    """
    known, name = policy_library(root, policy)
    settings, document = read_stack(root, stack)
    wanted = known.policies[name]
    if wanted.workload is not Workload.INFERENCE:
        said = f"must be inference: {wanted.workload} follows a queue of jobs, not a trace of requests"
        raise DocumentError([Problem(policy, 0, 0, "workload", said)])
    chosen = _service_name(known, settings.services, name, service, document.file)
    update = {chosen: settings.services[chosen].model_copy(update={"policy": name})}
    found = services(settings.model_copy(update={"services": update}), known, document)[0]
    notes = [f"pools of the service {chosen} in {document.file}"]
    if settings.services[chosen].policy != name:
        notes.append(f"the service {chosen} has the policy {settings.services[chosen].policy} there")
    merged = [pool.name for pool in found.pools if pool.copies > 1]
    if merged:
        notes.append(f"the copies of the model on one instance are simulated as one: {', '.join(merged)}")
    types = known.catalog.types
    return Setting(
        policy_name=name,
        service=found,
        profiles={pool.name: _profile(pool) for pool in found.pools},
        gpus={pool.name: types[pool.types[0]].gpus for pool in found.pools},
        notes=tuple(notes),
    )


def _service_name(known: Library, there: Mapping[str, Any], policy: str, service: str | None, file: str) -> str:
    if service is not None:
        if service not in there:
            raise DocumentError([Problem(file, 0, 0, "services", f"must have {service}; there is {', '.join(there)}")])
        return service
    model = known.policies[policy].model
    same = [name for name, value in there.items() if value.policy == policy]
    like = [
        name
        for name, value in there.items()
        if (other := known.policies.get(value.policy)) is not None
        and other.model == model
        and other.workload is Workload.INFERENCE
    ]
    if not (same or like):
        said = f"must have a service with the policy {policy}, or one that serves {model}; there is {', '.join(there)}"
        raise DocumentError([Problem(file, 0, 0, "services", said)])
    return (same or like)[0]


def _profile(pool: Pool) -> Profile:
    """The pool's speed as one engine. Several copies behind one queue: each step serves all, prompts are shared out.

    Of c copies a batch of b has steps of base + b/c * per sequence, memory for c times the tokens, and reads c prompts
    at a time.
    """
    speed = pool.speed
    if speed is None:
        raise ValueError(f"pools.{pool.name}: has no serving profile")
    copies = pool.copies
    return Profile(
        prefill_base_seconds=speed.prefill_base_seconds / copies,
        prefill_tokens_per_second=speed.prefill_tokens_per_second * copies,
        decode_base_seconds=speed.decode_base_seconds,
        decode_seconds_per_sequence=speed.decode_seconds_per_sequence / copies,
        kv_cache_tokens=speed.kv_cache_tokens * copies,
        max_sequences=speed.max_sequences * copies,
        load_seconds=1.0,
        estimate=True,
        source=f"the service's pool {pool.name}",
    )


# --- the trace's height ---


def stretched(trace: Trace | RateTrace, factor: float, seed: int = 0) -> Trace | RateTrace:
    """The trace with `factor` times the requests, in whole minutes. Of single requests the copies are seeded."""
    if isinstance(trace, RateTrace):
        return replace(trace, rps=trace.rps * factor)
    whole = math.floor(trace.span_seconds / bound.WINDOW_SECONDS + 1e-9) * bound.WINDOW_SECONDS
    if 0 < whole < trace.span_seconds:
        trace = crop(trace, 0.0, whole)  # type: ignore[assignment]  (of requests a trace of requests)
    return trace if factor == 1 else scale_to(trace, factor * peak_rps(trace), seed=seed)


def factor_for(setting: Setting, trace: Trace | RateTrace, instances: float) -> float:
    """How many times the requests a trace must have for its busiest minute to need so many of the middle pool.

    Counted by the minute's own prompts and answers, drawn with seed 0 where they are not known. Three rounds, since
    the busiest minute of a random draw is not that of its rates; of a few requests a second it is met within a tenth.
    Raises ValueError for a number that is not above 0 and a trace without requests.
    """
    if not 0 < instances < math.inf:
        raise ValueError(f"peak_instances: must be above 0 (got {instances})")
    pool = setting.middle
    wanted = instances * pool.throughput_rps
    if peak_rps(trace) == 0:
        raise ValueError(f"{trace.name}: has no requests that could be scaled")
    if isinstance(trace, RateTrace):
        # The other steps cannot hold the peak, and a fortnight need not be drawn for it.
        busy = trace.rps[trace.rps >= BUSY_SHARE * trace.rps.max()]
        at = np.arange(len(busy)) * trace.step_seconds
        trace = replace(trace, at_seconds=at, rps=busy, measured=None)
    factor = wanted / peak_rps(trace)
    for _ in range(3):
        there = bound.demand(
            setting.service, stretched(trace, factor).windows(bound.WINDOW_SECONDS, seed=0), setting.profiles
        )
        factor *= wanted / there.peak_rps(setting.service, pool.name)
    return factor


# --- one trace at one seed ---


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A trace at one seed and boot time, before anybody runs in it."""

    setting: Setting
    """With the boot time in its pools, and maxima that the peak fits below."""
    trace: Trace | RateTrace
    """As it was read."""
    factor: float
    seed: int
    boot_seconds: float
    demand: bound.TraceDemand
    clairvoyant_usd: float
    """Cheapest fleet whose instances come at once."""
    clairvoyant_with_boot_usd: float
    with_boot_exact: bool
    static_usd: float
    """Cheapest fleet that carries the busiest minute, all the time."""
    floor_usd: float
    """What the work would cost if instances could be had in any fraction: nobody who serves it pays less."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What its traffic depends on."""
        return (self.trace.name, id(self.trace), self.trace.span_seconds, self.factor, self.seed)

    @property
    def requests(self) -> float:
        """How many arrive."""
        return float(self.demand.requests.sum())

    @property
    def span_seconds(self) -> float:
        """How long it lasts."""
        return float(self.demand.seconds.sum())

    @property
    def most_saving(self) -> float:
        """1 - mean/peak of the work at a step of a minute: no autoscaler saves more against static peak."""
        return 1 - self.floor_usd / self.static_usd if self.static_usd else 0.0

    def source(self) -> Trace | RateTrace:
        """The traffic."""
        return stretched(self.trace, self.factor, self.seed)


def scenario(
    setting: Setting,
    trace: Trace | RateTrace,
    factor: float,
    seed: int = 0,
    boot_seconds: float = BOOT_SECONDS,
) -> Scenario:
    """The trace at this height, seed and boot time, and what cannot be beaten there.

    Every pool's lead time becomes the boot time; every maximum is raised to `ROOM` times what the peak needs.
    """
    source = stretched(trace, factor, seed)
    demand = bound.demand(setting.service, source.windows(bound.WINDOW_SECONDS, seed=seed), setting.profiles)
    pools = tuple(
        pool.model_copy(
            update={
                "lead_seconds": boot_seconds,
                "max_instances": max(
                    pool.max_instances,
                    math.ceil(ROOM * demand.peak_rps(setting.service, pool.name) / pool.throughput_rps),
                ),
            }
        )
        for pool in setting.service.pools
    )
    service = setting.service.model_copy(update={"pools": pools})
    at_once = bound.without_boot(service, demand)
    after_boot = bound.with_boot(service, demand, boot_seconds)
    peak = replace(
        demand,
        seconds=np.array([demand.seconds.sum()]),
        requests=demand.requests.max(keepdims=True),
        work_rps=demand.work_rps.max(axis=0, keepdims=True),
    )
    return Scenario(
        setting=replace(setting, service=service),
        trace=trace,
        factor=factor,
        seed=seed,
        boot_seconds=boot_seconds,
        demand=demand,
        clairvoyant_usd=at_once.usd,
        clairvoyant_with_boot_usd=after_boot.usd,
        with_boot_exact=after_boot.exact,
        static_usd=bound.without_boot(service, peak).usd,
        floor_usd=_floor_usd(service, demand),
    )


def _floor_usd(service: Service, demand: bound.TraceDemand) -> float:
    """Each window's work at the least price that a unit of it has in any pool."""
    price = np.array([pool.usd_per_hour / 3600 / pool.throughput_rps for pool in service.pools])
    return float((demand.seconds * (demand.work_rps * price).min(axis=1)).sum())


def warm_start(service: Service, demand: bound.TraceDemand) -> dict[str, int]:
    """Ready instances of a rival's only pool at the start: as many as carry the first five minutes' work.

    With `WARM_ROOM` to spare, and filled to `WARM_FILL`.
    """
    (pool,) = service.pools
    first = _first_minutes(demand)
    work_rps = float(demand.work_rps[first, 0].mean())
    count = max(instances_for(WARM_ROOM * work_rps, pool, WARM_FILL), service.policy.availability.min_instances)
    return {pool.name: min(pool.max_instances, max(pool.min_instances, count))}


def own_start(service: Service, demand: bound.TraceDemand) -> dict[str, int]:
    """What the policy would stand on if it had run before: the cheapest mix that carries the first five minutes.

    With the same room as a rival has, and filled as far as the policy's sizing fills instances for requests of the
    lengths that those minutes had. Which target suits the trace a rival learns from the trace; the policy starts
    without a state, as a new service does, and learns what it learns from then on.
    """
    first = _first_minutes(demand)
    requests = demand.requests[first]
    required = WARM_ROOM * float(requests.sum() / demand.seconds[first].sum())
    if required == 0:
        return {pool.name: pool.min_instances for pool in service.pools}
    request = Request(
        input_tokens=max(1.0, float(np.average(demand.input_tokens[first], weights=requests))),
        output_tokens=max(1.0, float(np.average(demand.output_tokens[first], weights=requests))),
    )
    policy = service.policy.model_copy(update={"request": request})
    rungs = []
    for pool in (at_request(pool, service, request) for pool in service.pools):
        among = math.ceil(required / pool.throughput_rps)
        share = counted_share(pool, policy, among, scv=1.0)
        rungs.append(
            mix.PoolOption(
                name=pool.name,
                instance_rps=pool.throughput_rps * share,
                usd_per_hour=pool.usd_per_hour,
                at_least=pool.min_instances,
                at_most=pool.max_instances if pool.reaches_slo else pool.min_instances,
            )
        )
    counts = mix.cheapest(rungs, required, {}, service.policy.availability.min_instances)
    return dict(mix.largest(rungs, {}) if counts is None else counts)


def _first_minutes(demand: bound.TraceDemand) -> NDArray[np.bool_]:
    first = np.cumsum(demand.seconds) <= WARM_SECONDS + 1e-6
    first[0] = True
    return first


# --- one contender in it ---


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who runs: ours, or a rival on one pool with one target."""

    rule: str
    pool: str | None = None
    """None: all pools."""
    share: float | None = None
    """Its target as a share of a full instance; None: its default."""
    tuned: bool = False

    @property
    def name(self) -> str:
        """What tables call it: a rival's untuned self apart from its best."""
        return self.rule if self.rule == roster.OURS or self.tuned else f"{self.rule} (default)"


@dataclass(frozen=True, slots=True)
class Note:
    """One decision that changed something, for the report."""

    at: float
    """Seconds since the epoch."""
    pool: str
    code: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A contender's result in a scenario."""

    candidate: Entrant
    trace: str
    seed: int
    boot_seconds: float
    factor: float
    result: drive.RunResult
    clairvoyant_usd: float
    clairvoyant_with_boot_usd: float
    static_usd: float
    most_saving: float
    target: float
    """Attainment asked for."""
    span_seconds: float
    decisions: tuple[Note, ...] = ()
    work_rps: bound.Floats | None = None
    """What each minute asked for, in typical requests a second of the middle pool; where details were kept."""

    @property
    def meets_slo(self) -> bool:
        """Whether as many requests kept to the SLO as were to."""
        return self.result.slo_attainment >= self.target

    @property
    def ratio(self) -> float:
        """Cost over that of the clairvoyant fleet without boot."""
        return self.result.cost_usd / self.clairvoyant_usd if self.clairvoyant_usd else math.inf

    @property
    def saving(self) -> float | None:
        """Saved against static peak; None for a fleet that missed the SLO: it has not done the same work."""
        return 1 - self.result.cost_usd / self.static_usd if self.meets_slo and self.static_usd else None

    def row(self) -> dict[str, Any]:
        """One object of `gpu-fleet compare --format json`."""
        found, chosen = self.result, self.candidate
        return {
            "trace": self.trace,
            "contender": chosen.name,
            "slo_attainment": found.slo_attainment,
            "meets_slo": self.meets_slo,
            "cost_usd": found.cost_usd,
            "cost_ratio_to_clairvoyant": self.ratio,
            "gpu_hours": found.gpu_hours,
            "lost_requests": found.lost,
            "rejected_requests": found.rejected,
            "scale_events": found.scale_events,
            "p95_ttft_seconds": found.p95_ttft_seconds,
            "p99_ttft_seconds": found.p99_ttft_seconds,
            "p95_tpot_seconds": found.p95_tpot_seconds,
            "requests": found.requests,
            "rule": chosen.rule,
            "tuned": chosen.tuned,
            "pool": chosen.pool,
            "target_share": chosen.share,
            "seed": self.seed,
            "boot_seconds": self.boot_seconds,
            "traffic_factor": self.factor,
            "span_seconds": self.span_seconds,
            "clairvoyant_usd": self.clairvoyant_usd,
            "clairvoyant_with_boot_usd": self.clairvoyant_with_boot_usd,
            "static_peak_usd": self.static_usd,
            "saving_to_static_peak": self.saving,
            "most_saving": self.most_saving,
            "machine_hours": dict(found.machine_hours),
        }


class Hopeless(Exception):  # noqa: N818  (no error: an answer)
    """More requests have failed than may fail in the whole trace."""


class _Listening:
    """A contender whose decisions are kept."""

    def __init__(self, contender: Ours) -> None:
        self._ours = contender
        self.notes: list[Note] = []

    @property
    def state(self) -> Any:
        """As `drive.run` asks for it."""
        return self._ours.state

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        targets = self._ours.decide(service, observation, now)
        if self._ours.last is not None:
            self.notes.extend(_notes(self._ours.last, observation, now))
        return targets


def _notes(decision: Decision, observation: Observation, now: float) -> list[Note]:
    """What a decision that changes a count said, one note for each reason."""
    changed = [
        name
        for name, target in decision.targets.items()
        if name in observation.pools and observation.pools[name].desired != target.desired
    ]
    if not changed and not decision.held:
        return []
    said = ", ".join(
        f"{name} {observation.pools[name].desired} -> {decision.targets[name].desired}" for name in changed
    )
    return [
        Note(now, ", ".join(changed), reason.code, f"{said}: {reason.sentence}" if said else reason.sentence)
        for reason in decision.reasons
    ]


def run(
    scenario: Scenario,
    candidate: Entrant,
    *,
    source: Trace | RateTrace | None = None,
    progress: Callable[[float], None] | None = None,
    give_up: bool = False,
    details: bool = False,
) -> Run:
    """One contender's run, from the warm start.

    `source` is the scenario's traffic where the caller has it already. `give_up` ends a run that cannot reach the SLO
    any more (raises Hopeless); `details` keeps minutes and decisions. Raises ValueError for an unknown rule or pool,
    ImpossibleError for a result that no fleet can have.
    """
    setting = scenario.setting
    service, demand = setting.service, scenario.demand
    peak = None
    if candidate.pool is not None:
        column = [pool.name for pool in service.pools].index(candidate.pool)
        peak = demand.peak_rps(service, candidate.pool)
        service = roster.service_with(service, candidate.pool)
        demand = replace(demand, work_rps=demand.work_rps[:, [column]])
    contender: Contender = roster.make(candidate.rule, service, service.pools[0].name, candidate.share, peak)
    initial = own_start(service, demand) if candidate.pool is None else warm_start(service, demand)
    if isinstance(contender, StaticPeak):
        initial = {service.pools[0].name: contender.count}
    names = [pool.name for pool in service.pools]
    world = World(
        service,
        scenario.source() if source is None else source,
        {name: setting.profiles[name] for name in names},
        initial=initial,
        machines=MachineModel(boot=BootTime(scenario.boot_seconds), gpus={name: setting.gpus[name] for name in names}),
        options=WorldOptions(seed=scenario.seed, keep_minutes=details or give_up),
    )
    decider: drive.Decider = contender
    listening = _Listening(contender) if details and isinstance(contender, Ours) else None
    if listening is not None:
        decider = listening
    watch = _Watch(world, scenario.requests * (1 - setting.attainment)) if give_up else None

    def step(share: float) -> None:
        if watch is not None:
            watch.look()
        if progress is not None:
            progress(share)

    found = drive.run(world, decider, contender.every_seconds, step)
    done = Run(
        candidate=candidate,
        trace=scenario.trace.name,
        seed=scenario.seed,
        boot_seconds=scenario.boot_seconds,
        factor=scenario.factor,
        result=found if details else replace(found, series=None),
        clairvoyant_usd=scenario.clairvoyant_usd,
        clairvoyant_with_boot_usd=scenario.clairvoyant_with_boot_usd,
        static_usd=scenario.static_usd,
        most_saving=scenario.most_saving,
        target=setting.attainment,
        span_seconds=scenario.span_seconds,
        decisions=tuple(listening.notes) if listening is not None else (),
        work_rps=_middle_work(scenario) if details else None,
    )
    hold_possible(done)
    return done


def _middle_work(scenario: Scenario) -> bound.Floats:
    names = [pool.name for pool in scenario.setting.service.pools]
    return scenario.demand.work_rps[:, names.index(scenario.setting.middle.name)]


class _Watch:
    """Counts failed requests minute by minute."""

    def __init__(self, world: World, may_fail: float) -> None:
        self._world, self._may_fail = world, may_fail
        self._failed = self._seen = 0

    def look(self) -> None:
        minutes = self._world.minutes or []
        self._failed += sum(minute.ended - minute.attained for minute in minutes[self._seen :])
        self._seen = len(minutes)
        if self._failed > self._may_fail + 1:
            raise Hopeless


def hold_possible(run: Run) -> None:
    """Raises ImpossibleError where a run that meets the SLO saves more against static peak than 1 - mean/peak.

    Both at a step of a minute and at the least price of the work, less the share of requests that failed: whoever
    serves a request pays for it.
    """
    saving = run.saving
    if saving is None:
        return
    most = 1 - (1 - run.most_saving) * run.result.slo_attainment
    if saving > most + SLACK:
        raise ImpossibleError(
            f"{run.candidate.name} on {run.trace}, seed {run.seed}: saves {saving:.2%} against static peak, "
            f"where 1 - mean/peak is {run.most_saving:.2%}"
        )
