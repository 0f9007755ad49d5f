"""The demo: a stack in the embedded cloud, an hour of traffic through the real scaler, and a static fleet beside it.

`prepare` reads and checks everything and creates nothing; `play` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.roster import pools_for
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library, policy_name
from gpu_fleet.config.policy_files import with_text
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_text
from gpu_fleet.emulator import EmbeddedCloud, Launch, RegisteredResource
from gpu_fleet.replay.demo_traffic import DemoTraffic, TrafficOptions, demo_traffic
from gpu_fleet.replay.hardware import Hardware, service_hardware
from gpu_fleet.replay.replay import Opening, Replay
from gpu_fleet.replay.replay_cloud import replay_cloud
from gpu_fleet.replay.replay_result import ReplayResult
from gpu_fleet.replay.static_fleet import STATIC_SHARE, StaticFleet, static_fleet
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.service import Service
from gpu_fleet.traffic import Trace
from infra.service_parameter import parameter_value

OPENING_SECONDS = 300.0
"""The opening fleet is sized for the mean of the trace's first 5 minutes."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a user may choose."""

    stack: str = "local"
    service: str | None = None
    """None: the stack's first that serves requests."""
    policy: str | None = None
    """A name of policies/, or a file; None: the stack's own."""
    traffic: TrafficOptions = field(default_factory=TrafficOptions)
    boot_seconds: float | None = None
    """From launch until the model answers; None: as catalog and profiles say for each type."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a demo needs, read and checked."""

    root: Path
    options: DemoOptions
    library: Library
    service: Service
    hardware: Hardware
    traffic: DemoTraffic
    opening: Opening
    policy: str
    """Its name."""

    def boots_in(self, launch: Launch) -> float | Boot:
        """Return the instance's boot by phases, or the seconds that the user chose for all."""
        if self.options.boot_seconds is not None:
            return self.options.boot_seconds
        return next(types[launch.type].boot for types in self.hardware.values() if launch.type in types)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The replay, and the static fleet under the same requests."""

    plan: Plan
    resources: tuple[RegisteredResource, ...]
    replay: ReplayResult
    static: StaticFleet


def prepare(root: Path, options: DemoOptions | None = None) -> Plan:
    """Read the stack of the project in `root`, its library and the traffic.

    Raises DocumentError with everything that is wrong, and TraceError for a trace that cannot be replayed.
    """
    root, options = root.resolve(), options or DemoOptions()
    settings, document = read_stack(root, options.stack)
    texts, policy = library_texts(root), options.policy
    if policy is not None and Path(policy).suffix:
        texts = with_text(texts, policy, read_text(Path(policy), policy))
        policy = policy_name(policy)
    known = library(texts)
    name = _service_name(settings, known, options)
    if policy is not None:
        _check_policy(known, policy)
        settings = _with_policy(settings, name, policy)
    (service,) = (service for service in services(settings, known, document) if service.name == name)
    traffic = demo_traffic(service, options.traffic, options.seed)
    return Plan(
        root=root,
        options=options,
        library=known,
        service=service,
        hardware=service_hardware(settings, name, known),
        traffic=traffic,
        opening=_opening(service, traffic.trace),
        policy=settings.services[name].policy,
    )


def play(
    plan: Plan,
    *,
    on_resource: Callable[[RegisteredResource], None] | None = None,
    on_provisioned: Callable[[EmbeddedCloud], None] | None = None,
    on_minute: Callable[[Replay], None] | None = None,
) -> DemoResult:
    """Provision the stack, replay the traffic through the scaler, and then on a static fleet.

    Raises what `gpu_fleet.emulator.provision` and `gpu_fleet.replay.Replay` raise.
    """
    options = plan.options
    with replay_cloud(options.stack, plan.root, on_resource, boot_seconds=plan.boots_in, seed=options.seed) as cloud:
        if options.policy is not None:
            put_service(cloud, plan.service)
        if on_provisioned is not None:
            on_provisioned(cloud)
        with Replay(cloud, plan.service.name, plan.traffic.trace, plan.hardware, plan.opening) as replay:
            result = replay.run(on_minute)
        resources = tuple(cloud.resources)
    return DemoResult(plan, resources, result, static_fleet(plan.service, plan.hardware, plan.traffic, options.seed))


def put_service(cloud: EmbeddedCloud, service: Service) -> None:
    """Write the service's parameter with another policy, as `pulumi up` with that policy would."""
    name = f"{cloud.outputs['services_path']}/{service.name}"
    value = parameter_value(service, cloud.services[service.name]["bindings"])
    cloud.client("ssm").put_parameter(Name=name, Value=value, Tier="Intelligent-Tiering", Overwrite=True)


def _service_name(settings: StackSettings, known: Library, options: DemoOptions) -> str:
    serving = [
        name
        for name, value in settings.services.items()
        if value.policy not in known.policies or known.policies[value.policy].workload is Workload.INFERENCE
    ]
    if options.service is None and serving:
        return serving[0]
    if options.service in serving:
        return options.service
    choices = f"must be one that serves requests: {', '.join(serving) or f'stack {options.stack} has none'}"
    got = f" (got {options.service})" if options.service else ""
    raise DocumentError([Problem("", 0, 0, "--service", choices + got)])


def _check_policy(known: Library, policy: str) -> None:
    if policy not in known.policies:
        names = ", ".join(sorted(known.policies))
        raise DocumentError([Problem("", 0, 0, "--policy", f"must be one of {names} (got {policy})")])
    if known.policies[policy].workload is not Workload.INFERENCE:
        text = f"must be of a workload that serves requests (got {policy})"
        raise DocumentError([Problem("", 0, 0, "--policy", text)])


def _with_policy(settings: StackSettings, service: str, policy: str) -> StackSettings:
    changed = settings.services[service].model_copy(update={"policy": policy})
    return settings.model_copy(update={"services": {**settings.services, service: changed}})


def _opening(service: Service, trace: Trace) -> Opening:
    """Return the cheapest fleet of one pool that the first minutes fill to 80 %, beside every pool's minimum."""
    seconds = min(OPENING_SECONDS, trace.span_seconds)
    rps = float(np.searchsorted(trace.at_seconds, seconds)) / seconds
    pools = [pool for pool in service.pools if pool.name in pools_for(service)]
    counts = {
        pool.name: max(pool.min_instances, min(pool.max_instances, instances_for(rps, pool, STATIC_SHARE)))
        for pool in pools
    }
    short = {pool.name: counts[pool.name] * pool.throughput_rps * STATIC_SHARE < rps - 1e-9 for pool in pools}
    best = min(pools, key=lambda pool: (short[pool.name], counts[pool.name] * pool.usd_per_hour))
    return Opening({best.name: counts[best.name]})
