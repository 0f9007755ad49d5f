"""The options that choose scenarios: which part of a trace, at which scale, with which seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_fleet.backtest.scenario import ScenarioSpec
    from gpu_fleet.backtest.setting import Setting
    from gpu_fleet.traffic import RateTrace, Trace

BYTES_PER_REQUEST = 120
"""Memory while single requests are copied and sorted: three columns of 8 bytes, source, order and shift, and copies."""


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """`--scale`, `--peak-instances`, `--hours` and `--clients`."""

    scale: float | None = None
    peak_instances: float | None = None
    hours: float | None = None
    clients: int = 1000

    def check(self) -> None:
        """Raise DocumentError if the options contradict each other or have wrong values."""
        if self.scale is not None and self.peak_instances is not None:
            raise option_error("--scale", "does not go with --peak-instances: both set the trace's scale")
        values = {"--scale": self.scale, "--peak-instances": self.peak_instances, "--hours": self.hours}
        for option, value in values.items():
            if value is not None and not 0 < value < float("inf"):
                raise option_error(option, f"must be above 0 (got {value:g})")

    def cut(self, trace: Trace | RateTrace) -> Trace | RateTrace:
        """Return the first hours of the trace, or all of it."""
        from gpu_fleet.traffic import crop

        if self.hours is None or self.hours * 3600 >= trace.span_seconds:
            return trace
        return crop(trace, 0.0, self.hours * 3600)

    def factor(self, setting: Setting, trace: Trace | RateTrace) -> float:
        """Return the factor by which the trace's requests are multiplied."""
        from gpu_fleet.backtest.trace_scale import PEAK_INSTANCES, factor_for

        if self.scale is not None:
            return self.scale
        return factor_for(setting, trace, PEAK_INSTANCES if self.peak_instances is None else self.peak_instances)


def seeds_of(seed: int | None, seeds: int | None) -> tuple[int, ...]:
    """Return the seeds to run. Raises DocumentError if both options are given."""
    if seed is not None and seeds is not None:
        raise option_error("--seeds", "does not go with --seed: one names a seed, the other counts them from 0")
    return tuple(range(seeds)) if seeds is not None else (seed or 0,)


def scenario_specs(
    setting: Setting, files: Sequence[Path], options: TraceOptions, seeds: Sequence[int], boot_seconds: float | None
) -> list[ScenarioSpec]:
    """Return a scenario for each trace and seed. Raises DocumentError for wrong options and traces."""
    from gpu_fleet.backtest.scenario import ScenarioSpec
    from gpu_fleet.simulator.client_affinity import ClientPopulation
    from gpu_fleet.traffic.errors import trace_errors

    options.check()
    specs: list[ScenarioSpec] = []
    for path, whole in _distinct(files):
        with trace_errors(path):
            trace = options.cut(whole)
            factor = options.factor(setting, trace)
        clients = ClientPopulation(options.clients)
        specs += [ScenarioSpec(setting, trace, factor, seed, boot_seconds, clients) for seed in seeds]
    return specs


def _distinct(files: Sequence[Path]) -> list[tuple[Path, Trace | RateTrace]]:
    """Read the traces, each under a name of its own."""
    from gpu_fleet.traffic import read

    traces: list[tuple[Path, Trace | RateTrace]] = []
    for path in files:
        trace = read(path)
        names = {other.name for _, other in traces}
        if trace.name in names:
            trace = replace(trace, name=str(path))
        if trace.name in names:
            raise option_error("--trace", f"is given twice: {path}")
        traces.append((path, trace))
    return traces


def check_memory(specs: Sequence[ScenarioSpec], jobs: int | None) -> None:
    """Raise DocumentError if the workers would need more memory for single requests than is free.

    Rates need little: only ten minutes of requests are drawn at a time.
    """
    import psutil

    from gpu_fleet.traffic import Trace

    most = max((len(spec.trace) * spec.factor for spec in specs if isinstance(spec.trace, Trace)), default=0.0)
    needed = most * BYTES_PER_REQUEST * (jobs or os.cpu_count() or 1)
    free = psutil.virtual_memory().available
    if needed > free:
        text = f"{most:,.0f} requests need about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
        raise option_error("--trace", f"{text}; take --hours, a lower --peak-instances or --jobs 1")


def option_error(option: str, text: str) -> Exception:
    """Return an error about an option, as the command line prints it."""
    from gpu_fleet.config.document import DocumentError, Problem

    return DocumentError([Problem("", 0, 0, option, text)])
