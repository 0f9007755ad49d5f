"""What a faster boot is worth: cost and attainment at the boot of each path, beside the fleet of static peak.

python bench/bench_boot.py [--policy chat] [--trace FILE] [--hours 3] [--seeds 1] [--contenders gpu-fleet,static-peak]
                           [--jobs N]

Prints Markdown. Every path has its own boot by phases and its own price of a launch (docs/boot.md); pools, policy,
traffic and seeds are the same. Without --trace it draws hours of a working day with bursts, so that it needs no file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_fleet.backtest.compare import compare, rules
from gpu_fleet.backtest.run import Run
from gpu_fleet.backtest.scenario import ScenarioSpec
from gpu_fleet.backtest.setting import Setting, read_setting
from gpu_fleet.backtest.trace_scale import factor_for
from gpu_fleet.backtest.workers import workers
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.config.boot_estimate import BootPath, expected_boot, launch_price
from gpu_fleet.config.boot_paths import BOOT_PATHS
from gpu_fleet.config.library import Library
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.traffic import RateTrace, Trace, crop, read
from gpu_fleet.traffic.generator import Shape, generate

ROOT = Path(__file__).resolve().parent.parent
PEAK_INSTANCES = 12.0
MORNING_SECONDS = 6 * 3600.0


def on_path(setting: Setting, path: BootPath, known: Library) -> Setting:
    """Return the setting with the boots and launch prices of this path in every pool."""
    policy = setting.service.policy
    model = known.profiles.models[policy.model]
    boots, pools = {}, []
    for pool in setting.service.pools:
        kind = known.catalog.types[pool.types[0]]
        placement = model.placement(kind.gpu, kind.gpus // pool.copies) or model.profiles[0]
        boot = expected_boot(kind, model, placement, known.catalog, path)
        price = launch_price(kind, model, boot, known.catalog, path)
        boots[pool.name] = boot
        pools.append(pool.model_copy(update={"lead_seconds": boot.seconds, "launch_usd": price.extra_usd}))
    service = setting.service.model_copy(update={"pools": tuple(pools)})
    return replace(setting, service=service, boots=boots)


@dataclass(frozen=True, slots=True)
class Worth:
    """One contender on one path: means over the seeds."""

    path: str
    contender: str
    boot_seconds: float
    slo_attainment: float
    usd: float
    launch_usd: float
    launches: float
    static_usd: float

    @classmethod
    def of(cls, path: str, runs: Sequence[Run]) -> Worth:
        """Return the means of one contender's runs."""
        mean = statistics.fmean
        return cls(
            path,
            runs[0].entrant.name,
            runs[0].boot_seconds,
            mean(run.result.slo_attainment for run in runs),
            mean(run.result.cost_usd for run in runs),
            mean(run.result.launch_usd for run in runs),
            mean(run.result.launches for run in runs),
            mean(run.static_usd for run in runs),
        )


def measure(
    specs: Sequence[ScenarioSpec], known: Library, contenders: Sequence[str], jobs: int | None = None
) -> list[Worth]:
    """Run the contenders at the boot of each path."""
    found: list[Worth] = []
    for name, path in BOOT_PATHS.items():
        of_path = [replace(spec, setting=on_path(spec.setting, path, known)) for spec in specs]
        with progress_bar() as progress, workers(jobs=jobs) as pool:
            runs = compare(of_path, rules(contenders), pool, defaults=False, progress=progress)
        names = dict.fromkeys(run.entrant.name for run in runs)
        found += [Worth.of(name, [run for run in runs if run.entrant.name == one]) for one in names]
    return found


def markdown(found: Sequence[Worth], hours: float) -> str:
    """Return the measurement as a table."""
    lines = [
        "| path | contender | boot, s | within SLO | USD | of it, launches | launches an hour | of static peak |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.path} | {one.contender} | {one.boot_seconds:.0f} | {one.slo_attainment:.3%} | {one.usd:.2f} "
        f"| {one.launch_usd:.2f} | {one.launches / hours:.1f} | {one.usd / one.static_usd:.0%} |"
        for one in found
    ]
    return "\n".join(lines)


def traffic(path: Path | None, hours: float, peak_rps: float) -> Trace | RateTrace:
    """Return the first hours of a trace, or of a drawn working day from its morning on."""
    if path is None:
        return crop(generate(Shape(days=1, peak_rps=peak_rps)), MORNING_SECONDS, MORNING_SECONDS + hours * 3600)
    trace = read(path)
    return crop(trace, 0.0, hours * 3600) if hours * 3600 < trace.span_seconds else trace


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--contenders", default="gpu-fleet")
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    began = time.monotonic()
    setting = read_setting(ROOT, given.policy)
    trace = traffic(given.trace, given.hours, PEAK_INSTANCES * setting.middle.throughput_rps)
    factor = factor_for(setting, trace, PEAK_INSTANCES)
    specs = [ScenarioSpec(setting, trace, factor, seed) for seed in range(given.seeds)]
    found = measure(specs, read_library(ROOT), given.contenders.split(","), given.jobs)
    hours = trace.span_seconds / 3600
    print(
        f"policy {given.policy}, {trace.name}, {hours:.3g} h, {given.seeds} seeds, peak of {PEAK_INSTANCES:g} ", end=""
    )
    print(f"{setting.middle.name}\n\n{markdown(found, hours)}\n\nTook {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
