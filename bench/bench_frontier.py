"""What attainment costs, what a boot costs, and which minutes fail, for a policy on recorded traces.

python bench/bench_frontier.py [--policy chat] [--traces FILE...] [--seeds 2] [--hours 24] [--jobs N]

Prints Markdown, as in docs/results.md: attainment, and the cost over that of the clairvoyant fleet without boot. That
fleet is the same for all figures of a row, so they can be compared.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from gpu_fleet.backtest.roster import OURS, Entrant
from gpu_fleet.backtest.run import Run, run
from gpu_fleet.backtest.scenario import ScenarioSpec, prepare
from gpu_fleet.backtest.setting import Setting, read_setting
from gpu_fleet.backtest.workers import workers
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.cli.scenario_options import TraceOptions, scenario_specs

ROOT = Path(__file__).resolve().parent.parent
CONFIDENCES = (0.8, 0.95, 0.99, None, 0.9995)
"""Of the forecast; None is the policy's own."""
BOOT_SECONDS = 300.0
BOOTS_SECONDS = (0.0, 120.0, BOOT_SECONDS, 600.0)
WORST_MINUTES = 0.01
"""The share of minutes with most failures."""


@dataclass(frozen=True, slots=True)
class ForecastCase:
    """One run: a trace at a seed and a boot time, with a confidence."""

    spec: ScenarioSpec
    confidence: float | None

    @property
    def key(self) -> tuple[str, float | None, float]:
        """The case without its seed."""
        return (self.spec.trace.name, self.confidence, self.spec.boot_seconds)


def run_case(case: ForecastCase) -> Run:
    """Run the policy, and keep its minutes."""
    setting = _with_confidence(case.spec.setting, case.confidence)
    return run(prepare(replace(case.spec, setting=setting)), Entrant(OURS), details=True)


def _with_confidence(setting: Setting, confidence: float | None) -> Setting:
    policy = setting.service.policy
    if confidence is None:
        return setting
    forecast = policy.forecast.model_copy(update={"confidence": confidence})
    return setting.with_policy(policy.model_copy(update={"forecast": forecast}))


def figures(runs: Sequence[Run]) -> str:
    """Return attainment and ratio, the means over the seeds."""
    return f"{100 * fmean(r.result.slo_attainment for r in runs):.2f} % at {fmean(r.ratio for r in runs):.2f}"


def failed_in_worst_minutes(runs: Sequence[Run]) -> str:
    """Return the share of all failed requests that failed in the worst minutes."""
    shares = []
    for one in runs:
        series = one.result.series
        assert series is not None, "runs keep their minutes here"
        failed = np.sort(series.ended - series.attained)[::-1]
        count = max(1, round(WORST_MINUTES * len(failed)))
        shares.append(float(failed[:count].sum() / max(1, failed.sum())))
    return f"{100 * fmean(shares):.0f} %"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def options() -> argparse.Namespace:
    shared = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "traces"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--traces", type=Path, nargs="+", default=sorted(shared.glob("*.csv")))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hours", type=float, default=24.0, help="only the first hours of each trace")
    parser.add_argument("--jobs", type=int)
    return parser.parse_args()


def main() -> None:
    given = options()
    setting = read_setting(ROOT, given.policy)
    specs = scenario_specs(setting, given.traces, TraceOptions(hours=given.hours), range(given.seeds), BOOT_SECONDS)
    variants = [(confidence, BOOT_SECONDS) for confidence in CONFIDENCES]
    variants += [(None, boot) for boot in BOOTS_SECONDS if boot != BOOT_SECONDS]
    cases = [
        ForecastCase(replace(spec, boot_seconds=boot), confidence) for spec in specs for confidence, boot in variants
    ]
    with progress_bar() as progress, workers(jobs=given.jobs) as pool:
        progress.begin("runs", len(cases))
        runs = pool(
            run_case, cases, lambda case: progress.done(f"{case.spec.trace.name}, boot {case.spec.boot_seconds:g} s")
        )
    runs_of: dict[tuple[str, float | None, float], list[Run]] = {}
    for case, one in zip(cases, runs, strict=True):
        runs_of.setdefault(case.key, []).append(one)
    names = list(dict.fromkeys(spec.trace.name for spec in specs))
    own = setting.service.policy.forecast_confidence
    print(f"{given.seeds} seeds, the first {given.hours:g} h of each trace, policy {given.policy}.\n")
    heads = [f"confidence {own if c is None else c:g}{'' if c else ' (its own)'}" for c in CONFIDENCES]
    rows = [[name, *(figures(runs_of[name, c, BOOT_SECONDS]) for c in CONFIDENCES)] for name in names]
    print(table([f"trace, boot {BOOT_SECONDS:g} s", *heads], rows))
    print()
    heads = [f"boot {boot:g} s" for boot in BOOTS_SECONDS]
    rows = [
        [
            name,
            *(figures(runs_of[name, None, boot]) for boot in BOOTS_SECONDS),
            failed_in_worst_minutes(runs_of[name, None, BOOT_SECONDS]),
        ]
        for name in names
    ]
    print(table(["trace, its own confidence", *heads, "failed in the worst 1 % of minutes"], rows))


if __name__ == "__main__":
    main()
