"""One entrant's run through a scenario: from a start that is alike for all, to its cost and attainment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpu_fleet.backtest import roster
from gpu_fleet.backtest.clairvoyant import Clairvoyant
from gpu_fleet.backtest.contender import Contender
from gpu_fleet.backtest.ours import Ours
from gpu_fleet.backtest.rivals.static_peak import StaticPeak
from gpu_fleet.backtest.roster import Entrant
from gpu_fleet.backtest.scenario import Scenario
from gpu_fleet.backtest.start import own_start, rival_start
from gpu_fleet.backtest.trace_demand import Floats
from gpu_fleet.scaling.decision import Decision, PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator import drive
from gpu_fleet.simulator.simulated_fleet import MachineModel
from gpu_fleet.simulator.world import World, WorldOptions
from gpu_fleet.traffic import RateTrace, Trace

SAVING_SLACK = 0.005
"""How far a saving may pass the limit, because work is carried over the trace's ends."""


class ImpossibleError(AssertionError):
    """A result that is better than any fleet's can be: the harness itself is wrong."""


class SloOutOfReach(Exception):  # noqa: N818  (no error: an answer)
    """More requests have failed than may fail in the whole trace."""


@dataclass(frozen=True, slots=True)
class Note:
    """One reason of a decision that changed a count, for the report."""

    at: float
    """Seconds since the epoch."""
    pool: str
    code: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """An entrant's result in a scenario."""

    entrant: Entrant
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
    """The attainment to reach."""
    span_seconds: float
    decisions: tuple[Note, ...] = ()
    """Kept only with details."""
    work_rps: Floats | None = None
    """Work of each minute, in typical requests a second of the middle pool; kept only with details."""
    slo_clairvoyant: Run | None = None
    """The cheapest clairvoyant fleet that keeps the SLO in the simulator; None if it was not searched."""

    @property
    def meets_slo(self) -> bool:
        """Whether attainment reached the target."""
        return self.result.slo_attainment >= self.target

    @property
    def ratio(self) -> float:
        """Cost over that of the clairvoyant fleet without boot."""
        return self.result.cost_usd / self.clairvoyant_usd if self.clairvoyant_usd else math.inf

    @property
    def slo_ratio(self) -> float | None:
        """Cost over that of the clairvoyant fleet that keeps the SLO; None if that was not searched, or misses it."""
        fleet = self.slo_clairvoyant
        return self.result.cost_usd / fleet.result.cost_usd if fleet and fleet.meets_slo else None

    @property
    def saving(self) -> float | None:
        """Share saved against static peak; None for a fleet that missed the SLO: it has not done the same work."""
        return 1 - self.result.cost_usd / self.static_usd if self.meets_slo and self.static_usd else None

    def row(self) -> dict[str, Any]:
        """Return the object that `gpu-fleet compare --format json` prints."""
        result, entrant, slo_fleet = self.result, self.entrant, self.slo_clairvoyant
        return {
            "trace": self.trace,
            "contender": entrant.name,
            "slo_attainment": result.slo_attainment,
            "meets_slo": self.meets_slo,
            "cost_usd": result.cost_usd,
            "launch_usd": result.launch_usd,
            "launches": result.launches,
            "cost_ratio_to_clairvoyant": self.ratio,
            "cost_ratio_to_slo_clairvoyant": self.slo_ratio,
            "gpu_hours": result.gpu_hours,
            "lost_requests": result.lost,
            "rejected_requests": result.rejected,
            "refused_requests": result.refused,
            "scale_events": result.scale_events,
            "p95_ttft_seconds": result.p95_ttft_seconds,
            "p99_ttft_seconds": result.p99_ttft_seconds,
            "p95_tpot_seconds": result.p95_tpot_seconds,
            "requests": result.requests,
            "rule": entrant.rule,
            "tuned": entrant.tuned,
            "pool": entrant.pool,
            "target_share": entrant.share,
            "seed": self.seed,
            "boot_seconds": self.boot_seconds,
            "traffic_factor": self.factor,
            "span_seconds": self.span_seconds,
            "clairvoyant_usd": self.clairvoyant_usd,
            "clairvoyant_with_boot_usd": self.clairvoyant_with_boot_usd,
            "slo_clairvoyant_usd": slo_fleet.result.cost_usd if slo_fleet else None,
            "slo_clairvoyant_attainment": slo_fleet.result.slo_attainment if slo_fleet else None,
            "static_peak_usd": self.static_usd,
            "saving_to_static_peak": self.saving,
            "most_saving": self.most_saving,
            "machine_hours": dict(result.machine_hours),
        }


