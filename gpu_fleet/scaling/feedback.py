"""Feedback: what head-room may miss, corrected by the share of requests that were late (the article, 3.2.2 step 5).

What counts in the end is how many requests miss the SLO, for whatever reason: demand above its forecast, the noise of
a batch, a capacity that was believed to be more. So the share of the demand that head-room may miss follows what the
engines measure, as an error budget: while less is late than the SLO allows, it grows slowly, and when more is late it
shrinks at once,

    log(allowance) += RATE * minutes * (1 - late / target)

With a target of 0.004 a minute of which a tenth is late takes back what 24 good minutes gave. In the long run the share
that is late is the target, whatever the traffic is like.
"""

from __future__ import annotations

import math

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import FeedbackMemory

RATE = 0.004
"""What a minute without anything late adds to the logarithm of the allowance: e-fold in four hours."""
RESERVE = 0.8
"""Part of what the SLO allows to fail that is spent on purpose."""
LEAST, MOST = 0.0002, 0.02
"""Bounds of the allowance."""
FASTEST_FALL = -0.2
"""What a minute takes from the logarithm at most. A bad quarter of an hour after a calm night leaves a twentieth of the
allowance, not nothing: what it made late stays late, and a day with 30 % more head-room makes nothing of it good (4 %
of the cost on a day of Azure's coding trace)."""
MOST_WEIGHT = 3.0
"""A minute counts by its demand over the mean, at most threefold."""
MINUTE_SECONDS = 60.0
LONGEST_SECONDS = 180.0
"""After a gap in the measurements, the newest speaks for no more than this."""


def correct(
    memory: FeedbackMemory, start: float, may_fail: float, measured: Reading | None, weight: float
) -> FeedbackMemory:
    """Move the allowance by a newly measured minute, once.

    `measured`: share of its requests outside the SLO. `weight`: its demand over the mean demand.
    """
    allowance = start if memory.allowance is None else memory.allowance
    if measured is None or measured.at <= memory.measured_at:
        return FeedbackMemory(allowance, memory.measured_at)
    minutes = min(measured.at - memory.measured_at, LONGEST_SECONDS) / MINUTE_SECONDS if memory.measured_at else 1.0
    late = measured.value * min(MOST_WEIGHT, weight)
    step = RATE * minutes * (1 - late / (RESERVE * may_fail))
    allowance = min(MOST, max(LEAST, allowance * math.exp(max(FASTEST_FALL * minutes, step))))
    return FeedbackMemory(round(allowance, 7), measured.at)
