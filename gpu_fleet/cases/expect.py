"""The expected decision of a case: the keys of `expect`, each a bound, and how a decision is compared with them."""

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
    """Whether a value is within a bound."""
    match = _BOUND.fullmatch(bound)
    if match is None:
        raise ValueError(f"not a bound: {bound}")
    if match[3]:
        return float(match[2]) <= value <= float(match[3])
    return _OPERATORS[match[1] or "=="](value, float(match[2]))


class ExpectPool(Section):
    """Bounds on one pool's target."""

    desired: Bound | None = None
    """Desired count."""
    weight: Bound | None = None
    """Traffic weight, 0 to 999."""
    share_percent: Bound | None = None
    """Its share of all weights, in percent."""
    take: Bound | None = None
    """Number of instances to remove."""
    protected: Bound | None = None
    """Number of instances protected from removal."""
    on_demand_base: Bound | None = None
    """On-demand instances below the spot share."""


class Expect(Section):
    """Bounds on the decision."""

    pools: dict[str, ExpectPool] = Field(default={})
    """Bounds on each pool, by name."""
    total_desired: Bound | None = None
    """Sum of all desired counts."""
    usd_per_hour: Bound | None = None
    """Cost of the desired counts."""
    held: bool | None = None
    """Whether the decision holds the counts because a signal is missing."""
    codes: tuple[str, ...] = ()
    """Reason codes that the decision must have."""
    without_codes: tuple[str, ...] = ()
    """Reason codes that it must not have."""
    refresh: bool | None = None
    """Whether the decision rolls the pool to another type."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation that was not met."""

    key: str
    wanted: str
    got: str

    def __str__(self) -> str:
        """Return the line that the command prints."""
        return f"{self.key}: wanted {self.wanted}, got {self.got}"


def mismatches(expect: Expect, decision: Decision) -> list[Mismatch]:
    """Return every bound that the decision violates."""
    found = [mismatch for name, bounds in expect.pools.items() for mismatch in _of_a_pool(name, bounds, decision)]
    found += _out_of_bounds(
        ("total_desired", expect.total_desired, sum(target.desired for target in decision.targets.values())),
        ("usd_per_hour", expect.usd_per_hour, decision.signals.usd_per_hour),
    )
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


def _of_a_pool(name: str, bounds: ExpectPool, decision: Decision) -> list[Mismatch]:
    target = decision.targets.get(name)
    if target is None:
        return [Mismatch(f"pools.{name}", "a target", "none")]
    total_weight = sum(other.weight for other in decision.targets.values())
    share_percent = 100 * target.weight / total_weight if total_weight else 0.0
    return _out_of_bounds(
        (f"pools.{name}.desired", bounds.desired, target.desired),
        (f"pools.{name}.weight", bounds.weight, target.weight),
        (f"pools.{name}.share_percent", bounds.share_percent, share_percent),
        (f"pools.{name}.take", bounds.take, len(target.take)),
        (f"pools.{name}.protected", bounds.protected, len(target.protect)),
        (f"pools.{name}.on_demand_base", bounds.on_demand_base, target.on_demand_base),
    )


def _out_of_bounds(*values: tuple[str, str | None, float | None]) -> list[Mismatch]:
    """Return a mismatch for each (key, bound, value) whose value violates the bound."""
    return [
        Mismatch(key, bound, "nothing" if value is None else f"{value:g}")
        for key, bound, value in values
        if bound is not None and (value is None or not within(value, bound))
    ]
