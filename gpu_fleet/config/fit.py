"""Whether a service's pools, its policy and the library fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpu_fleet.config.accelerators import other_than_nvidia
from gpu_fleet.config.catalog import CATALOG, PROFILES, USABLE_MEMORY_FRACTION, ServedModel
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.library import Library
from gpu_fleet.config.validation import until_hole
from gpu_fleet.config.wording import suggestion
from gpu_fleet.scaling.policy import Policy, RoutingStrategy, VerticalMethod


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The settings of one pool that the library can check."""

    types: Sequence[str]
    min_instances: int
    max_instances: int
    spot_percent: float
    gpus_per_copy: int | None = None
    """None: all GPUs of an instance."""
    alternatives: Sequence[Sequence[str]] = ()
    """Types that may take the place of `types`."""


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """An error in a stack: its key, and what is allowed there."""

    path: KeyPath
    """From the stack's settings; from the service in `plan_problems`."""
    text: str


def plan_problems(policy_name: str, pools: Mapping[str, PoolPlan], library: Library) -> list[PlanProblem]:
    """Return every reason why a service's pools, its policy and the library do not fit together.

    Paths start at the service: `("policy",)`, `("pools", "l4", "types", 0)`.
    """
    problems: list[PlanProblem] = []
    policy = library.policy(policy_name)
    if policy is None and policy_name not in library.broken:
        problems.append(
            PlanProblem(
                ("policy",),
                f"must be a policy of policies/; {suggestion(policy_name, library.policies)} (got {policy_name})",
            )
        )
    for name, pool in pools.items():
        for below, types in ((("types",), pool.types), *_alternatives(pool)):
            at = ("pools", name, *below)
            for i, type_name in enumerate(types):
                problems += until_hole(_type_problems, (*at, i), type_name, pool, library)
                if policy is not None and type_name in library.catalog.types:
                    problems += until_hole(_placement_problems, (*at, i), type_name, pool, policy, library)
            problems += until_hole(_class_problems, at, types, library)
    if policy is not None:
        for rule in (_weight_problems, _sleep_problems, _in_place_problems, _alternatives_problems, _min_problems):
            problems += until_hole(rule, policy_name, policy, pools)
    return problems


def _alternatives(pool: PoolPlan) -> list[tuple[KeyPath, Sequence[str]]]:
    return [(("alternatives", i), types) for i, types in enumerate(pool.alternatives)]


def _weight_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    for name in policy.routing.static_weights:
        if name not in pools:
            yield PlanProblem(
                ("pools",),
                f"policy {policy_name} gives routing.static_weights to {name}, which is no pool here; "
                f"{suggestion(name, pools)}",
            )
    weights = [policy.routing.static_weights.get(name, 0) for name in pools]
    if policy.routing.strategy is RoutingStrategy.STATIC and pools and not any(weights):
        yield PlanProblem(
            ("pools",), f"one must have a weight above 0 in policy {policy_name}'s routing.static_weights (got none)"
        )


def _sleep_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    if policy.zero.idle_seconds is None:
        return
    for name, pool in pools.items():
        if pool.min_instances > 0:
            yield PlanProblem(
                ("pools", name, "min"),
                f"must be 0 because the policy scales to zero (zero.idle_seconds) (got {pool.min_instances})",
            )


def _in_place_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    if policy.vertical.method is VerticalMethod.IN_PLACE and len(pools) != 1:
        yield PlanProblem(
            ("pools",),
            f"must be 1 pool because the policy changes types in place (vertical.method) (got {len(pools)})",
        )


def _alternatives_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    """Check that alternatives are given for `in_place` and only for it."""
    in_place = policy.vertical.method is VerticalMethod.IN_PLACE
    for name, pool in pools.items():
        if pool.alternatives and not in_place:
            text = f"must be left out: the policy's vertical.method is {policy.vertical.method}, not in_place"
            yield PlanProblem(("pools", name, "alternatives"), text)
        if in_place and not pool.alternatives and len(pools) == 1:
            text = "must have alternatives, lists of types to change to: the policy's vertical.method is in_place"
            yield PlanProblem(("pools", name), text)


def _min_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    total_max = sum(pool.max_instances for pool in pools.values())
    if policy.availability.min_instances > total_max:
        yield PlanProblem(
            ("pools",),
            f"must allow the policy's availability.min_instances, "
            f"{policy.availability.min_instances} (got {total_max}, the sum of max)",
        )


def _class_problems(at: KeyPath, types: Sequence[str], library: Library) -> Iterator[PlanProblem]:
    classes: dict[str, str] = {}
    for type_name in types:
        if type_name in library.catalog.types:
            classes.setdefault(library.catalog.types[type_name].gpu, type_name)
    if len(classes) > 1:
        got = ", ".join(f"{type_name} is {gpu}" for gpu, type_name in classes.items())
        yield PlanProblem(at, f"must share one GPU class (got {got})")


def _type_problems(at: KeyPath, type_name: str, pool: PoolPlan, library: Library) -> Iterator[PlanProblem]:
    types = library.catalog.types
    if accelerator := other_than_nvidia(type_name):
        yield PlanProblem(at, f"must be a type with NVIDIA GPUs; {accelerator} (got {type_name})")
    elif type_name not in types:
        yield PlanProblem(at, f"must be a type of {CATALOG}; {suggestion(type_name, types)} (got {type_name})")
    elif pool.spot_percent > 0 and types[type_name].spot_usd_per_hour is None:
        yield PlanProblem(
            at, f"must have spot_usd_per_hour in {CATALOG} for a pool with spot_percent (got {type_name})"
        )


def _placement_problems(
    at: KeyPath, type_name: str, pool: PoolPlan, policy: Policy, library: Library
) -> Iterator[PlanProblem]:
    instance_type = library.catalog.types[type_name]
    model = library.profiles.models.get(policy.model)
    if model is None:
        return
    gpus = pool.gpus_per_copy or instance_type.gpus
    if instance_type.gpus % gpus:
        text = f"must divide the {instance_type.gpus} GPUs of {type_name} (got {gpus})"
        yield PlanProblem((*at[:2], "gpus_per_copy"), text)
        return
    memory_gib = gpus * instance_type.gpu_memory_gib
    if memory_problem := _memory_problem(policy, model, memory_gib):
        yield PlanProblem(at, f"{memory_problem} (got {type_name} with {memory_gib:.1f} GiB)")
    elif model.placement(instance_type.gpu, gpus) is None:
        profiles = ", ".join(f"{p.gpus} x {p.gpu}" for p in model.profiles)
        yield PlanProblem(
            at,
            f"{PROFILES} must have a profile of {policy.model} on {gpus} x {instance_type.gpu}; there is {profiles} "
            f"(got {type_name})",
        )


def _memory_problem(policy: Policy, model: ServedModel, memory_gib: float) -> str | None:
    """Return why the weights and one typical request's KV cache exceed the memory that the engine may use, or None.

    llama-3.1-8b on an L4: 0.9 * 22.4 = 20.1 GiB, weights 15.0, and 1366 tokens * 128 KiB = 0.2 GiB: fits.
    """
    kv_gib = (policy.request.input_tokens + policy.request.output_tokens) * model.kv_bytes_per_token / 2**30
    needed_gib = (model.weights_gib + kv_gib) / USABLE_MEMORY_FRACTION
    if needed_gib <= memory_gib:
        return None
    return f"GPU memory must be at least {needed_gib:.1f} GiB for {policy.model} and the KV cache of one request"
