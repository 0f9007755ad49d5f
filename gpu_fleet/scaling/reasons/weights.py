"""What the model says of weights that stay as they are."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason, Step


def wait() -> Reason:
    """A run on top of the schedule's does not move weights again."""
    text = "The weights were last looked at less than half a minute ago; the next scheduled run looks again."
    return Reason(Step.ROUTING, "routing.wait", text)
