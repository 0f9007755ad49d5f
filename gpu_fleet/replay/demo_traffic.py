"""The demo's traffic: a trace, or a made-up hour, cut and scaled to the stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_fleet.replay.hardware import instance_label
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.traffic import RateTrace, Trace, TraceError, crop, hour, peak_rps, read, scale_to
from gpu_fleet.traffic.errors import trace_errors

PEAK_INSTANCES = 12
PEAK_SHARE_OF_MAXIMUM = 0.75
MINUTES = 60
GENERATED = "the generated hour"


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """What to replay, and how much of it."""

    trace: Path | None = None
    """None: an hour is made up."""
    peak_instances: int | None = None
    """Scale the traffic so that its busiest minute is what this many instances of the middle pool complete. 0 leaves
    it as it is; None is 12, or three quarters of the pool's maximum if that is less."""
    minutes: int | None = None
    """None: 60."""


@dataclass(frozen=True, slots=True)
class DemoTraffic:
    """The replayed trace, and how it came about."""

    trace: Trace
    source: str
    """The file's name, or that it was made up."""
    peak_rps: float
    """Mean rate of its busiest minute."""
    scaled_by: float | None
    """Requests replayed for each of the file's; None where it was not scaled."""
    peak_pool: str
    peak_instances: int
    """The busiest minute is what this many instances of `peak_pool` complete; 0 where the traffic was not scaled."""
    left_out_minutes: int
    """Minutes of the trace that are not replayed."""


def demo_traffic(service: Service, options: TrafficOptions, seed: int) -> DemoTraffic:
    """Read or make up the traffic. Raises TraceError, with the file's name, for a trace that cannot be replayed."""
    pool = _middle(service)
    peak_instances = _peak_instances(options, pool)
    scaled_rps, file = peak_instances * pool.throughput_rps, options.trace
    with trace_errors(file or GENERATED):
        whole: Trace | RateTrace = read(file) if file else hour(scaled_rps or PEAK_INSTANCES, seed)
        if whole.span_seconds < 60:
            raise TraceError("", f"must be at least a minute long (is {whole.span_seconds:.3g} s)", str(file))
        seconds = 60.0 * (options.minutes or MINUTES)
        trace = whole if whole.span_seconds <= seconds else crop(whole, 0.0, seconds)
        if isinstance(trace, RateTrace):
            trace = trace.sample(seed)
        before = len(trace)
        if peak_instances:
            scaled = scale_to(trace, scaled_rps, seed=seed)
            trace = scaled if isinstance(scaled, Trace) else scaled.sample(seed)
    return DemoTraffic(
        trace=trace,
        source=file.name if file else GENERATED,
        peak_rps=peak_rps(trace),
        scaled_by=len(trace) / before if peak_instances and file else None,
        peak_pool=instance_label(pool),
        peak_instances=peak_instances,
        left_out_minutes=max(0, round((whole.span_seconds - trace.span_seconds) / 60)),
    )


def _peak_instances(options: TrafficOptions, pool: Pool) -> int:
    if options.peak_instances is not None:
        return options.peak_instances
    return max(1, min(PEAK_INSTANCES, int(PEAK_SHARE_OF_MAXIMUM * pool.max_instances)))


def _middle(service: Service) -> Pool:
    by_work = sorted(service.pools, key=lambda pool: pool.throughput_rps)
    return by_work[(len(by_work) - 1) // 2]
