"""The demo: a stack in the embedded cloud, an hour of traffic through the real scaler, and a static fleet beside it.

`prepare` reads and checks everything and creates nothing; `play` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.roster import RIVALS, pools_for
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library, policy_name
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_text
from gpu_fleet.emulator import EmbeddedCloud, Launch, Registered, provision
from gpu_fleet.replay import Opening, PoolHardware, Replay, ReplayDelays, ReplayResult, pool_hardware
from gpu_fleet.replay.feed import Feed
from gpu_fleet.replay.replay import until_told
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.simulation import Simulation
from gpu_fleet.traffic import RateTrace, Trace, TraceError, crop, hour, peak_rps, read, scale_to
from gpu_fleet.traffic.errors import about
from infra.service_parameter import parameter_value

PEAK_INSTANCES = 12
MINUTES = 60
OPENING_SECONDS = 300.0
"""The fleet that stands at the start is sized for the mean of so much of the trace."""
STATIC_SHARE = RIVALS["static-peak"].default_share
"""How far a static fleet is filled in its busiest minute."""
GENERATED = "the generated hour"


@dataclass(frozen=True, slots=True)
class DemoTraffic:
    """What is replayed, and what was done to it."""

    trace: Trace
    source: str
    """The file, or that it was made up."""
    peak_rps: float
    """Mean rate of its busiest minute."""
    scaled_by: float | None
    """How many requests each of the file's became; None where it was left alone."""
    peak_pool: str
    peak_instances: int
    """The busiest minute is as much as so many instances of `peak_pool` complete."""
    left_out_minutes: int
    """Of the trace, beyond what is replayed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a demo needs, read and checked."""

    root: Path
    stack: str
    settings: StackSettings
    library: Library
    service: Service
    hardware: dict[str, PoolHardware]
    traffic: DemoTraffic
    opening: Opening
    boot_seconds: float | None
    """None: what the catalog and the profiles say of each type."""
    seed: int
    policy: str
    other_policy: bool
    """Whether it is another than the stack's."""

    def boots_in(self, launch: Launch) -> float:
        """Seconds from launch until the model answers."""
        if self.boot_seconds is not None:
            return self.boot_seconds
        for pool, settings in self.settings.services[self.service.name].pools.items():
            if launch.type in settings.types:
                return self.library.catalog.types[launch.type].boot_seconds + self.hardware[pool].profile.load_seconds
        return self.library.catalog.types[launch.type].boot_seconds


