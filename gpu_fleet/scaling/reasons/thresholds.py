"""What the model says of node signals over their limits."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason, Step


def threshold(pool: str, signal: str, value: float, limit: float, required_rps: float) -> Reason:
    """A node signal is over its limit and raises the capacity required."""
    text = f"{pool}: {signal} is {value:.3g}, over its limit of {limit:.3g}; this requires {required_rps:.2f} rps."
    return Reason(Step.SIZING, "sizing.threshold", text, {"value": value, "limit": limit})
