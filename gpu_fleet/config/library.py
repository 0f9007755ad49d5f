"""The library: what the files of policies/ say together. Policies, the catalog of instance types, serving profiles."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from gpu_fleet.config.accelerators import other_than_nvidia
from gpu_fleet.config.document import Document, DocumentError, Problem, asked, parse, partly, shown, suggestion
from gpu_fleet.scaling.policy import Policy, RoutingStrategy, Section, VerticalMethod
from gpu_fleet.scaling.profile import Profile

Checked = TypeVar("Checked", bound=Section)
CATALOG = "catalog.yaml"
PROFILES = "profiles.yaml"

USABLE_MEMORY_FRACTION = 0.9
"""Part of a GPU's memory that vLLM uses, its default `gpu_memory_utilization`:
https://docs.vllm.ai/en/latest/configuration/engine_args.html"""


class Quota(Section):
    """A vCPU quota of EC2: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html."""

    name: str
    """Its name in Service Quotas."""
    code: Annotated[str, Field(pattern=r"^L-[0-9A-F]{8}$")]
    """Its code in Service Quotas."""


class InstanceType(Section):
    """One EC2 instance type."""

    gpu: str
    """GPU class, with its memory where one name has several: L4, A100-40G."""
    gpus: Annotated[int, Field(ge=1)]
    """GPUs of one instance."""
    gpu_memory_gib: Annotated[float, Field(gt=0)]
    """Memory of one GPU, GiB."""
    vcpus: Annotated[int, Field(ge=1)]
    """vCPUs, which EC2's quotas count."""
    memory_gib: Annotated[float, Field(gt=0)]
    """Main memory, GiB."""
    on_demand_usd_per_hour: Annotated[float, Field(gt=0)]
    """On-demand price, Linux, in the catalog's region."""
    spot_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Expected spot price; needed where a pool has a spot share."""
    boot_seconds: Annotated[float, Field(ge=0)] = 180
    """From order to the start of the serving container."""
    quota: str
    """Key of the catalog's on-demand quota that it counts against."""
    spot_quota: str
    """Key of the catalog's spot quota that it counts against."""


class Catalog(Section):
    """policies/catalog.yaml: the instance types that pools may use."""

    region: str
    """Region of the prices."""
    date: dt.date
    """Day of the prices."""
    source: str
    """Where the on-demand prices come from."""
    spot_source: str = ""
    """Where the spot prices come from, or that they are estimates and from what."""
    hardware_source: str = ""
    """Where GPUs, memory and vCPUs come from."""
    boot_source: str = ""
    """Where `boot_seconds` comes from."""
    quotas: dict[str, Quota]
    """Quotas by the short name that instance types use."""
    types: dict[str, InstanceType]
    """Instance types by EC2's name."""


class Placement(Profile):
    """One model on a number of GPUs of one class."""

    gpu: str
    """GPU class, as in the catalog."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs that one copy of the model is spread over (tensor parallel)."""


class ServedModel(Section):
    """A model that policies may name, and how fast each class of GPU serves it."""

    description: str = ""
    """What it is, in which precision."""
    weights_gib: Annotated[float, Field(gt=0)]
    """Memory of the weights, GiB."""
    kv_bytes_per_token: Annotated[int, Field(gt=0)]
    """KV cache of one token, bytes: 2 x layers x KV heads x head size x bytes per value."""
    source: str
    """Where these two come from."""
    profiles: Annotated[tuple[Placement, ...], Field(min_length=1)]
    """What was measured or estimated, one for each class and number of GPUs."""

    def placement(self, gpu: str, gpus: int) -> Placement | None:
        """The profile of this class and number of GPUs, if there is one."""
        return next((p for p in self.profiles if (p.gpu, p.gpus) == (gpu, gpus)), None)

    @model_validator(mode="after")
    def _each_placement_once(self) -> Self:
        seen: set[tuple[str, int]] = set()
        for i, placement in enumerate(self.profiles):
            key = (placement.gpu, placement.gpus)
            if key in seen:
                raise ValueError(
                    f"profiles[{i}].gpu: must be one profile for each class and number of GPUs "
                    f"(got {placement.gpus} x {placement.gpu} twice)"
                )
            seen.add(key)
        return self


class Profiles(Section):
    """policies/profiles.yaml: what instances can carry, with its source or marked as an estimate."""

    models: dict[str, ServedModel]
    """Models by the name that policies use."""