@dataclass(frozen=True, slots=True)
class StaticFleet:
    """A fleet of one pool that never changes, under the same requests."""

    pool: str
    count: int
    slo_attainment: float
    cost_usd: float
    gpu_hours: float
    requests: int
    rejected: int
    lost: int
    p50_ttft_seconds: float | None
    p95_ttft_seconds: float | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo came to."""

    plan: Plan
    resources: tuple[Registered, ...]
    replay: ReplayResult
    static: StaticFleet


def prepare(
    root: Path,
    *,
    stack: str = "local",
    service: str | None = None,
    trace: Path | None = None,
    peak_instances: int | None = None,
    minutes: int | None = None,
    boot_seconds: float | None = None,
    seed: int = 0,
    policy: str | None = None,
) -> Plan:
    """Read the stack, its library and the traffic.

    `service` defaults to the stack's first that serves requests; `trace` to the generated hour; `policy` (a name of
    policies/, or a file) to the stack's own. `peak_instances` scales the traffic so that its busiest minute is what so
    many instances of the middle pool complete; 0 leaves it alone, None is 12 or three quarters of what the pool may
    have. Raises DocumentError with everything that is wrong.
    """
    root = root.resolve()
    settings, document = read_stack(root, stack)
    texts = library_texts(root)
    if policy is not None and Path(policy).suffix:
        known = f"policies/{Path(policy).name}"
        texts[known] = read_text(Path(policy), policy)
        policy = policy_name(policy)
    found = library(texts)
    name = _service_name(settings, found, stack, service)
    own = settings.services[name].policy
    if policy is not None and policy not in found.policies:
        raise DocumentError(
            [Problem("", 0, 0, "--policy", f"must be one of {', '.join(sorted(found.policies))} (got {policy})")]
        )
    if found.policies[policy or own].workload is not Workload.INFERENCE:
        raise DocumentError(
            [Problem("", 0, 0, "--policy", f"must be of a workload that serves requests (got {policy or own})")]
        )
    other = policy is not None
    if policy is not None:
        settings = _with_policy(settings, name, policy)
    modelled = {one.name: one for one in services(settings, found, document)}[name]
    traffic = _traffic(modelled, trace, peak_instances, minutes, seed)
    return Plan(
        root=root,
        stack=stack,
        settings=settings,
        library=found,
        service=modelled,
        hardware=pool_hardware(settings.services[name], found),
        traffic=traffic,
        opening=_opening(modelled, traffic.trace),
        boot_seconds=boot_seconds,
        seed=seed,
        policy=policy or own,
        other_policy=other,
    )


def play(
    plan: Plan,
    *,
    on_resource: Callable[[Registered], None] | None = None,
    on_provisioned: Callable[[EmbeddedCloud], None] | None = None,
    on_minute: Callable[[Replay], None] | None = None,
) -> DemoResult:
    """Provision the stack, replay the traffic through the scaler, and the same traffic on a static fleet.

    Raises what `gpu_fleet.emulator.provision` and `gpu_fleet.replay.Replay` raise.
    """
    delays = ReplayDelays()
    cloud = provision(
        plan.stack,
        plan.root,
        on_resource,
        seed=plan.seed,
        boot_seconds=plan.boots_in,
        drain_seconds=until_told,
        **delays.for_cloud,
    )
    with cloud:
        if plan.other_policy:
            put_service(cloud, plan.service)
        if on_provisioned is not None:
            on_provisioned(cloud)
        replay = Replay(
            cloud,
            plan.service.name,
            plan.traffic.trace,
            plan.hardware,
            opening=plan.opening,
            delays=delays,
            seed=plan.seed,
        )
        with replay:
            result = replay.run(on_minute)
        resources = tuple(cloud.resources)
    return DemoResult(plan, resources, result, static_peak(plan))


def static_peak(plan: Plan) -> StaticFleet:
    """The cheapest fleet of one pool that is filled to 80 % in the busiest minute, under the plan's requests.

    Of pools that may not have so many instances, the one that comes closest.
    """
    pools = {pool.name: pool for pool in plan.service.pools}
    able = [pools[name] for name in pools_for(plan.service)]
    wanted = {pool.name: instances_for(plan.traffic.peak_rps, pool, STATIC_SHARE) for pool in able}
    fitting = [pool for pool in able if wanted[pool.name] <= pool.max_instances]
    if fitting:
        pool = min(fitting, key=lambda one: wanted[one.name] * one.on_demand_usd_per_hour)
    else:
        pool = max(able, key=lambda one: one.max_instances * one.throughput_rps)
    count = max(1, min(pool.max_instances, wanted[pool.name]))
    hardware, trace = plan.hardware[pool.name], plan.traffic.trace
    simulation = Simulation([hardware.engine], slo=plan.service.policy.slo, seed=plan.seed)
    for _ in range(count * hardware.copies):
        simulation.join(0)
    end = float(np.nextafter(trace.span_seconds, np.inf))
    simulation.run(end, *Feed(trace, plan.seed).take(end))
    latest = end + 3600.0
    while simulation.in_flight and simulation.now < latest:
        simulation.run(min(latest, simulation.now + 60.0))
    total = simulation.window().total
    hours = trace.span_seconds / 3600
    return StaticFleet(
        pool=pool.name,
        count=count,
        slo_attainment=1.0 if total.slo_attainment is None else total.slo_attainment,
        cost_usd=count * pool.on_demand_usd_per_hour * hours,
        gpu_hours=count * hardware.gpus * hours,
        requests=total.ended + simulation.in_flight,
        rejected=total.rejected,
        lost=total.lost + simulation.in_flight,
        p50_ttft_seconds=total.ttft.quantile(0.5),
        p95_ttft_seconds=total.ttft.quantile(0.95),
    )


def _service_name(settings: StackSettings, found: Library, stack: str, wanted: str | None) -> str:
    serving = [
        name
        for name, value in settings.services.items()
        if value.policy not in found.policies or found.policies[value.policy].workload is Workload.INFERENCE
    ]
    if wanted is None and serving:
        return serving[0]
    if wanted in serving:
        return wanted
    there = f"must be one that serves requests: {', '.join(serving) or f'stack {stack} has none'}"
    raise DocumentError([Problem("", 0, 0, "--service", there + (f" (got {wanted})" if wanted else ""))])


def _with_policy(settings: StackSettings, service: str, policy: str) -> StackSettings:
    changed = settings.services[service].model_copy(update={"policy": policy})
    return settings.model_copy(update={"services": {**settings.services, service: changed}})


def put_service(cloud: EmbeddedCloud, service: Service) -> None:
    """A change of a policy is a change of the service's parameter: as `pulumi up` with that policy would write it."""
    name = f"{cloud.outputs['services_path']}/{service.name}"
    value = parameter_value(service, cloud.services[service.name]["bindings"])
    cloud.client("ssm").put_parameter(Name=name, Value=value, Tier="Intelligent-Tiering", Overwrite=True)


