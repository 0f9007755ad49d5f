"""`gpu-fleet replay`: the decisions of another policy on the same records."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpu_fleet.config.composition import pool
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PoolPlan, plan_problems
from gpu_fleet.config.library import Library
from gpu_fleet.config.policy_files import policy_library
from gpu_fleet.config.settings import PoolSettings
from gpu_fleet.operate.records import read_records
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.service import Pool, Service


def replay(
    record: Annotated[Path, typer.Argument(help="A decision record, or JSON lines of the scaler's log.")],
    policy: Annotated[str, typer.Option(help="A policy: a file, or a name in policies/ or own/policies/.")],
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
) -> None:
    """Decide each record again with another policy, and show both decisions side by side.

    Each record is decided by itself, from its own state. `gpu-fleet backtest` shows how another policy's fleet develops
    over time.
    """
    records = read_records(record)
    library, name = policy_library(root, policy)
    console = Console(highlight=False)
    for one in records:
        try:
            service = with_policy(one.service, name, library)
        except DocumentError as error:
            raise DocumentError(
                Problem(str(record), 0, 0, problem.key, problem.text) for problem in error.problems
            ) from None
        other = decide(service, one.observation, one.state, one.now)
        console.print(_table(one, other, name))
        _reasons(console, "recorded", one.decision)
        _reasons(console, name, other)


def with_policy(service: Service, name: str, library: Library) -> Service:
    """Return the recorded service under another policy: the same pools, with the capacity for that policy's requests.

    Raises DocumentError if the policy's model does not fit the pools' types.
    """
    policy = library.policies[name]
    gpus_per_copy = {one.name: _gpus_per_copy(one, policy, library) for one in service.pools}
    plan = {
        one.name: PoolPlan(
            one.types,
            one.min_instances,
            one.max_instances,
            one.spot_percent,
            gpus_per_copy[one.name],
            [other.types for other in one.alternatives],
        )
        for one in service.pools
    }
    if policy.workload is not service.policy.workload:
        text = f"must be {service.policy.workload}, as the record's (got {policy.workload})"
        raise DocumentError([Problem("record", 0, 0, f"{name}.workload", text)])
    # Only a type that cannot serve the model makes a decision impossible. Bounds that do not suit the other policy
    # (such as a minimum above 0 with scale to zero) are the record's, and stay.
    wrong = [problem for problem in plan_problems(name, plan, library) if _concerns_a_type(problem.path)]
    if wrong:
        raise DocumentError(Problem("record", 0, 0, ".".join(map(str, p.path)), p.text) for p in wrong)

    def recomputed(one: Pool) -> Pool:
        settings = PoolSettings(
            types=one.types,
            alternatives=tuple(other.types for other in one.alternatives),
            min=one.min_instances,
            max=max(1, one.max_instances),
            gpus_per_copy=gpus_per_copy[one.name],
        )
        composed = pool(one.name, settings, name, library)
        figures = (
            "capacity",
            "throughput_rps",
            "slowdown",
            "service_seconds",
            "slots",
            "first_token_seconds",
            "reaches_slo",
            "alternatives",
        )
        return one.model_copy(update={figure: getattr(composed, figure) for figure in figures})

    return service.model_copy(update={"policy": policy, "pools": tuple(recomputed(one) for one in service.pools)})


def _concerns_a_type(path: KeyPath) -> bool:
    """Whether an error is at one type (`pools.l4.types[0]`, `pools.l4.alternatives[0][1]`)."""
    return "types" in path or (path[2:3] == ("alternatives",) and len(path) > 3)


def _gpus_per_copy(one: Pool, policy: Policy, library: Library) -> int | None:
    """Return the largest number of GPUs per copy with a profile; a record does not say how many it was."""
    instance_type = library.catalog.types.get(one.types[0])
    model = library.profiles.models.get(policy.model)
    if instance_type is None or model is None:
        return None
    class_gpus = [p.gpus for p in model.profiles if p.gpu == instance_type.gpu]
    return max((gpus for gpus in class_gpus if instance_type.gpus % gpus == 0), default=None)


def _table(one: Record, other: Decision, name: str) -> Table:
    when = dt.datetime.fromtimestamp(one.now, dt.UTC)
    table = Table(title=f"{one.service.name}, {when:%Y-%m-%d %H:%M:%S} UTC", title_justify="left")
    table.add_column("")
    for title in ("before", "recorded", name):
        table.add_column(escape(title), justify="right")
    for pool_name, target in one.decision.targets.items():
        seen = one.observation.pools[pool_name]
        new = other.targets[pool_name]
        table.add_row(
            f"{pool_name} desired", str(seen.desired), str(target.desired), _marked(target.desired, new.desired)
        )
        table.add_row(f"{pool_name} weight", str(seen.weight), str(target.weight), _marked(target.weight, new.weight))
    was, now = one.decision.signals, other.signals
    table.add_row("USD/h", "", f"{was.usd_per_hour:.2f}", _marked(f"{was.usd_per_hour:.2f}", f"{now.usd_per_hour:.2f}"))
    table.add_row("held", "", str(one.decision.held).lower(), _marked(one.decision.held, other.held))
    return table


def _marked(before: object, after: object) -> str:
    text = str(after).lower() if isinstance(after, bool) else str(after)
    return text if before == after else f"[bold]{text}[/]"


def _reasons(console: Console, title: str, decision: Decision) -> None:
    console.print(f"[bold]{escape(title)}[/]")
    for reason in decision.reasons:
        console.print(
            f"  {reason.step}: {escape(reason.sentence)} [dim]{escape(f'[{reason.code}]')}[/]", soft_wrap=True
        )
