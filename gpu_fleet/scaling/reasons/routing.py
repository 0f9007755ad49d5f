"""Reasons of routing: why the weights move or stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpu_fleet.scaling.decision import Reason, Step


def none() -> Reason:
    """No pool can take traffic."""
    return Reason(Step.ROUTING, "routing.none", "No pool has ready instances: the weights stay as they are.")


def wait() -> Reason:
    """This run comes too soon after the last one that moved weights."""
    sentence = "The weights were reviewed less than half a minute ago: they wait for the next run."
    return Reason(Step.ROUTING, "routing.wait", sentence)


def static_unready(ready: Iterable[str]) -> Reason:
    """The static weights leave no ready pool any traffic."""
    sentence = f"routing.static_weights gives the ready pools no weight ({', '.join(ready)}): shared by capacity."
    return Reason(Step.ROUTING, "routing.static_unready", sentence)


def drift(spread_percent: float, drift_percent: float) -> Reason:
    """Strategy `auto` starts to count response times."""
    sentence = (
        f"Shared by capacity, the pools' loads are {spread_percent:.0f} % apart: response times count from now on."
    )
    return Reason(Step.ROUTING, "routing.drift", sentence, _spread(spread_percent, drift_percent))


def slow(response_time: float, limit: float) -> Reason:
    """Strategy `auto` starts to count response times, since T is above its limit (mode `threshold`)."""
    sentence = f"T is {response_time:.2f}, above {limit:.2f}: response times count from now on."
    return Reason(Step.ROUTING, "routing.slow", sentence, {"T": response_time, "limit": limit})


def even(spread_percent: float, drift_percent: float) -> Reason:
    """Strategy `auto` stops counting response times."""
    sentence = (
        f"Shared by capacity, the pools' loads would be {spread_percent:.0f} % apart: response times no longer count."
    )
    return Reason(Step.ROUTING, "routing.even", sentence, _spread(spread_percent, drift_percent))


def empty(emptied: Iterable[str], off_percent: float, weights: Mapping[str, int]) -> Reason:
    """Pools lose the last of their traffic."""
    sentence = f"No more traffic to {', '.join(emptied)}; {_shares(weights)}."
    return Reason(Step.ROUTING, "routing.empty", sentence, _figures(off_percent, weights))


def fill(filled: Iterable[str], off_percent: float, weights: Mapping[str, int]) -> Reason:
    """Pools get their first traffic."""
    sentence = f"First traffic to {', '.join(filled)}; {_shares(weights)}."
    return Reason(Step.ROUTING, "routing.fill", sentence, _figures(off_percent, weights))


def shift(off_percent: float, weights: Mapping[str, int]) -> Reason:
    """Shares move among pools that all have traffic."""
    sentence = f"A share is off by {off_percent:.1f} % of the traffic; {_shares(weights)}."
    return Reason(Step.ROUTING, "routing.shift", sentence, _figures(off_percent, weights))


def keep(off_percent: float, weights: Mapping[str, int], dead_band_percent: float) -> Reason:
    """The weights stay: the difference is not worth a write."""
    sentence = (
        f"The weights stay: no share is off by more than {off_percent:.1f} %, and routing.dead_band_percent is"
        f" {dead_band_percent:g} %."
    )
    return Reason(Step.ROUTING, "routing.keep", sentence, _figures(off_percent, weights))


def _spread(spread_percent: float, drift_percent: float) -> dict[str, float]:
    return {"spread_percent": spread_percent, "drift_percent": drift_percent}


def _figures(off_percent: float, weights: Mapping[str, int]) -> dict[str, float]:
    return {"off_percent": off_percent} | {f"weight_{name}": float(weight) for name, weight in weights.items()}


def _shares(weights: Mapping[str, int]) -> str:
    total = sum(weights.values())
    return "shares: " + ", ".join(f"{name} {100 * weight / total:.1f} %" for name, weight in weights.items())
