"""Reasons of the mix: why these counts, and why a cheaper mix has to wait."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.mix import Move
from gpu_fleet.scaling.policy import Vertical


def keep(counts: Mapping[str, int], required_rps: float, carried_rps: float, usd_per_hour: float) -> Reason:
    """The counts stay as they are."""
    return _counts("keep", f"Keeps {_text(counts)}", required_rps, carried_rps, usd_per_hour)


def grow(counts: Mapping[str, int], required_rps: float, carried_rps: float, usd_per_hour: float) -> Reason:
    """The counts change and carry more than before."""
    return _counts("grow", f"Grows to {_text(counts)}", required_rps, carried_rps, usd_per_hour)


def shrink(counts: Mapping[str, int], required_rps: float, carried_rps: float, usd_per_hour: float) -> Reason:
    """The counts change and carry no more than before."""
    return _counts("shrink", f"Shrinks to {_text(counts)}", required_rps, carried_rps, usd_per_hour)


def short(
    counts: Mapping[str, int], required_rps: float, carried_rps: float, min_instances: int | None = None
) -> Reason:
    """No allowed mix is enough. With `min_instances` the work is carried, but not by as many instances."""
    instances = sum(counts.values())
    if min_instances is None:
        sentence = (
            f"No allowed mix carries {required_rps:.2f} rps. {_text(counts)} carries the most: {carried_rps:.2f} rps"
            f" with {instances} instances."
        )
    else:
        sentence = (
            f"No allowed mix has {min_instances} instances and carries {required_rps:.2f} rps. {_text(counts)} has the"
            f" most: {instances} instances, which carry {carried_rps:.2f} rps."
        )
    numbers = {
        "required_rps": required_rps,
        "carried_rps": carried_rps,
        "short_rps": max(0.0, required_rps - carried_rps),
        "instances": instances,
    }
    return Reason(Step.MIX, "mix.short", sentence, numbers)


def cannot_launch(pool: str, why: str, seconds: float) -> Reason:
    """A pool's group cannot launch now: it keeps what it has, other pools carry the rest, and it is tried again."""
    sentence = f"{pool} cannot launch: {why or 'the last launch failed.'} Tried again in {seconds:.0f} s."
    return Reason(Step.MIX, "mix.cannot_launch", sentence, {"again_seconds": seconds})


def launch_suspended(pool: str) -> Reason:
    """Somebody, or AWS after a day of failures, has suspended the group's `Launch`: other pools carry the rest."""
    sentence = f"{pool} cannot launch: the process Launch of its group is suspended, until somebody resumes it."
    return Reason(Step.MIX, "mix.launch_suspended", sentence)


def move(move: Move) -> Reason:
    """Other instance types take over to save money."""
    sentence = (
        f"Moves from {_text(move.before)} to {_text(move.after)}: saves {move.saving_usd_per_hour:.2f} USD per hour"
        f" ({move.saving_percent:.1f} %); launches, and running both meanwhile, cost {move.overlap_usd:.2f} USD."
    )
    return Reason(Step.MIX, "mix.move", sentence, _figures(move) | {"usd_per_hour": move.usd_per_hour})


def off(move: Move, vertical: Vertical) -> Reason:
    """The policy does not move between pools."""
    return _refusal("off", move, f"but vertical.method is {vertical.method}")


def small(move: Move, vertical: Vertical) -> Reason:
    """The saving is below the policy's minimum."""
    return _refusal("small", move, f"less than vertical.minimum_saving_percent ({vertical.minimum_saving_percent:g} %)")


def unpaid(move: Move, vertical: Vertical) -> Reason:
    """The saving does not pay for the overlap of both mixes in time."""
    cost = f"the {move.overlap_usd:.2f} USD that launches, and running both meanwhile, cost"
    return _refusal("unpaid", move, f"but within {vertical.minimum_stay_seconds:.0f} s that is no more than {cost}")


def stay(move: Move, vertical: Vertical, since_move_seconds: float) -> Reason:
    """The last move is too recent."""
    least = f"vertical.minimum_stay_seconds is {vertical.minimum_stay_seconds:.0f} s"
    refusal = _refusal("stay", move, f"but the last move was {since_move_seconds:.0f} s ago and {least}")
    return Reason(
        refusal.step, refusal.code, refusal.sentence, {**refusal.numbers, "since_move_seconds": since_move_seconds}
    )


def _counts(code: str, verb: str, required_rps: float, carried_rps: float, usd_per_hour: float) -> Reason:
    sentence = (
        f"{verb}: {carried_rps:.2f} rps of capacity for {required_rps:.2f} rps required,"
        f" at {usd_per_hour:.2f} USD per hour."
    )
    numbers = {"required_rps": required_rps, "carried_rps": carried_rps, "usd_per_hour": usd_per_hour}
    return Reason(Step.MIX, f"mix.{code}", sentence, numbers)


def _refusal(code: str, move: Move, why: str) -> Reason:
    saving = f"{move.saving_usd_per_hour:.2f} USD per hour ({move.saving_percent:.1f} %)"
    return Reason(Step.MIX, f"mix.{code}", f"{_text(move.after)} would save {saving}, {why}.", _figures(move))


def _figures(move: Move) -> dict[str, float]:
    return {
        "saving_usd_per_hour": move.saving_usd_per_hour,
        "saving_percent": move.saving_percent,
        "overlap_usd": move.overlap_usd,
    }


def _text(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {name}" for name, count in counts.items() if count) or "no instance"
