"""Demand for users without a trace: days and weeks with bursts, or one hour that shows what an autoscaler does.

The shapes are invented, not measured: working hours with a lunch dip, quieter weekends, and random bursts (a
Markov-modulated rate: Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance
Evaluation 18, 1993). The same seed always gives the same trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_fleet.traffic.trace import Floats, RateTrace

DAY_SECONDS = 86_400.0
NOTES = ("generated, not recorded",)
DAY_SHAPE = (
    (0, 0.12), (3, 0.03), (5, 0.0), (6, 0.06), (7, 0.25), (8, 0.55), (9, 0.85), (10, 0.97), (11, 1.0), (12, 0.82),
    (13, 0.78), (14, 0.95), (15, 1.0), (16, 0.96), (17, 0.82), (18, 0.62), (19, 0.55), (20, 0.58), (21, 0.5),
    (22, 0.35), (23, 0.22), (24, 0.12),
)  # fmt: skip
"""Hour, and height of a working day above its night: 0 at 5:00, 1 at 11:00 and 15:00."""
HOUR_SHAPE = (
    (0, 0.45), (4, 0.48), (26, 0.9), (30, 0.92), (37, 0.6), (42, 0.58), (56, 0.98), (58, 1.0), (60, 0.95),
)  # fmt: skip
"""Minute and height of the demo's hour: a morning rise, a lunch dip, and a higher afternoon."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a generated trace. Raises ValueError, naming the field, for a value out of range."""

    days: float = 7.0
    peak_rps: float = 20.0
    """Rate of the highest step, bursts included."""
    night_share: float = 0.2
    """Rate at 5:00 as a share of a working day's height."""
    weekend_share: float = 0.55
    """Height of Saturday and Sunday as a share of a working day's; the trace begins on a Monday at midnight."""
    bursts_per_day: float = 4.0
    """Mean number of bursts."""
    burst_seconds: float = 600.0
    """Mean length of a burst."""
    burst_factor: float = 1.8
    """Rate in a burst as a multiple of the rate without it."""
    noise: float = 0.05
    """Standard deviation of slow noise (correlation time: half an hour) on the logarithm of the rate."""
    step_seconds: float = 60.0
    burstiness: float = 1.5
    """Coefficient of variation of the times between requests within a step."""

    def __post_init__(self) -> None:
        for name in ("days", "peak_rps", "burst_seconds", "step_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0 (got {getattr(self, name)})")
        for name in ("bursts_per_day", "noise", "burstiness"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")
        for name in ("night_share", "weekend_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be from 0 to 1 (got {getattr(self, name)})")
        if not self.burst_factor >= 1:
            raise ValueError(f"burst_factor: must be at least 1 (got {self.burst_factor})")
        if self.days * DAY_SECONDS < self.step_seconds:
            raise ValueError(f"days: must be at least one step of {self.step_seconds:g} s (got {self.days})")
        if self.bursts_per_day * self.burst_seconds >= DAY_SECONDS:
            raise ValueError("bursts_per_day: bursts of burst_seconds would fill the day")


def generate(shape: Shape | None = None, seed: int = 0) -> RateTrace:
    """Generate rates of days and weeks; the highest step is exactly `shape.peak_rps`."""
    shape = shape or Shape()
    random = np.random.default_rng(seed)
    at = np.arange(max(1, round(shape.days * DAY_SECONDS / shape.step_seconds)), dtype=np.float64) * shape.step_seconds
    hours, heights = zip(*DAY_SHAPE, strict=True)
    day = np.interp(at % DAY_SECONDS / 3600, hours, heights)
    rate = shape.night_share + (1 - shape.night_share) * day
    rate *= np.where(at // DAY_SECONDS % 7 >= 5, shape.weekend_share, 1.0)  # Monday is 0
    rate *= np.where(_bursting(at, shape, random), shape.burst_factor, 1.0)
    rate *= _noise(len(at), shape.step_seconds, shape.noise, random)
    rps = rate * (shape.peak_rps / rate.max())
    return RateTrace("generated", at, rps, shape.step_seconds, burstiness=shape.burstiness, notes=NOTES)


def hour(peak_rps: float = 12.0, seed: int = 0) -> RateTrace:
    """Generate the demo's hour: a rise, a dip and a higher rise, so that pools have a reason to grow and shrink.

    The rates are in steps of 10 s; the highest is exactly `peak_rps`. Raises ValueError for a peak not above 0.
    """
    if not peak_rps > 0:
        raise ValueError(f"peak_rps: must be above 0 (got {peak_rps})")
    step_seconds = 10.0
    at = np.arange(360, dtype=np.float64) * step_seconds
    minutes, heights = zip(*HOUR_SHAPE, strict=True)
    rate = np.interp(at / 60, minutes, heights) * _noise(len(at), step_seconds, 0.04, np.random.default_rng(seed))
    rps = rate * (peak_rps / rate.max())
    return RateTrace("generated-hour", at, rps, step_seconds, burstiness=1.2, notes=NOTES)


def _bursting(at: Floats, shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Return whether each step is in a burst: a two-state Markov chain in continuous time, read at each step."""
    if shape.bursts_per_day == 0 or shape.burst_factor == 1:
        return np.zeros(len(at), dtype=np.bool_)
    quiet_seconds = DAY_SECONDS / shape.bursts_per_day - shape.burst_seconds
    end = float(at[-1]) + shape.step_seconds
    pairs = int(end / (quiet_seconds + shape.burst_seconds) * 2) + 20
    switches = np.cumsum(
        np.column_stack(
            (random.exponential(quiet_seconds, pairs), random.exponential(shape.burst_seconds, pairs))
        ).ravel()
    )
    return np.searchsorted(switches, at, side="right") % 2 == 1


def _noise(count: int, step_seconds: float, deviation: float, random: np.random.Generator) -> Floats:
    """Return exp of a first-order autoregression with that deviation and a correlation time of half an hour."""
    if deviation == 0:
        return np.ones(count)
    decay = float(np.exp(-step_seconds / 1800))
    shocks = random.standard_normal(count) * deviation * np.sqrt(1 - decay**2)
    values = np.empty(count)
    value = random.standard_normal() * deviation
    for i in range(count):
        value = decay * value + shocks[i]
        values[i] = value
    return np.exp(values)
