"""Compare a policy with the bound and with every rival on recorded traces: attainment and cost.

python bench/bench_compare.py [--policy chat] [--traces FOLDER_OR_FILES...] [--seeds 5] [--boot 300 120 600]
                              [--hours N] [--contenders a,b] [--jobs N] [--json FILE]

Prints Markdown, as in docs/results.md. All whole traces with five seeds take hours on two cores; --hours 24 takes only
a day of each.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import time
from pathlib import Path

from bench.standings import markdown, standings
from gpu_fleet.backtest.compare import compare, rules
from gpu_fleet.backtest.roster import CLAIRVOYANT
from gpu_fleet.backtest.run import Run
from gpu_fleet.backtest.setting import read_setting
from gpu_fleet.backtest.workers import workers
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.cli.scenario_options import TraceOptions, scenario_specs

ROOT = Path(__file__).resolve().parent.parent


def trace_files(paths: list[Path]) -> list[Path]:
    """Return the files, and the files in the folders."""
    return [
        file
        for path in paths
        for file in (sorted(path.glob("*.csv")) + sorted(path.glob("*.json")) if path.is_dir() else [path])
    ]


def options() -> argparse.Namespace:
    shared = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "traces"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--traces", type=Path, nargs="+", default=[shared], help="files, or folders of them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--boot", type=float, nargs="+", default=[300.0], help="boot times in seconds")
    parser.add_argument("--peak-instances", type=float, default=24.0)
    parser.add_argument("--hours", type=float, help="only the first hours of each trace")
    parser.add_argument("--contenders", help="separated by commas; default all")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    return parser.parse_args()


def main() -> None:
    given = options()
    contenders = rules(given.contenders.split(",") if given.contenders else None)
    setting = read_setting(ROOT, given.policy)
    files = trace_files(given.traces)
    traces = TraceOptions(peak_instances=given.peak_instances, hours=given.hours)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, policy {given.policy}, ", end="")
    print(f"{given.seeds} seeds, peak of {given.peak_instances:g} {setting.middle.name}", end="")
    print(f", the first {given.hours:g} h of each" if given.hours else ", whole traces")
    all_runs: list[Run] = []
    for boot_seconds in given.boot:
        began = time.monotonic()
        specs = scenario_specs(setting, files, traces, range(given.seeds), boot_seconds)
        with progress_bar() as progress, workers(jobs=given.jobs) as pool:
            runs = compare(specs, (*contenders, CLAIRVOYANT), pool, defaults=False, progress=progress)
        all_runs += runs
        print(f"\n### Boot {boot_seconds:g} s\n\n{markdown(standings(runs))}")
        print(f"\nTook {time.monotonic() - began:.0f} s.", flush=True)
        if given.json:
            given.json.write_text(json.dumps([run.row() for run in all_runs], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
