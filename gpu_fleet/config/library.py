"""The library: all policies, the catalog of instance types and the serving profiles, checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gpu_fleet.config.accelerators import other_than_nvidia
from gpu_fleet.config.catalog import (
    CATALOG,
    PROFILES,
    USABLE_MEMORY_FRACTION,
    Catalog,
    Placement,
    Profiles,
    ServedModel,
)
from gpu_fleet.config.document import Document, DocumentError, Problem, parse
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.validation import until_hole, validate_partially
from gpu_fleet.config.wording import quoted, suggestion
from gpu_fleet.scaling.policy import Policy, RoutingStrategy, Section

Checked = TypeVar("Checked", bound=Section)


@dataclass(frozen=True)
class Library:
    """Policies by name, the catalog and the profiles, each checked by itself and against the others."""

    policies: Mapping[str, Policy]
    catalog: Catalog
    profiles: Profiles
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False)
    """The document of each policy, by the policy's name: it knows the places of the keys."""
    broken: Mapping[str, Policy | None] = field(default_factory=dict)
    """Invalid policies, with holes (`gpu_fleet.config.validation`), or None where nothing could be read. Only `collect`
    fills this in, so that a wrong number in a policy does not hide that a stack does not fit it."""

    is_whole: bool = True
    """Whether catalog and profiles are valid. If not, they may have holes and no service can be composed. Only
    `collect` returns such a library."""

    def policy(self, name: str) -> Policy | None:
        """Return the policy of this name, with holes if it is invalid; None if it is unknown or unreadable."""
        return self.policies.get(name) or self.broken.get(name)


def library(texts: Mapping[str, str]) -> Library:
    """Build the library from its files' texts by path: catalog.yaml, profiles.yaml, and a policy in each other file.

    A policy has its file's name. Raises DocumentError with every error in all files.
    """
    found, problems = collect(texts)
    if problems or found is None:
        raise DocumentError(problems)
    return found


def collect(texts: Mapping[str, str]) -> tuple[Library | None, list[Problem]]:
    """Build the library from its valid parts, and return every error too; None without a catalog and profiles.

    Errors in the catalog and the profiles leave holes there, as in the policies.
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
        problems += until_hole(_catalog_problems, catalog, documents[CATALOG])
    if catalog is not None and profiles is not None:
        problems += until_hole(_profile_problems, catalog, profiles, documents[PROFILES])
    is_whole = not any(_file_name(problem.file) in (CATALOG, PROFILES) for problem in problems)
    written = {policy_name(name): document for name, document in documents.items() if name not in (CATALOG, PROFILES)}
    policies: dict[str, Policy] = {}
    for name, document in written.items():
        policy, is_valid = _read(document, Policy, problems)
        wrong = until_hole(_policy_problems, policy, profiles, document) if policy and profiles else []
        problems += wrong
        if policy is not None and is_valid and not wrong:
            policies[name] = policy
        else:
            broken[name] = policy
    if catalog is None or profiles is None:
        return None, problems
    return Library(policies, catalog, profiles, written, broken, is_whole), problems


def policy_name(path: str) -> str:
    """Return the name by which a stack refers to a policy's file: `chat` for `policies/chat.yaml`."""
    return _file_name(path).removesuffix(".yaml")


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _read(document: Document | None, model: type[Checked], problems: list[Problem]) -> tuple[Checked | None, bool]:
    """Return the document as a `model`, with holes where it is wrong, and whether it is valid; add its problems."""
    if document is None:
        return None, False
    if not isinstance(document.data, dict):
        problems.append(document.problem((), f"must be a mapping of keys to values (got {quoted(document.data)})"))
        return None, False
    value, wrong = validate_partially(document.data, model)
    problems += [document.problem(path, text) for path, text in wrong]
    return value, not wrong


def _policy_problems(policy: Policy, profiles: Profiles, document: Document) -> Iterator[Problem]:
    """Check a policy against the profiles, and what its own model does not check."""
    if policy.model not in profiles.models:
        yield document.problem(
            ("model",),
            f"must be a model of {PROFILES}; {suggestion(policy.model, profiles.models)} (got {policy.model})",
        )
    weights = policy.routing.static_weights
    if policy.routing.strategy is RoutingStrategy.STATIC and weights and not any(weights.values()):
        yield document.problem(("routing", "static_weights"), "must have a weight above 0 (got only 0)")


def _catalog_problems(catalog: Catalog, document: Document) -> list[Problem]:
    return [problem for name in catalog.types for problem in until_hole(_type_problems, name, catalog, document)]


def _type_problems(name: str, catalog: Catalog, document: Document) -> Iterator[Problem]:
    instance_type = catalog.types[name]
    if accelerator := other_than_nvidia(name):
        yield document.problem(("types", name), f"must be a type with NVIDIA GPUs; {accelerator} (got {name})")
    for key, quota in (("quota", instance_type.quota), ("spot_quota", instance_type.spot_quota)):
        if quota not in catalog.quotas:
            yield document.problem(
                ("types", name, key), f"must be a key of quotas; {suggestion(quota, catalog.quotas)} (got {quota})"
            )
    on_demand, spot = instance_type.on_demand_usd_per_hour, instance_type.spot_usd_per_hour
    if spot is not None and spot > on_demand:
        yield document.problem(
            ("types", name, "spot_usd_per_hour"),
            f"must be at most on_demand_usd_per_hour, {on_demand:g} (got {spot:g})",
        )


def _profile_problems(catalog: Catalog, profiles: Profiles, document: Document) -> list[Problem]:
    memory_gib: dict[str, float] = {}
    for instance_type in catalog.types.values():
        until_hole(lambda one: [memory_gib.setdefault(one.gpu, one.gpu_memory_gib)], instance_type)
    return [
        problem
        for name, model in profiles.models.items()
        for i, placement in enumerate(getattr(model, "profiles", ()))
        for problem in until_hole(
            _placement_problems, ("models", name, "profiles", i), model, placement, memory_gib, document
        )
    ]


def _placement_problems(
    at: KeyPath, model: ServedModel, placement: Placement, memory_gib: Mapping[str, float], document: Document
) -> Iterator[Problem]:
    if placement.gpu not in memory_gib:
        yield document.problem(
            (*at, "gpu"),
            f"must be a GPU class of {CATALOG}; {suggestion(placement.gpu, memory_gib)} (got {placement.gpu})",
        )
        return
    free_gib = placement.gpus * memory_gib[placement.gpu] * USABLE_MEMORY_FRACTION - model.weights_gib
    max_tokens = max(0, int(free_gib * 2**30 / model.kv_bytes_per_token))
    if placement.kv_cache_tokens > max_tokens:
        yield document.problem(
            (*at, "kv_cache_tokens"),
            f"must be at most {max_tokens}, what the memory beside the weights holds (got {placement.kv_cache_tokens})",
        )
