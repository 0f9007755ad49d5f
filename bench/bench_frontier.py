"""Why the default policy stands where it stands: what attainment costs, what a boot costs, and which minutes failed.

python bench/bench_frontier.py [--policy chat] [--traces FILE...] [--seeds 2] [--hours 24] [--jobs N]

Prints markdown, as it stands in docs/results.md: attainment at times the clairvoyant fleet without boot (that of the
same trace at the same height, so that all figures of a row compare).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console

from gpu_fleet.backtest.backtest import Entrant, Run, Setting, run, scenario, setting
from gpu_fleet.backtest.compare import Planned
from gpu_fleet.backtest.roster import OURS
from gpu_fleet.backtest.workers import workers
from gpu_fleet.cli.compare import plan, progress

ROOT = Path(__file__).resolve().parent.parent
CONFIDENCES = (0.8, 0.95, 0.99, None, 0.9995)
"""Of the forecast; None is the policy's own."""
BOOTS_SECONDS = (0.0, 120.0, 300.0, 600.0)
WORST_MINUTES = 0.01
"""Share of the minutes whose part in the failed requests is told."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a trace at a seed, with a confidence and a boot time."""

    planned: Planned
    confidence: float | None
    boot_seconds: float


def run_case(case: Case) -> Run:
    """The policy in it, with its minutes."""
    one = case.planned
    there = scenario(_with_confidence(one.setting, case.confidence), one.trace, one.factor, one.seed, case.boot_seconds)
    return run(there, Entrant(OURS), details=True)


def _with_confidence(held: Setting, confidence: float | None) -> Setting:
    policy = held.service.policy
    if confidence is None:
        return held
    forecast = policy.forecast.model_copy(update={"confidence": confidence})
    return held.with_policy(policy.model_copy(update={"forecast": forecast}))


def at(runs: Sequence[Run]) -> str:
    """Attainment at a ratio, the mean over the seeds."""
    return f"{100 * fmean(r.result.slo_attainment for r in runs):.2f} % at {fmean(r.ratio for r in runs):.2f}"


def worst(runs: Sequence[Run]) -> str:
    """How much of all that failed did so in the worst minutes."""
    shares = []
    for one in runs:
        series = one.result.series
        assert series is not None, "runs keep their minutes here"
        failed = np.sort(series.ended - series.attained)[::-1]
        count = max(1, round(WORST_MINUTES * len(failed)))
        shares.append(float(failed[:count].sum() / max(1, failed.sum())))
    return f"{100 * fmean(shares):.0f} %"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As markdown."""
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    shared = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "traces"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--traces", type=Path, nargs="+", default=sorted(shared.glob("*.csv")))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hours", type=float, default=24.0, help="only the first so many hours of each trace")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    held = setting(ROOT, options.policy)
    planned = plan(held, options.traces, None, None, options.hours, tuple(range(options.seeds)), 300.0)
    settings = [(c, 300.0) for c in CONFIDENCES] + [(None, boot) for boot in BOOTS_SECONDS if boot != 300.0]
    cases = [Case(one, confidence, boot) for one in planned for confidence, boot in settings]
    with progress(Console(stderr=True)) as (begin, done), workers(jobs=options.jobs) as everywhere:
        begin("runs", len(cases))
        runs = everywhere(
            run_case, cases, lambda case: done(f"{case.planned.trace.name}, boot {case.boot_seconds:g} s")
        )
    found = dict(zip(cases, runs, strict=True))

    def of(name: str, confidence: float | None, boot_seconds: float) -> list[Run]:
        return [
            r for c, r in found.items() if (r.trace, c.confidence, c.boot_seconds) == (name, confidence, boot_seconds)
        ]

    names = list(dict.fromkeys(r.trace for r in runs))
    own = held.service.policy.forecast_confidence
    said = [f"confidence {own if c is None else c:g}{'' if c else ' (its own)'}" for c in CONFIDENCES]
    print(f"{options.seeds} seeds, the first {options.hours:g} h of each trace, policy {options.policy}.\n")
    print(table(["trace, boot 300 s", *said], [[n, *(at(of(n, c, 300.0)) for c in CONFIDENCES)] for n in names]))
    print()
    heads = [
        "trace, its own confidence",
        *(f"boot {b:g} s" for b in BOOTS_SECONDS),
        "failed in the worst 1 % of minutes",
    ]
    rows = [[n, *(at(of(n, None, b)) for b in BOOTS_SECONDS), worst(of(n, None, 300.0))] for n in names]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