def run(
    scenario: Scenario,
    entrant: Entrant,
    *,
    traffic: Trace | RateTrace | None = None,
    give_up: bool = False,
    details: bool = False,
) -> Run:
    """Run one entrant through the scenario.

    `traffic` is the scenario's traffic if the caller has it already. `give_up` ends a run that can no longer reach the
    SLO (raises SloOutOfReach). `details` keeps minutes and decisions. Raises ValueError for an unknown rule or pool,
    and ImpossibleError for a result that no fleet can have.
    """
    starting = _starting(scenario, entrant)
    contender, service = starting.contender, starting.service
    names = [pool.name for pool in service.pools]
    world = World(
        service,
        scenario.traffic() if traffic is None else traffic,
        {name: scenario.setting.profiles[name] for name in names},
        initial=starting.ready,
        machines=MachineModel(
            phases={name: boot for name, boot in scenario.setting.boots.items() if name in names},
            gpus={name: scenario.setting.gpus[name] for name in names},
        ),
        options=WorldOptions(
            seed=scenario.seed,
            clients=scenario.clients,
            algorithm=scenario.setting.algorithm,
            queue_options=scenario.setting.queue_options,
            keep_minutes=details or give_up,
        ),
    )
    recorder = _Recorder(contender) if details and isinstance(contender, Ours) else None
    watch = _FailureWatch(world, scenario.requests * (1 - scenario.setting.attainment)) if give_up else None
    result = drive.run(world, recorder or contender, contender.every_seconds, watch.check if watch else None)
    done = Run(
        entrant=entrant,
        trace=scenario.trace.name,
        seed=scenario.seed,
        boot_seconds=scenario.boot_seconds,
        factor=scenario.factor,
        result=result if details else replace(result, series=None),
        clairvoyant_usd=scenario.clairvoyant_usd,
        clairvoyant_with_boot_usd=scenario.clairvoyant_with_boot_usd,
        static_usd=scenario.static_usd,
        most_saving=scenario.most_saving,
        target=scenario.setting.attainment,
        span_seconds=scenario.span_seconds,
        decisions=tuple(recorder.notes) if recorder is not None else (),
        work_rps=_middle_work_rps(scenario) if details else None,
    )
    check_possible(done)
    return done


@dataclass(frozen=True, slots=True)
class _Starting:
    """A contender, the service that it scales, and its ready instances at the start."""

    contender: Contender
    service: Service
    ready: Mapping[str, int]


def _starting(scenario: Scenario, entrant: Entrant) -> _Starting:
    """Return the entrant at the start of its run: ours on all pools, a rival on a service of its pool alone."""
    service, demand = scenario.setting.service, scenario.demand
    if entrant.rule == roster.CLAIRVOYANT:
        plan = clairvoyant_of(scenario, entrant)
        return _Starting(plan, plan.service, {plan.service.pools[0].name: int(plan.counts[0])})
    if entrant.pool is None:
        contender = roster.make(entrant.rule, service, service.pools[0].name, entrant.share)
        ready = own_start(service, demand)
    else:
        alone = roster.service_with(service, entrant.pool)
        peak_rps = demand.peak_rps(service, entrant.pool)
        contender = roster.make(entrant.rule, alone, entrant.pool, entrant.share, peak_rps)
        ready = rival_start(alone, demand.of_pool(service, entrant.pool))
        service = alone
    if isinstance(contender, StaticPeak):
        ready = {service.pools[0].name: contender.count}
    return _Starting(contender, service, ready)


def clairvoyant_of(scenario: Scenario, entrant: Entrant) -> Clairvoyant:
    """Return the clairvoyant fleet of a pool, a fill and a look. Raises ValueError for an unknown pool."""
    if entrant.pool is None or entrant.share is None:
        raise ValueError("entrant: the clairvoyant fleet needs a pool and a fill")
    service = scenario.setting.service
    alone = roster.service_with(service, entrant.pool)
    work_rps = scenario.demand.of_pool(service, entrant.pool).work_rps[:, 0]
    return Clairvoyant(alone, work_rps, entrant.share, entrant.look_minutes)


def _middle_work_rps(scenario: Scenario) -> Floats:
    setting = scenario.setting
    return scenario.demand.of_pool(setting.service, setting.middle.name).work_rps[:, 0]


class _Recorder:
    """Our policy, with notes of its decisions."""

    def __init__(self, contender: Ours) -> None:
        self._ours = contender
        self.notes: list[Note] = []

    @property
    def state(self) -> Any:
        """The policy's state, from which `drive.run` reads what to observe."""
        return self._ours.state

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the policy's targets, and note why counts change."""
        targets = self._ours.decide(service, observation, now)
        if self._ours.last is not None:
            self.notes.extend(_notes(self._ours.last, observation, now))
        return targets


def _notes(decision: Decision, observation: Observation, now: float) -> list[Note]:
    """Return a note for each reason of a decision that changes a count or holds."""
    changed = [
        name
        for name, target in decision.targets.items()
        if name in observation.pools and observation.pools[name].desired != target.desired
    ]
    if not changed and not decision.held:
        return []
    change = ", ".join(
        f"{name} {observation.pools[name].desired} -> {decision.targets[name].desired}" for name in changed
    )
    return [
        Note(now, ", ".join(changed), reason.code, f"{change}: {reason.sentence}" if change else reason.sentence)
        for reason in decision.reasons
    ]


class _FailureWatch:
    """Counts failed requests, minute by minute."""

    def __init__(self, world: World, may_fail: float) -> None:
        self._world, self._may_fail = world, may_fail
        self._failed = self._minutes_counted = 0

    def check(self, share_done: float) -> None:
        """Raise SloOutOfReach if more requests have failed than may fail in the whole trace."""
        minutes = self._world.minutes or []
        self._failed += sum(minute.ended - minute.attained for minute in minutes[self._minutes_counted :])
        self._minutes_counted = len(minutes)
        if self._failed > self._may_fail + 1:
            raise SloOutOfReach


def check_possible(run: Run) -> None:
    """Raise ImpossibleError if a run that meets the SLO saves more against static peak than 1 - mean/peak.

    Mean and peak are those of the minutes' work at its lowest price, less the share of requests that failed: whoever
    serves a request pays for it.
    """
    if run.saving is None:
        return
    most = 1 - (1 - run.most_saving) * run.result.slo_attainment
    if run.saving > most + SAVING_SLACK:
        raise ImpossibleError(
            f"{run.entrant.name} on {run.trace}, seed {run.seed}: saves {run.saving:.2%} against static peak, "
            f"but 1 - mean/peak is {run.most_saving:.2%}"
        )
