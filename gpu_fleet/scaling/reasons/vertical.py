"""What the model says of types that change in place, or do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.scaling.decision import Reason, Step


@dataclass(frozen=True, slots=True)
class Choice:
    """Types, how many of them, and what they cost together."""

    types: tuple[str, ...]
    count: int
    usd_per_hour: float

    def __str__(self) -> str:
        return f"{self.count} {named(self.types)} ({self.usd_per_hour:.2f} USD per hour)"


def named(types: tuple[str, ...]) -> str:
    """Interchangeable types in one word."""
    return "/".join(types)


# --- why nothing changes now ---


def refreshing(types: tuple[str, ...]) -> Reason:
    """An instance refresh is under way."""
    return _reason("wait", f"A refresh to {named(types)} is under way.")


def wait(standing: str, better: Choice, why: str, numbers: Mapping[str, float] | None = None) -> Reason:
    """Other types would be right, and a change must wait."""
    return _reason("wait", f"{standing}; {better} must wait: {why}.", numbers)


def changed_lately(since_seconds: float, stay_seconds: float) -> str:
    """Why a change waits: types stay for a while."""
    return f"types changed {since_seconds:.0f} s ago and stay for {stay_seconds:.0f} s"


NO_CAPACITY = "AWS has lately had no instance for this pool"
MOVING = "the group is still changing"

# --- why types stay ---


def no_types(pool: str, required_rps: float) -> Reason:
    """No types of the pool carry the requirement within its maximum and quota."""
    text = f"No types of {pool} carry {required_rps:.2f} rps within its maximum and quota: types stay."
    return _reason("short", text, {"required_rps": required_rps})


def no_written_types(launched: tuple[str, ...]) -> Reason:
    """The group launches types that the settings no longer name, and none that they name carries the demand."""
    return _reason("short", f"{unwritten(launched)}, and none that they name carries the demand.")


def no_others(kept: Choice, required_rps: float) -> Reason:
    """No other types carry the requirement within maximum and quota."""
    text = f"Stays with {kept}: no other types carry {required_rps:.2f} rps within maximum and quota."
    return _reason("no_saving", text, {"required_rps": required_rps})


def no_saving(kept: Choice, better: Choice, why: str, numbers: Mapping[str, float]) -> Reason:
    """Other types would not save enough."""
    return _reason("no_saving", f"Stays with {kept}; {better} {why}.", numbers)


SAVES_NOTHING = "would save nothing"


def saves_too_little(saving_percent: float, minimum_percent: float) -> str:
    """Why a change does not pay: the policy asks for more."""
    least = f"less than vertical.minimum_saving_percent, {minimum_percent:g} %"
    return f"would save {saving_percent:.1f} %, {least}"


def saves_less_than_it_costs(saving_usd_per_hour: float, stay_seconds: float, overlap_usd: float) -> str:
    """Why a change does not pay: the refresh costs more than is saved while types stay."""
    return (
        f"would save {saving_usd_per_hour:.2f} USD per hour, which within {stay_seconds:.0f} s is no more than the "
        f"{overlap_usd:.2f} USD that the refresh costs"
    )


# --- why types change ---


def refresh(why: str, pool: str, to: Choice, surge_percent: int, numbers: Mapping[str, float] | None = None) -> Reason:
    """An instance refresh rolls other types through the pool; `to.count` instances stand meanwhile."""
    text = f"{why}: a refresh of {pool} to {to.count} {named(to.types)} begins, {surge_percent} % at a time."
    return _reason("refresh", text, {**(numbers or {}), "instances": float(to.count)})


def kept_cannot_carry(types: tuple[str, ...], required_rps: float, better: Choice) -> str:
    """Why types change: those that stand do not carry the requirement."""
    return f"{named(types)} cannot carry {required_rps:.2f} rps within maximum and quota, {better} can"


def saves(kept: Choice, better: Choice, saving_usd_per_hour: float, overlap_usd: float) -> str:
    """Why types change: others cost less."""
    return (
        f"{better} instead of {kept} saves {saving_usd_per_hour:.2f} USD per hour, and the refresh costs "
        f"{overlap_usd:.2f} USD"
    )


def unwritten(launched: tuple[str, ...]) -> str:
    """Why types change: the group launches what the settings no longer name."""
    return f"The group launches {', '.join(launched)}, which the settings no longer name"


def _reason(name: str, text: str, numbers: Mapping[str, float] | None = None) -> Reason:
    return Reason(Step.MIX, f"vertical.{name}", text, numbers or {})
