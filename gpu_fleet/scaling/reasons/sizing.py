"""Reasons of sizing: the work that must be carried, and what an instance of each pool may carry of it."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.decision import Reason, Step

ArticleFigures = tuple[float | None, float | None, float | None]
"""The article's U, T and R; None where not measured."""


def slo(required_rps: float, u_t_r: ArticleFigures, instance_rps: Mapping[str, float]) -> Reason:
    """Sized by waiting time, so that requests keep the SLO."""
    return _required("sizing.slo", required_rps, u_t_r, instance_rps)


def threshold(required_rps: float, u_t_r: ArticleFigures, instance_rps: Mapping[str, float]) -> Reason:
    """Sized by `sizing.target_utilization`."""
    return _required("sizing.threshold", required_rps, u_t_r, instance_rps)


def threshold_passed(pool: str, signal: str, value: float, limit: float, required_rps: float) -> Reason:
    """A node signal over its limit raises the required work; shares its code with `threshold`."""
    sentence = f"{pool}: {signal} is {value:.3g}, over its limit of {limit:.3g}; {required_rps:.2f} rps are required."
    return Reason(Step.SIZING, "sizing.threshold", sentence, {"value": value, "limit": limit})


def _required(code: str, required_rps: float, u_t_r: ArticleFigures, instance_rps: Mapping[str, float]) -> Reason:
    u, t, r = u_t_r
    measured = "U, T and R are unknown"
    numbers = {"required_rps": required_rps}
    if u is not None and t is not None and r is not None:
        measured = f"U {u:.2f}, T {t:.2f}, R {r:.2f}"
        numbers |= {"U": u, "T": t, "R": r}
    each = ", ".join(f"{name} {rps:.2f}" for name, rps in instance_rps.items())
    sentence = f"The fleet must carry {required_rps:.2f} rps ({measured}); an instance may carry: {each}."
    return Reason(Step.SIZING, code, sentence, numbers)
