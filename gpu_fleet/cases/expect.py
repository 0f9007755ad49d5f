"""What a case wants of the decision: the keys of `expect`, each a bound, and how a decision is held against them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.policy import Section

_BOUND = re.compile(r"\s*(>=|<=|==|!=|>|<)?\s*(-?\d+(?:\.\d+)?)\s*(?:\.\.\s*(-?\d+(?:\.\d+)?)\s*)?")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def _bound(value: str) -> str:
    match = _BOUND.fullmatch(value)
    if match is None or (match[1] and match[3]):
        raise ValueError(f'must be a number, a bound like ">=5", or a range like "5..8" (got {value})')
    return value


def _as_text(value: object) -> object:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Bound = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_bound), WithJsonSchema({"type": ["string", "number"]})
]
"""5, ">=5", "<3", "5..8"."""


def within(value: float, bound: str) -> bool:
    """Whether a value keeps to a bound."""
    match = _BOUND.fullmatch(bound)
    if match is None:
        raise ValueError(f"not a bound: {bound}")
    if match[3]:
        return float(match[2]) <= value <= float(match[3])
    return _OPERATORS[match[1] or "=="](value, float(match[2]))


class ExpectPool(Section):
    """Bounds on what one pool shall be."""

    desired: Bound | None = None
    """Desired count."""
    weight: Bound | None = None
    """Traffic weight, 0 to 999."""
    share_percent: Bound | None = None
    """Its share of all weights."""
    take: Bound | None = None
    """How many instances leave."""
    protected: Bound | None = None
    """How many instances must not be taken."""
    on_demand_base: Bound | None = None
    """On-demand instances in front of the spot share."""


class Expect(Section):
    """Bounds on the decision."""

    pools: dict[str, ExpectPool] = Field(default={})
    """On each pool."""
    total_desired: Bound | None = None
    """Desired counts of all pools together."""
    usd_per_hour: Bound | None = None
    """Cost of the counts decided."""
    held: bool | None = None
    """Whether counts were kept because something needed was missing."""
    codes: tuple[str, ...] = ()
    """Reason codes that the decision must carry."""
    without_codes: tuple[str, ...] = ()
    """Reason codes that it must not carry."""
    refresh: bool | None = None
    """Whether another type is rolled through the pool."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation that was not met."""

    key: str
    wanted: str
    got: str

    def __str__(self) -> str:
        """As the command prints it."""
        return f"{self.key}: wanted {self.wanted}, got {self.got}"


def differences(expect: Expect, decision: Decision) -> list[Mismatch]:
    """Every bound that the decision does not keep to."""
    found: list[Mismatch] = []

    def hold(key: str, bound: str | None, value: float | None) -> None:
        if bound is None:
            return
        if value is None or not within(value, bound):
            found.append(Mismatch(key, bound, "nothing" if value is None else f"{value:g}"))

    total_weight = sum(target.weight for target in decision.targets.values())
    for name, wanted in expect.pools.items():
        target = decision.targets.get(name)
        if target is None:
            found.append(Mismatch(f"pools.{name}", "a target", "none"))
            continue
        hold(f"pools.{name}.desired", wanted.desired, target.desired)
        hold(f"pools.{name}.weight", wanted.weight, target.weight)
        share = 100 * target.weight / total_weight if total_weight else 0.0
        hold(f"pools.{name}.share_percent", wanted.share_percent, share)
        hold(f"pools.{name}.take", wanted.take, len(target.take))
        hold(f"pools.{name}.protected", wanted.protected, len(target.protect))
        hold(f"pools.{name}.on_demand_base", wanted.on_demand_base, target.on_demand_base)
    hold("total_desired", expect.total_desired, sum(target.desired for target in decision.targets.values()))
    hold("usd_per_hour", expect.usd_per_hour, decision.signals.usd_per_hour)
    for key, flag, value in (
        ("held", expect.held, decision.held),
        ("refresh", expect.refresh, decision.refresh is not None),
    ):
        if flag is not None and flag != value:
            found.append(Mismatch(key, str(flag).lower(), str(value).lower()))
    codes = ", ".join(decision.codes) or "none"
    found += [Mismatch("codes", code, codes) for code in expect.codes if code not in decision.codes]
    found += [Mismatch("without_codes", f"no {code}", codes) for code in expect.without_codes if code in decision.codes]
    return found