def _traffic(service: Service, file: Path | None, peak: int | None, minutes: int | None, seed: int) -> DemoTraffic:
    middle = _middle(service)
    most = PEAK_INSTANCES if peak is None else peak
    if peak is None:
        most = max(1, min(most, int(0.75 * middle.max_instances)))
    wanted_rps = most * middle.throughput_rps
    with about(file or GENERATED):
        whole: Trace | RateTrace = read(file) if file else hour(wanted_rps or PEAK_INSTANCES, seed)
        if whole.span_seconds < 60:
            raise TraceError("", f"must be at least a minute long (is {whole.span_seconds:.3g} s)", str(file))
        length = 60.0 * (minutes or MINUTES)
        part = whole if whole.span_seconds <= length else crop(whole, 0.0, length)
        if isinstance(part, RateTrace):
            part = part.sample(seed)
        before = len(part)
        if most:
            scaled = scale_to(part, wanted_rps, seed=seed)
            part = scaled if isinstance(scaled, Trace) else scaled.sample(seed)
    return DemoTraffic(
        trace=part,
        source=file.name if file else GENERATED,
        peak_rps=peak_rps(part),
        scaled_by=len(part) / before if most and file else None,
        peak_pool=middle.name,
        peak_instances=most,
        left_out_minutes=max(0, round((whole.span_seconds - part.span_seconds) / 60)),
    )


def _middle(service: Service) -> Pool:
    by_work = sorted(service.pools, key=lambda pool: pool.throughput_rps)
    return by_work[(len(by_work) - 1) // 2]


def _opening(service: Service, trace: Trace) -> Opening:
    """The cheapest pool's instances that the trace's first minutes fill to 80 %, beside every pool's minimum."""
    seconds = min(OPENING_SECONDS, trace.span_seconds)
    rps = float(np.searchsorted(trace.at_seconds, seconds)) / seconds
    able = [pool for pool in service.pools if pool.name in pools_for(service)]
    counts = {
        pool.name: max(pool.min_instances, min(pool.max_instances, instances_for(rps, pool, STATIC_SHARE)))
        for pool in able
    }
    short = {pool.name: counts[pool.name] * pool.throughput_rps * STATIC_SHARE < rps - 1e-9 for pool in able}
    best = min(able, key=lambda pool: (short[pool.name], counts[pool.name] * pool.usd_per_hour))
    return Opening({best.name: counts[best.name]})
