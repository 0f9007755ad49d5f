"""What the model says of a service that sleeps."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason, Step


def asleep() -> Reason:
    """The service has been idle for the policy's time, and has no instances."""
    return Reason(Step.MIX, "zero.asleep", "No request came for the policy's idle time: the service sleeps.")
