"""Where the default policy stands on recorded traces: attainment, cost against the bound and against every rival.

python bench/bench_compare.py [--policy chat] [--traces FOLDER_OR_FILES...] [--seeds 5] [--boot 300 120 600]
                              [--hours N] [--contenders a,b] [--jobs N] [--json FILE]

Prints markdown, as it stands in docs/results.md. All traces whole with five seeds take hours on two cores; --hours 24
takes a day of each.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import time
from pathlib import Path

from rich.console import Console

from bench.standings import markdown, standings
from gpu_fleet.backtest.backtest import Run, setting
from gpu_fleet.backtest.compare import compare, rules
from gpu_fleet.backtest.workers import workers
from gpu_fleet.cli.compare import plan, progress

ROOT = Path(__file__).resolve().parent.parent


def traces(given: list[Path]) -> list[Path]:
    """The files, and those in the folders."""
    return [
        file
        for path in given
        for file in (sorted(path.glob("*.csv")) + sorted(path.glob("*.json")) if path.is_dir() else [path])
    ]


def main() -> None:
    shared = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "traces"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--traces", type=Path, nargs="+", default=[shared], help="files, or folders of them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--boot", type=float, nargs="+", default=[300.0], help="boot times in seconds")
    parser.add_argument("--peak-instances", type=float, default=24.0)
    parser.add_argument("--hours", type=float, help="only the first so many hours of each trace")
    parser.add_argument("--contenders", help="separated by commas; default all")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", type=Path, help="write every run to this file, too")
    options = parser.parse_args()
    names = options.contenders.split(",") if options.contenders else None
    held = setting(ROOT, options.policy)
    files = traces(options.traces)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, policy {options.policy}, ", end="")
    print(f"{options.seeds} seeds, peak of {options.peak_instances:g} {held.middle.name}", end="")
    print(f", the first {options.hours:g} h of each" if options.hours else ", whole traces")
    everything: list[Run] = []
    for boot_seconds in options.boot:
        begin_at = time.monotonic()
        planned = plan(
            held, files, None, options.peak_instances, options.hours, tuple(range(options.seeds)), boot_seconds
        )
        with progress(Console(stderr=True)) as (begin, done), workers(jobs=options.jobs) as everywhere:
            runs = compare(planned, rules(names), everywhere, defaults=False, begin=begin, done=done)
        everything += runs
        print(f"\n### Boot {boot_seconds:g} s\n\n{markdown(standings(runs))}")
        print(f"\nTook {time.monotonic() - begin_at:.0f} s.", flush=True)
        if options.json:
            options.json.write_text(json.dumps([run.row() for run in everything], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
