"""The service under test: a policy on the pools of a stack's service, with the serving profile of each pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpu_fleet.config.composition import boot_path, pool_boot, services
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.engines import QueueOption, queue_options
from gpu_fleet.config.library import Library
from gpu_fleet.config.policy_files import policy_library
from gpu_fleet.config.settings import Algorithm, ServiceSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.scaling.policy import Policy, Workload
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.service import Pool, Service

ATTAINMENT = 0.995
"""The attainment that a policy without an SLO must reach."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A service, how fast the instances of its pools serve, and what was changed to simulate it."""

    policy_name: str
    service: Service
    profiles: Mapping[str, Profile]
    """By pool: the profile of its slowest type, with all copies of the model on an instance taken together."""
    gpus: Mapping[str, int]
    """GPUs of one instance, by pool."""
    boots: Mapping[str, Boot] = field(default_factory=dict)
    """Expected phases of a boot, by pool."""
    algorithm: Algorithm = Algorithm.LEAST_OUTSTANDING_REQUESTS
    """How the load balancer chooses an instance of a pool."""
    queue_options: tuple[QueueOption, ...] = ()
    """What its engines count, where the policy lets them refuse."""
    notes: tuple[str, ...] = ()

    @property
    def attainment(self) -> float:
        """The share of requests that must keep to the SLO."""
        slo = self.service.policy.slo
        return slo.attainment if slo else ATTAINMENT

    @property
    def middle(self) -> Pool:
        """The pool of median throughput (the upper one of an even number): l40s of l4, l40s and h100."""
        able = [p for p in self.service.pools if p.reaches_slo] or list(self.service.pools)
        return sorted(able, key=lambda pool: pool.throughput_rps)[len(able) // 2]

    def with_policy(self, policy: Policy) -> Setting:
        """Return the same pools under another policy for the same model and request."""
        return replace(self, service=self.service.model_copy(update={"policy": policy}))


def read_setting(root: Path, policy: str, stack: str = "local", service: str | None = None) -> Setting:
    """Read the policy (a name or a file) and put it on the pools of a service in the stack's file.

    Without `service`, the first service that has this policy is used; if none has, the first whose policy serves the
    same model. Raises DocumentError if no service fits, or if a file has an error.
    """
    library, name = policy_library(root, policy)
    settings, document = read_stack(root, stack)
    workload = library.policies[name].workload
    if workload is not Workload.INFERENCE:
        text = f"must be inference: {workload} follows a queue of jobs, not a trace of requests"
        raise DocumentError([Problem(policy, 0, 0, "workload", text)])
    chosen = _service_name(library, settings.services, name, service, document.file)
    update = {chosen: settings.services[chosen].model_copy(update={"policy": name})}
    composed = services(settings.model_copy(update={"services": update}), library, document)[0]
    notes = [f"pools of the service {chosen} in {document.file}"]
    if settings.services[chosen].policy != name:
        notes.append(f"the service {chosen} has the policy {settings.services[chosen].policy} there")
    merged = [pool.name for pool in composed.pools if pool.copies > 1]
    if merged:
        notes.append(f"the copies of the model on one instance are simulated as one: {', '.join(merged)}")
    image = settings.services[chosen].container.image
    if library.policies[name].refuses and not composed.policy.refuses:
        notes.append(f"any number of requests waits in an engine: {image} tells no version with a bounded queue")
    types, served = library.catalog.types, settings.services[chosen]
    return Setting(
        policy_name=name,
        service=composed,
        profiles={pool.name: merged_profile(pool) for pool in composed.pools},
        gpus={pool.name: types[pool.types[0]].gpus for pool in composed.pools},
        boots={
            pool_name: pool_boot(value.types, value, name, library, boot_path(settings, served, value))
            for pool_name, value in served.pools.items()
        },
        algorithm=served.algorithm,
        queue_options=queue_options(image),
        notes=tuple(notes),
    )


def _service_name(
    library: Library, stack_services: Mapping[str, ServiceSettings], policy: str, service: str | None, file: str
) -> str:
    """Return the name of the service whose pools are used. Raises DocumentError if none fits."""
    names = ", ".join(stack_services)
    if service is not None:
        if service not in stack_services:
            raise DocumentError([Problem(file, 0, 0, "services", f"must have {service} (got {names})")])
        return service
    model = library.policies[policy].model
    with_policy = [name for name, value in stack_services.items() if value.policy == policy]
    with_model = [
        name
        for name, value in stack_services.items()
        if (other := library.policies.get(value.policy)) is not None
        and other.model == model
        and other.workload is Workload.INFERENCE
    ]
    if not (with_policy or with_model):
        text = f"must have a service with the policy {policy}, or one that serves {model} (got {names})"
        raise DocumentError([Problem(file, 0, 0, "services", text)])
    return (with_policy or with_model)[0]


def merged_profile(pool: Pool) -> Profile:
    """Return the speed of one instance as that of a single engine that stands for all copies of the model.

    The copies share one queue. With c copies, a batch of b takes steps of base + b/c * per sequence; memory holds c
    times the tokens, and c prompts are read at a time.
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
        compile_seconds=1.0,
        estimate=True,
        source=f"the service's pool {pool.name}",
    )
