"""The instance types that can serve a policy: the capacity of each within the SLO, and its cost per request.

`python -m bench.capacity_table chat` prints the table of docs/capacity.md, `python -m bench.capacity_table chat
llama-70b` the one for the same requests on another model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_fleet.config.composition import pool
from gpu_fleet.config.fit import PoolPlan, plan_problems
from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import PoolSettings
from gpu_fleet.config.yaml_files import read_library


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One instance type that serves the policy's typical request."""

    type: str
    hardware: str
    copies: int
    estimate: bool
    capacity: float
    requests_per_second: float
    output_tokens_per_second: float
    usd_per_hour: float
    usd_per_1000_requests: float
    reaches_slo: bool


def type_rows(library: Library, policy_name: str, model: str | None = None) -> list[TypeRow]:
    """Return every type of the catalog that can serve the policy, by rising cost per request.

    `model` replaces the policy's own. A type with several GPUs runs as many copies of the model as give most requests a
    second.
    """
    policy = library.policies[policy_name]
    if model is not None:
        library = replace(library, policies={policy_name: policy.model_copy(update={"model": model})})
    rows = [
        max(choices, key=lambda row: row.requests_per_second)
        for name in library.catalog.types
        if (choices := _choices(library, policy_name, name))
    ]
    return sorted(rows, key=lambda row: row.usd_per_1000_requests)


def _choices(library: Library, policy_name: str, type_name: str) -> list[TypeRow]:
    """Return a row for every number of copies that the type can run."""
    policy, instance_type = library.policies[policy_name], library.catalog.types[type_name]
    rows: list[TypeRow] = []
    for profile in library.profiles.models[policy.model].profiles:
        plan = {"one": PoolPlan((type_name,), 0, 1, 0, profile.gpus)}
        fits = profile.gpu == instance_type.gpu and instance_type.gpus % profile.gpus == 0
        if not fits or plan_problems(policy_name, plan, library):
            continue
        settings = PoolSettings(types=(type_name,), min=0, max=1, gpus_per_copy=profile.gpus)
        only = pool("one", settings, policy_name, library)
        rows.append(
            TypeRow(
                type=type_name,
                hardware=f"{instance_type.gpus} x {instance_type.gpu}",
                copies=instance_type.gpus // profile.gpus,
                estimate=profile.estimate,
                capacity=only.capacity,
                requests_per_second=only.throughput_rps,
                output_tokens_per_second=only.throughput_rps * policy.request.output_tokens,
                usd_per_hour=only.on_demand_usd_per_hour,
                usd_per_1000_requests=only.on_demand_usd_per_hour / 3.6 / only.throughput_rps,
                reaches_slo=only.reaches_slo,
            )
        )
    return rows


def table(library: Library, policy_name: str, model: str | None = None) -> str:
    """Return the rows in Markdown."""
    titles = ("type", "GPUs", "copies", "C, requests at a time", "requests/s", "output tokens/s", "USD/h")
    lines = [f"| {' | '.join(titles)} | USD per 1000 requests |", "|---" * 8 + "|"]
    lines += [
        f"| {row.type} | {row.hardware} | {row.copies} | {row.capacity:.0f} | {row.requests_per_second:.2f} "
        f"| {row.output_tokens_per_second:.0f}{'*' if row.estimate else ''} | {row.usd_per_hour:.2f} "
        f"| {row.usd_per_1000_requests:.3f}{'' if row.reaches_slo else ' (misses the SLO)'} |"
        for row in type_rows(library, policy_name, model)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(read_library(Path()), *(sys.argv[1:] or ["chat"])) + "\n")