@dataclass(frozen=True)
class Library:
    """Policies by name, the catalog and the profiles, each checked for itself and against each other."""

    policies: Mapping[str, Policy]
    catalog: Catalog
    profiles: Profiles
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False)
    """Where each policy's keys stand, by the policy's name."""
    broken: Mapping[str, Policy | None] = field(default_factory=dict)
    """Policies that are there but wrong, with holes (`gpu_fleet.config.document.partly`), None where nothing could be
    read. Only in what `collect` returns: so a wrong number in a policy does not hide that a stack does not fit it."""

    is_whole: bool = True
    """Whether catalog and profiles are right; where not they may have holes, and nothing can be made of them (only in
    what `collect` returns)."""

    def policy(self, name: str) -> Policy | None:
        """The policy of this name, with holes where it is wrong."""
        return self.policies.get(name) or self.broken.get(name)


def library(texts: Mapping[str, str]) -> Library:
    """The library from the texts of its files, by path: `policies/catalog.yaml`, `policies/profiles.yaml`, and each
    other one a policy, which has its file's name.

    Raises DocumentError with every error in all of them.
    """
    found, problems = collect(texts)
    if problems or found is None:
        raise DocumentError(problems)
    return found


def collect(texts: Mapping[str, str]) -> tuple[Library | None, list[Problem]]:
    """As much of the library as is right, and everything that is wrong; None without a catalog and profiles.

    What is wrong in the catalog or the profiles is left out as a hole, as in the policies.
    """
    problems: list[Problem] = []
    documents: dict[str, Document] = {}
    broken: dict[str, Policy | None] = {}
    files = {_file_name(path): path for path in texts}
    for name, path in files.items():
        try:
            documents[name] = parse(texts[path], path)
        except DocumentError as error:
            problems += error.problems
            broken[policy_name(name)] = None
    for name in (CATALOG, PROFILES):
        if name not in files:
            problems.append(Problem(f"policies/{name}", 0, 0, "", "no such file"))
    catalog, _ = _read(documents.get(CATALOG), Catalog, problems)
    profiles, _ = _read(documents.get(PROFILES), Profiles, problems)
    if catalog is not None:
        problems += asked(_catalog_problems, catalog, documents[CATALOG])
    if catalog is not None and profiles is not None:
        problems += asked(_profile_problems, catalog, profiles, documents[PROFILES])
    is_whole = not any(_file_name(problem.file) in (CATALOG, PROFILES) for problem in problems)
    policies: dict[str, Policy] = {}
    for name, document in documents.items():
        if name in (CATALOG, PROFILES):
            continue
        policy, is_right = _read(document, Policy, problems)
        wrong = (
            asked(policy_problems, policy, profiles, document) if policy is not None and profiles is not None else []
        )
        problems += wrong
        if policy is not None and is_right and not wrong:
            policies[policy_name(name)] = policy
        else:
            broken[policy_name(name)] = policy
    if catalog is None or profiles is None:
        return None, problems
    places = {policy_name(name): document for name, document in documents.items() if name not in (CATALOG, PROFILES)}
    return Library(policies, catalog, profiles, places, broken, is_whole), problems


