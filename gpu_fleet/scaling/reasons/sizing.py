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


def threshold_holds(pool: str, signal: str, required_rps: float) -> Reason:
    """With fewer instances a node signal would pass its limit: they stay."""
    sentence = f"{pool}: with less than {required_rps:.2f} rps of capacity {signal} would pass its limit."
    return Reason(Step.SIZING, "sizing.threshold_holds", sentence, {"required_rps": required_rps})


def threshold_unmoved(pool: str, signal: str, value: float, limit: float, pause_seconds: float) -> Reason:
    """A node signal is over its limit and did not fall when instances came: it asks for none for a while."""
    sentence = (
        f"{pool}: {signal} is {value:.3g}, over its limit of {limit:.3g}, and did not fall when instances came: it "
        f"asks for none for {pause_seconds / 60:.0f} minutes."
    )
    numbers = {"value": value, "limit": limit, "pause_seconds": pause_seconds}
    return Reason(Step.SIZING, "sizing.threshold_unmoved", sentence, numbers)


def _required(code: str, required_rps: float, u_t_r: ArticleFigures, instance_rps: Mapping[str, float]) -> Reason:
    figures = dict(zip("UTR", u_t_r, strict=True))
    measured = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if value is not None)
    numbers = {"required_rps": required_rps} | {name: v for name, v in figures.items() if v is not None}
    each = ", ".join(f"{name} {rps:.2f}" for name, rps in instance_rps.items())
    sentence = f"The fleet must carry {required_rps:.2f} rps ({measured}); an instance may carry: {each}."
    return Reason(Step.SIZING, code, sentence, numbers)
