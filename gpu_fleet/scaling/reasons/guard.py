"""What the guard step says: why capacity grows, shrinks or stays, and who leaves."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gpu_fleet.scaling.decision import Reason, Step


def first_run() -> Reason:
    """There is no state of an earlier run; counts and weights are held once."""
    return _reason("first_run", "No state of an earlier run: counts and weights are held for one run.")


def gap(seconds: float) -> Reason:
    """The last run was too long ago to know what happened since; scale-in starts its window anew."""
    text = f"The last run was {seconds:.0f} s ago. What happened since is not known, so no capacity is taken yet."
    return _reason("gap", text, gap_seconds=seconds)


def out(required_rps: float, standing_rps: float, window_rps: float) -> Reason:
    """More is required than is there or coming; it is ordered at once."""
    text = f"{required_rps:.2f} rps are required, {standing_rps:.2f} are there or coming: scale out at once."
    return _reason("out", text, wanted_rps=required_rps, standing_rps=standing_rps, window_rps=window_rps)


def window(required_rps: float, standing_rps: float, window_rps: float) -> Reason:
    """Less is required, but not yet for the whole stabilisation window."""
    text = "Less is required, but not yet for a whole stabilisation window."
    return _reason("window", text, wanted_rps=required_rps, standing_rps=standing_rps, window_rps=window_rps)


def in_(required_rps: float, standing_rps: float, window_rps: float) -> Reason:
    """Less was required throughout the stabilisation window; capacity may leave."""
    text = f"The window required at most {window_rps:.2f} rps, {standing_rps:.2f} are there: scale in."
    return _reason("in", text, wanted_rps=required_rps, standing_rps=standing_rps, window_rps=window_rps)


def steady(required_rps: float, standing_rps: float, window_rps: float) -> Reason:
    """What stands is within the tolerance of what is required."""
    text = (
        f"{standing_rps:.2f} rps are there, {required_rps:.2f} are required, {window_rps:.2f} in the window: no change."
    )
    return _reason("steady", text, wanted_rps=required_rps, standing_rps=standing_rps, window_rps=window_rps)


def stuck(pool: str, ids: Collection[str], launch_timeout_seconds: float) -> Reason:
    """Instances did not become ready within the launch timeout, and leave."""
    text = f"{pool}: {', '.join(sorted(ids))} leave, not ready {launch_timeout_seconds:.0f} s after their launch."
    return _reason("stuck", text, stuck=float(len(ids)))


def make_before_break(pool: str, serving: int, affordable: int, spare_rps: float) -> Reason:
    """Serving instances stay until the instances that replace them are ready."""
    text = (
        f"{pool}: {serving} serving instances may leave once others are ready; ready capacity spares "
        f"{max(0, affordable)} now."
    )
    return _reason("make_before_break", text, spare_rps=spare_rps)


def consolidation(pool: str, serving: int, fits: int) -> Reason:
    """The load of the leaving instances would not fit the remaining ones."""
    text = f"{pool}: the load of {serving} instances would not fit the rest if they left; {max(0, fits)} may leave."
    return _reason("consolidation", text, fits=fits)


def choose_next(pool: str) -> Reason:
    """Each instance's own load is read first, so that the least busy leaves."""
    return _reason("choose_next", f"{pool}: the next run reads each instance's load, to take the least busy.")


def take(pool: str, ids: Sequence[str]) -> Reason:
    """These instances leave, the least busy ones."""
    return _reason("take", f"{pool}: {', '.join(ids)} leave, the least busy.")


def _reason(name: str, text: str, **numbers: float) -> Reason:
    return Reason(Step.GUARD, f"guard.{name}", text, numbers)