def policy_name(path: str) -> str:
    """The name by which a stack names the policy of this file: `policies/chat.yaml` is `chat`."""
    return _file_name(path).removesuffix(".yaml")


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def policy_problems(policy: Policy, profiles: Profiles, document: Document) -> Iterator[Problem]:
    """What is wrong with a policy by itself that its own keys do not tell."""
    if policy.model not in profiles.models:
        yield document.problem(
            ("model",),
            f"must be a model of {PROFILES}; {suggestion(policy.model, profiles.models)} (got {policy.model})",
        )
    weights = policy.routing.static_weights
    if policy.routing.strategy is RoutingStrategy.STATIC and weights and not any(weights.values()):
        yield document.problem(("routing", "static_weights"), "must have a weight above 0 (got only 0)")


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What a user asks of one pool, as far as the library can check it."""

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
    """What is wrong in a stack: the key (of a service's pools: below the service), and what is allowed there."""

    path: tuple[str | int, ...]
    text: str


def plan_problems(policy_name: str, pools: Mapping[str, PoolPlan], library: Library) -> list[PlanProblem]:
    """Everything in which a service's pools, its policy and the library do not fit together.

    Paths are below the service: `("policy",)`, `("pools", "l4", "types", 0)`.
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
        for here, types in ((("types",), pool.types), *_alternatives(pool)):
            at = ("pools", name, *here)
            for i, type_name in enumerate(types):
                problems += asked(_type_problems, (*at, i), type_name, pool, library)
                if policy is not None and type_name in library.catalog.types:
                    problems += asked(_placement_problems, (*at, i), type_name, pool, policy, library)
            problems += asked(_class_problems, at, types, library)
    if policy is not None:
        for rule in (_weight_problems, _sleep_problems, _in_place_problems, _alternatives_problems, _least_problems):
            problems += asked(rule, policy_name, policy, pools)
    return problems


def _alternatives(pool: PoolPlan) -> list[tuple[tuple[str | int, ...], Sequence[str]]]:
    return [(("alternatives", i), types) for i, types in enumerate(pool.alternatives)]


def _weight_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    for name in policy.routing.static_weights:
        if name not in pools:
            yield PlanProblem(
                ("pools",),
                f"policy {policy_name} gives routing.static_weights to {name}, which is no pool here; "
                f"{suggestion(name, pools)}",
            )
    given = [policy.routing.static_weights.get(name, 0) for name in pools]
    if policy.routing.strategy is RoutingStrategy.STATIC and pools and not any(given):
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
                f"must be 0 where the policy sleeps (zero.idle_seconds) (got {pool.min_instances})",
            )


def _in_place_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    if policy.vertical.method is VerticalMethod.IN_PLACE and len(pools) != 1:
        yield PlanProblem(
            ("pools",),
            f"must be 1 pool where the policy changes types in place (vertical.method) (got {len(pools)})",
        )


def _alternatives_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    """Types change in place between sets that are named, and nowhere else."""
    in_place = policy.vertical.method is VerticalMethod.IN_PLACE
    for name, pool in pools.items():
        if pool.alternatives and not in_place:
            said = f"must be left out where the policy's vertical.method is {policy.vertical.method}; it takes in_place"
            yield PlanProblem(("pools", name, "alternatives"), said)
        if in_place and not pool.alternatives and len(pools) == 1:
            said = "must have alternatives, lists of types to change to, where the policy's vertical.method is in_place"
            yield PlanProblem(("pools", name), said)


def _least_problems(policy_name: str, policy: Policy, pools: Mapping[str, PoolPlan]) -> Iterator[PlanProblem]:
    most = sum(pool.max_instances for pool in pools.values())
    if policy.availability.min_instances > most:
        yield PlanProblem(
            ("pools",),
            f"must allow the policy's availability.min_instances, "
            f"{policy.availability.min_instances} (got {most}, the sum of max)",
        )


def _class_problems(here: tuple[str | int, ...], types: Sequence[str], library: Library) -> Iterator[PlanProblem]:
    classes: dict[str, str] = {}
    for type_name in types:
        if type_name in library.catalog.types:
            classes.setdefault(library.catalog.types[type_name].gpu, type_name)
    if len(classes) > 1:
        got = ", ".join(f"{type_name} is {gpu}" for gpu, type_name in classes.items())
        yield PlanProblem(here, f"must share one GPU class (got {got})")


def _type_problems(
    at: tuple[str | int, ...], type_name: str, pool: PoolPlan, library: Library
) -> Iterator[PlanProblem]:
    known = library.catalog.types
    if other := other_than_nvidia(type_name):
        yield PlanProblem(at, f"must be a type with NVIDIA GPUs; {other} (got {type_name})")
    elif type_name not in known:
        yield PlanProblem(at, f"must be a type of {CATALOG}; {suggestion(type_name, known)} (got {type_name})")
    elif pool.spot_percent > 0 and known[type_name].spot_usd_per_hour is None:
        yield PlanProblem(
            at, f"must have spot_usd_per_hour in {CATALOG} for a pool with spot_percent (got {type_name})"
        )


def _placement_problems(
    at: tuple[str | int, ...], type_name: str, pool: PoolPlan, policy: Policy, library: Library
) -> Iterator[PlanProblem]:
    kind = library.catalog.types[type_name]
    model = library.profiles.models.get(policy.model)
    if model is None:
        return
    gpus = pool.gpus_per_copy or kind.gpus
    if kind.gpus % gpus:
        yield PlanProblem((*at[:2], "gpus_per_copy"), f"must divide the {kind.gpus} GPUs of {type_name} (got {gpus})")
        return
    memory_gib = gpus * kind.gpu_memory_gib
    if memory_problem := _memory_problem(policy, model, memory_gib):
        yield PlanProblem(at, f"{memory_problem} (got {type_name} with {memory_gib:.1f} GiB)")
    elif model.placement(kind.gpu, gpus) is None:
        there = ", ".join(f"{p.gpus} x {p.gpu}" for p in model.profiles)
        yield PlanProblem(
            at,
            f"{PROFILES} must have a profile of {policy.model} on {gpus} x {kind.gpu}; there is {there} "
            f"(got {type_name})",
        )


def _memory_problem(policy: Policy, model: ServedModel, memory_gib: float) -> str | None:
    """Why a model does not fit: its weights and one typical request's KV cache in the part that the engine may use.

    llama-3.1-8b on an L4: 0.9 * 22.4 = 20.1 GiB, weights 15.0, and 1366 tokens * 128 KiB = 0.2 GiB: fits.
    """
    kv_gib = (policy.request.input_tokens + policy.request.output_tokens) * model.kv_bytes_per_token / 2**30
    need = (model.weights_gib + kv_gib) / USABLE_MEMORY_FRACTION
    if need <= memory_gib:
        return None
    return f"GPU memory must be at least {need:.1f} GiB for {policy.model} and the KV cache of one request"


def _read(document: Document | None, model: type[Checked], problems: list[Problem]) -> tuple[Checked | None, bool]:
    """The document as a `model`, with holes where it is wrong, and whether all of it is right."""
    if document is None:
        return None, False
    if not isinstance(document.data, dict):
        problems.append(document.problem((), f"must be a mapping of keys to values (got {shown(document.data)})"))
        return None, False
    found, wrong = partly(document.data, model)
    problems += [document.problem(path, text) for path, text in wrong]
    return found, not wrong


def _catalog_problems(catalog: Catalog, document: Document) -> list[Problem]:
    return [problem for name in catalog.types for problem in asked(_catalog_type_problems, name, catalog, document)]


def _catalog_type_problems(name: str, catalog: Catalog, document: Document) -> Iterator[Problem]:
    kind = catalog.types[name]
    if other := other_than_nvidia(name):
        yield document.problem(("types", name), f"must be a type with NVIDIA GPUs; {other} (got {name})")
    for key, quota in (("quota", kind.quota), ("spot_quota", kind.spot_quota)):
        if quota not in catalog.quotas:
            yield document.problem(
                ("types", name, key), f"must be a key of quotas; {suggestion(quota, catalog.quotas)} (got {quota})"
            )
    if kind.spot_usd_per_hour is not None and kind.spot_usd_per_hour > kind.on_demand_usd_per_hour:
        yield document.problem(
            ("types", name, "spot_usd_per_hour"),
            f"must be at most on_demand_usd_per_hour, {kind.on_demand_usd_per_hour:g} (got {kind.spot_usd_per_hour:g})",
        )


def _profile_problems(catalog: Catalog, profiles: Profiles, document: Document) -> list[Problem]:
    memory: dict[str, float] = {}
    for kind in catalog.types.values():
        asked(lambda kind: [memory.setdefault(kind.gpu, kind.gpu_memory_gib)], kind)
    return [
        problem
        for name, model in profiles.models.items()
        for i, placement in enumerate(getattr(model, "profiles", ()))
        for problem in asked(
            _placement_of_profile_problems, ("models", name, "profiles", i), model, placement, memory, document
        )
    ]


def _placement_of_profile_problems(
    at: tuple[str | int, ...], model: ServedModel, placement: Placement, memory: Mapping[str, float], document: Document
) -> Iterator[Problem]:
    if placement.gpu not in memory:
        yield document.problem(
            (*at, "gpu"),
            f"must be a GPU class of {CATALOG}; {suggestion(placement.gpu, memory)} (got {placement.gpu})",
        )
        return
    room_gib = placement.gpus * memory[placement.gpu] * USABLE_MEMORY_FRACTION - model.weights_gib
    most = max(0, int(room_gib * 2**30 / model.kv_bytes_per_token))
    if placement.kv_cache_tokens > most:
        yield document.problem(
            (*at, "kv_cache_tokens"),
            f"must be at most {most}, what the memory beside the weights holds (got {placement.kv_cache_tokens})",
        )
