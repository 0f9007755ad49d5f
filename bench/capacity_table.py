"""The ladder of instance types for a policy: what each carries within the SLO, and what a request costs there.

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
class Rung:
    """One instance type serving the policy's typical request."""

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


def ladder(library: Library, policy_name: str, model: str | None = None) -> list[Rung]:
    """Every type of the catalog that can serve the policy (or the model named instead), cheapest request first.

    A type with several GPUs serves as many copies as its best profile gives: the spread with most requests a second.
    """
    policy = library.policies[policy_name]
    if model is not None:
        policy = policy.model_copy(update={"model": model})
        library = replace(library, policies={policy_name: policy})
    rungs: list[Rung] = []
    for name, kind in library.catalog.types.items():
        best: Rung | None = None
        for placement in library.profiles.models[policy.model].profiles:
            plan = {"one": PoolPlan((name,), 0, 1, 0, placement.gpus)}
            if placement.gpu != kind.gpu or kind.gpus % placement.gpus or plan_problems(policy_name, plan, library):
                continue
            settings = PoolSettings(types=(name,), min=0, max=1, gpus_per_copy=placement.gpus)
            one = pool("one", settings, policy_name, library)
            rung = Rung(
                type=name,
                hardware=f"{kind.gpus} x {kind.gpu}",
                copies=kind.gpus // placement.gpus,
                estimate=placement.estimate,
                capacity=one.capacity,
                requests_per_second=one.throughput_rps,
                output_tokens_per_second=one.throughput_rps * policy.request.output_tokens,
                usd_per_hour=one.on_demand_usd_per_hour,
                usd_per_1000_requests=one.on_demand_usd_per_hour / 3.6 / one.throughput_rps,
                reaches_slo=one.reaches_slo,
            )
            if best is None or rung.requests_per_second > best.requests_per_second:
                best = rung
        if best is not None:
            rungs.append(best)
    return sorted(rungs, key=lambda rung: rung.usd_per_1000_requests)


def table(library: Library, policy_name: str, model: str | None = None) -> str:
    """The ladder in Markdown."""
    titles = ("type", "GPUs", "copies", "C, requests at a time", "requests/s", "output tokens/s", "USD/h")
    lines = [f"| {' | '.join(titles)} | USD per 1000 requests |", "|---" * 8 + "|"]
    lines += [
        f"| {rung.type} | {rung.hardware} | {rung.copies} | {rung.capacity:.0f} | {rung.requests_per_second:.2f} "
        f"| {rung.output_tokens_per_second:.0f}{'*' if rung.estimate else ''} | {rung.usd_per_hour:.2f} "
        f"| {rung.usd_per_1000_requests:.3f}{'' if rung.reaches_slo else ' (misses the SLO)'} |"
        for rung in ladder(library, policy_name, model)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(read_library(Path()), *(sys.argv[1:] or ["chat"])) + "\n")
