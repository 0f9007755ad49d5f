"""What the demand step says."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.forecast import Outlook


def missing() -> Reason:
    """Neither arrivals nor load could be read; counts and weights are held."""
    text = "Neither arrivals nor load are known. Missing is not zero, so counts and weights are held."
    return Reason(Step.DEMAND, "demand.missing", text)


def idle(outlook: Outlook, demand_rps: float, horizon_seconds: float) -> Reason:
    """Nothing arrives and nothing is in service."""
    return _forecast("idle", outlook, demand_rps, horizon_seconds)


def method(outlook: Outlook, demand_rps: float, horizon_seconds: float) -> Reason:
    """The demand now, and the forecast of the method that the code names."""
    return _forecast(outlook.method, outlook, demand_rps, horizon_seconds)


def burst(burst_rps: float, age_seconds: float, hold_seconds: float) -> Reason:
    """The newest ten seconds were far above the minute, and are met for a while."""
    text = (
        f"A burst of {burst_rps:.2f} rps was seen {age_seconds:.0f} s ago; capacity for it stays for "
        f"{hold_seconds:.0f} s."
    )
    return Reason(Step.DEMAND, "demand.burst", text, {"burst_rps": burst_rps})


def _forecast(name: str, outlook: Outlook, demand_rps: float, horizon_seconds: float) -> Reason:
    error = "" if outlook.error_percent is None else f", mean error {outlook.error_percent:.0f} %"
    text = (
        f"Demand is {demand_rps:.2f} rps; in {horizon_seconds:.0f} s it will be {outlook.rps:.2f} "
        f"(method {outlook.method}{error}), with {outlook.headroom_percent:.0f} % head-room {outlook.upper_rps:.2f}."
    )
    numbers = {
        "demand_rps": demand_rps,
        "forecast_rps": outlook.rps,
        "headroom_percent": outlook.headroom_percent,
        "horizon_seconds": horizon_seconds,
    }
    return Reason(Step.DEMAND, f"demand.{name}", text, numbers)
