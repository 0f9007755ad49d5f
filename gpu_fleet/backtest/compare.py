"""A comparison: our policy and its rivals on the same scenarios, each rival with its default and its best target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gpu_fleet.backtest import roster
from gpu_fleet.backtest.progress import SILENT, Progress
from gpu_fleet.backtest.rival_targets import LONG_SECONDS, traffic_of, with_best_target, with_default_target
from gpu_fleet.backtest.roster import Entrant
from gpu_fleet.backtest.run import Run, run
from gpu_fleet.backtest.scenario import Scenario, ScenarioSpec, prepare
from gpu_fleet.backtest.slo_bound import cheapest_with_slo
from gpu_fleet.backtest.workers import Map


class TargetSource(StrEnum):
    """Where a contender's target comes from."""

    NONE = "none"
    """Our policy has no target."""
    DEFAULT = "default"
    TUNED = "tuned"


@dataclass(frozen=True, slots=True, eq=False)
class RunTask:
    """One contender to run in one scenario."""

    scenario: Scenario
    rule: str
    target: TargetSource
    details: bool = False


def rules(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the contenders with these names, ours first; all by default. Raises ValueError for an unknown name."""
    known = (roster.OURS, *roster.RIVALS)
    for name in names or ():
        if name not in known:
            raise ValueError(f"must be among {', '.join(known)} (got {name})")
    return tuple(name for name in known if not names or name in names)


def compare(
    specs: Sequence[ScenarioSpec],
    contenders: Sequence[str],
    workers: Map,
    *,
    defaults: bool | None = None,
    details: bool = False,
    progress: Progress = SILENT,
) -> list[Run]:
    """Run every contender on every trace and seed; return the runs by trace and seed, ours first, then by cost.

    `defaults` says whether rivals also run with their default targets (None: not on traces longer than
    `LONG_SECONDS`). With `roster.CLAIRVOYANT` among the contenders, every run holds the clairvoyant fleet that keeps
    the SLO on its trace and seed; that fleet itself is not among the runs. `details` keeps minutes and decisions of the
    first seed, for the report.
    """
    progress.begin("demand and bound", len(specs))
    scenarios = workers(prepare, specs, lambda spec: progress.done(spec.trace.name))
    tasks = [
        task
        for scenario in scenarios
        for task in _tasks(scenario, contenders, defaults=defaults, details=details and scenario.seed == specs[0].seed)
    ]
    # The longest first, so that no core waits for a long task that began last.
    tasks.sort(key=lambda task: -task.scenario.requests * (3 if task.target is TargetSource.TUNED else 1))
    progress.begin("runs", len(tasks))
    runs = workers(compute, tasks, lambda task: progress.done(f"{task.scenario.trace.name} {task.rule}"))
    fleets = {(run.trace, run.seed): run for run in runs if run.entrant.rule == roster.CLAIRVOYANT}
    traces = list(dict.fromkeys(spec.trace.name for spec in specs))
    return sorted(
        (
            replace(run, slo_clairvoyant=fleets.get((run.trace, run.seed)))
            for run in runs
            if run.entrant.rule != roster.CLAIRVOYANT
        ),
        key=lambda run: (traces.index(run.trace), run.seed, run.entrant.rule != roster.OURS, run.result.cost_usd),
    )


def _tasks(scenario: Scenario, contenders: Sequence[str], *, defaults: bool | None, details: bool) -> list[RunTask]:
    tasks: list[RunTask] = []
    for rule in contenders:
        if rule == roster.OURS:
            tasks.append(RunTask(scenario, rule, TargetSource.NONE, details))
            continue
        if rule == roster.CLAIRVOYANT:
            tasks.append(RunTask(scenario, rule, TargetSource.TUNED))
            continue
        tasks.append(RunTask(scenario, rule, TargetSource.TUNED, details))
        if defaults or (defaults is None and scenario.span_seconds <= LONG_SECONDS):
            tasks.append(RunTask(scenario, rule, TargetSource.DEFAULT))
    return tasks


def compute(task: RunTask) -> Run:
    """Run a task; this is what a worker does."""
    if task.rule == roster.CLAIRVOYANT:
        return cheapest_with_slo(task.scenario)
    match task.target:
        case TargetSource.NONE:
            return run(task.scenario, Entrant(task.rule), traffic=traffic_of(task.scenario), details=task.details)
        case TargetSource.DEFAULT:
            return with_default_target(task.scenario, task.rule)
        case TargetSource.TUNED:
            return with_best_target(task.scenario, task.rule, details=task.details)
