"""The policy keys that a search may change, with the range of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from gpu_fleet.scaling.policy import ForecastMethod, Policy

NEIGHBOUR_REACH = 0.25
"""A neighbouring value lies within this share of the range."""

Values = Mapping[str, float | int | str]
"""Values of policy keys, by key (`section.name`)."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A policy key that is searched over, and the values that make sense for it."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    digits: int = 0
    """Decimals to keep, 0 for whole numbers: people read what is written into a file."""
    choices: tuple[str, ...] = ()
    needs_slo: bool = False

    def suggest(self, trial: Any) -> float | int | str:
        """Return the value that Optuna's trial suggests."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        return self._rounded(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    def neighbour(self, value: float | str, random: Random) -> float | int | str:
        """Return another value: any choice, or a number within a quarter of the range (of its logarithm if `log`)."""
        if self.choices:
            return random.choice(self.choices)
        start = float(self.clipped(value))
        if self.log:
            moved = start * (self.high / self.low) ** random.uniform(-NEIGHBOUR_REACH, NEIGHBOUR_REACH)
        else:
            moved = start + (self.high - self.low) * random.uniform(-NEIGHBOUR_REACH, NEIGHBOUR_REACH)
        return self.clipped(self._rounded(moved))

    def as_suggested(self, value: float | str) -> float | int | str:
        """Return the policy's own value as a trial would suggest it: within the range, and rounded."""
        return value if self.choices else self._rounded(float(self.clipped(value)))

    def clipped(self, value: float | str) -> float | int | str:
        """Return the value within the range."""
        if self.choices:
            return value
        return min(self.high, max(self.low, float(value)))

    def _rounded(self, value: float) -> float | int:
        return round(value, self.digits) if self.digits else round(value)


KNOBS = (
    Knob("forecast.method", choices=tuple(method.value for method in ForecastMethod)),
    Knob("forecast.confidence", 0.5, 0.9995, digits=4),
    Knob("forecast.max_headroom_percent", 20, 300),
    Knob("sizing.wait_budget", 0.0005, 0.05, log=True, digits=4, needs_slo=True),
    Knob("sizing.drain_backlog_seconds", 30, 600, log=True),
    Knob("burst.factor", 1.1, 3.0, digits=2),
    Knob("burst.hold_seconds", 0, 1800),
    Knob("horizontal.tolerance_percent", 0, 20, digits=1),
    Knob("horizontal.scale_in_stabilization_seconds", 0, 1800),
    Knob("vertical.minimum_stay_seconds", 300, 14_400, log=True),
    Knob("vertical.minimum_saving_percent", 0, 20, digits=1),
)


def knobs_for(policy: Policy) -> tuple[Knob, ...]:
    """Return the keys that have a meaning for this policy."""
    return tuple(knob for knob in KNOBS if policy.slo is not None or not knob.needs_slo)


def value_of(policy: Policy, key: str) -> float | int | str:
    """Return the value in effect: the key's own, or the one that follows from other keys if it is not set."""
    if key == "forecast.confidence":
        return policy.forecast_confidence
    if key == "sizing.wait_budget":
        return policy.wait_budget
    section, name = key.split(".")
    value = getattr(getattr(policy, section), name)
    return value.value if isinstance(value, ForecastMethod) else value


def with_values(policy: Policy, values: Values) -> Policy:
    """Return the policy with these keys changed. Raises pydantic's ValidationError for a value that is not allowed."""
    data = policy.model_dump(exclude_unset=True)
    for key, value in values.items():
        section, name = key.split(".")
        data[section] = {**data.get(section, {}), name: value}
    return Policy.model_validate(data)
