"""The work that a trace demands of each pool, minute by minute.

A request's work is its share of an instance that runs the largest batch within the SLO's time per token
(`gpu_fleet.scaling.profile`). It is measured in typical requests a second of the pool, as `Pool.throughput_rps` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.scaling.policy import LoadUnit, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.service import Service

Floats = NDArray[np.float64]

WINDOW_SECONDS = 60.0


class RequestWindow(Protocol):
    """The requests in one window of a trace, as its `windows` method yields them."""

    @property
    def starts_seconds(self) -> float:
        """Start, in seconds of the trace."""
        ...

    @property
    def ends_seconds(self) -> float:
        """End, in seconds of the trace."""
        ...

    @property
    def input_tokens(self) -> Floats:
        """Prompt length of each request."""
        ...

    @property
    def output_tokens(self) -> Floats:
        """Answer length of each request."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TraceDemand:
    """The demand of each window of a trace."""

    seconds: Floats
    """Length of each window: shape (windows,)."""
    requests: Floats
    """Arrivals in each window: shape (windows,)."""
    work_rps: Floats
    """Work, as typical requests a second of each pool: shape (windows, pools), in the service's order."""
    input_tokens: Floats
    """Mean prompt length of each window; 0 in a window without requests: shape (windows,)."""
    output_tokens: Floats
    """Mean answer length of each window: shape (windows,)."""

    def peak_rps(self, service: Service, pool: str) -> float:
        """Return the busiest window's work, in typical requests a second of this pool: a static fleet's load."""
        return float(self.work_rps[:, _column(service, pool)].max())

    def of_pool(self, service: Service, pool: str) -> TraceDemand:
        """Return the demand of a service that has this pool alone."""
        return replace(self, work_rps=self.work_rps[:, [_column(service, pool)]])

    def between(self, first: int, last: int) -> TraceDemand:
        """Return the demand of the windows from `first` up to but excluding `last`."""
        rows = slice(first, last)
        return TraceDemand(
            self.seconds[rows],
            self.requests[rows],
            self.work_rps[rows],
            self.input_tokens[rows],
            self.output_tokens[rows],
        )


def _column(service: Service, pool: str) -> int:
    return [p.name for p in service.pools].index(pool)


def demand(
    service: Service, windows: Iterable[RequestWindow], profiles: Mapping[str, Profile] | None = None
) -> TraceDemand:
    """Return the demand of a trace's windows: `demand(service, trace.windows(WINDOW_SECONDS), profiles)`.

    `profiles` maps each pool to its serving profile; without it every request counts as a typical one. Raises
    ValueError if a pool has no profile.
    """
    rows = [
        (
            window.ends_seconds - window.starts_seconds,
            float(len(window.input_tokens)),
            window.input_tokens.sum(),
            window.output_tokens.sum(),
        )
        for window in windows
    ]
    seconds, requests, inputs, outputs = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    divisor = np.maximum(requests, 1.0)
    return demand_of_means(service, WindowMeans(seconds, requests, inputs / divisor, outputs / divisor), profiles)


@dataclass(frozen=True, slots=True, eq=False)
class WindowMeans:
    """Counts and mean lengths of windows; every array has shape (windows,)."""

    seconds: Floats
    requests: Floats
    input_tokens: Floats | float
    output_tokens: Floats | float


def demand_of_means(
    service: Service, windows: WindowMeans, profiles: Mapping[str, Profile] | None = None
) -> TraceDemand:
    """Return the demand of windows whose counts and mean lengths are known.

    Raises ValueError if a window has no length, or a pool no profile.
    """
    if (windows.seconds <= 0).any():
        raise ValueError(f"seconds: every window must be longer than 0 (got {windows.seconds.min()})")
    rate_rps = windows.requests / windows.seconds
    columns: list[Floats] = []
    for pool in service.pools:
        if profiles is None:
            columns.append(rate_rps)
            continue
        if pool.name not in profiles:
            raise ValueError(f"profiles: {pool.name} is missing")
        profile = profiles[pool.name]
        policy = service.policy
        typical = instance_capacity(profile, policy.request, policy.slo, LoadUnit.CONCURRENCY).throughput_rps
        full = full_rate_rps(profile, service.policy.slo, windows.input_tokens, windows.output_tokens)
        columns.append(np.where(windows.requests > 0, rate_rps * typical / full, 0.0))
    return TraceDemand(
        seconds=windows.seconds,
        requests=windows.requests,
        work_rps=np.stack(columns, axis=1),
        input_tokens=np.broadcast_to(windows.input_tokens, rate_rps.shape),
        output_tokens=np.broadcast_to(windows.output_tokens, rate_rps.shape),
    )


def full_rate_rps(
    profile: Profile, slo: Slo | None, input_tokens: Floats | float, output_tokens: Floats | float
) -> Floats:
    """Return the requests a second that one instance completes at the largest batch within the SLO.

    This is `gpu_fleet.scaling.profile.instance_capacity` for many mixes of lengths at once. The batch is not rounded
    down to whole requests: its mean over a minute need not be whole, and rounding would put the bound above what is
    possible.

    In a steady state the rate depends on the mix of lengths only through their means. With completions at rate r, a
    batch of b and mean lengths i and o, tokens come at r*o = b/tpot and prompts take r*p(i) of each second, so
    tpot = d(b) + b*p(i)/o for any mix.
    """
    inputs = np.asarray(input_tokens, dtype=np.float64)
    outputs = np.maximum(np.asarray(output_tokens, dtype=np.float64), 1.0)
    prefill = profile.prefill_base_seconds + inputs / profile.prefill_tokens_per_second
    batch = np.clip(profile.kv_cache_tokens / (inputs + outputs / 2), 1.0, float(profile.max_sequences))
    if slo is not None:
        per_sequence = profile.decode_seconds_per_sequence + prefill / outputs
        with np.errstate(divide="ignore"):
            within_slo = (slo.tpot_seconds - profile.decode_base_seconds) / per_sequence
        batch = np.where(per_sequence > 0, np.clip(within_slo, 1.0, batch), batch)
    step = profile.decode_base_seconds + batch * profile.decode_seconds_per_sequence
    return 1.0 / (outputs * step / batch + prefill)
