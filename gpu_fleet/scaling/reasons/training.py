"""What the model says of a service that runs jobs."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.observation import JobQueue


def no_queue() -> Reason:
    """The queue could not be read; counts are held."""
    return Reason(Step.DEMAND, "training.no_queue", "The job queue could not be read: counts are held.")


def queue(jobs: JobQueue, free: int, soon: int, coming: int) -> Reason:
    """The jobs that wait, and the places for them."""
    text = (
        f"{jobs.waiting} jobs wait, the oldest for {jobs.oldest_seconds:.0f} s; {free} places are free, {soon} will be "
        f"soon, {coming} come with instances that start."
    )
    numbers = {
        "waiting": float(jobs.waiting),
        "oldest_seconds": jobs.oldest_seconds,
        "free": float(free),
        "soon": float(soon),
        "coming": float(coming),
    }
    return Reason(Step.DEMAND, "training.queue", text, numbers)


def start(started: Mapping[str, int], needed: int, why: str) -> Reason:
    """Instances are started for jobs that would wait too long, or for the minimum."""
    named = " + ".join(f"{count} {name}" for name, count in started.items())
    text = f"Starts {named}: {why or 'the minimum is not there'}."
    return Reason(Step.MIX, "training.start", text, _started(started, needed))


def short(started: Mapping[str, int], needed: int) -> Reason:
    """Bounds, quotas or capacity errors allow fewer instances than are needed."""
    allowed = sum(started.values())
    text = f"{needed} instances are needed; bounds, quotas and capacity errors allow {allowed}."
    return Reason(Step.MIX, "training.short", text, _started(started, needed))


def take(pool: str, idle_seconds: Mapping[str, float | None]) -> Reason:
    """These instances leave: idle for long enough, or never ready (None)."""
    gone = [
        f"{name} (never ready)" if seconds is None else f"{name} (idle for {seconds:.0f} s)"
        for name, seconds in idle_seconds.items()
    ]
    return Reason(Step.GUARD, "training.take", f"{pool}: {', '.join(gone)} leave.", {"taken": float(len(gone))})


def drop(count: int) -> Reason:
    """Orders that no instance fills yet are cancelled."""
    text = f"{count} orders that no instance fills yet are cancelled."
    return Reason(Step.GUARD, "training.drop", text, {"dropped": float(count)})


def idle(count: int, idle_seconds: float) -> Reason:
    """Idle instances stay for a while, for waiting jobs, or as the minimum."""
    text = f"{count} idle instances stay: for {idle_seconds:.0f} s, for waiting jobs, or as the minimum."
    return Reason(Step.GUARD, "training.idle", text, {"idle": float(count)})


def busy(count: int) -> Reason:
    """Instances run jobs, or may, and are protected from scale-in."""
    text = f"{count} instances run jobs, or may, and are protected."
    return Reason(Step.GUARD, "training.busy", text, {"busy": float(count)})


# --- why instances are started ---

NO_PLACE = "there is no place, and none comes"


def waited_too_long(oldest_seconds: float, allowed_seconds: float) -> str:
    """Why instances are started: a job has waited longer than the policy allows."""
    return f"the oldest job has waited {oldest_seconds:.0f} s, longer than {allowed_seconds:.0f} s"


def would_wait_too_long(jobs: float, allowed_seconds: float) -> str:
    """Why instances are started: the queue does not drain in time."""
    return f"{jobs:.1f} jobs would wait longer than {allowed_seconds:.0f} s"


def _started(started: Mapping[str, int], needed: int) -> dict[str, float]:
    return {"needed": float(needed), "started": float(sum(started.values()))}
