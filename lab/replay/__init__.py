"""The real handler against the embedded cloud, in virtual time, under recorded traffic.

`replay` is the loop; `function` runs the Lambda, `alarms` what wakes it early, `fleet` ties the cloud's instances to
simulated engines, `rungs` says how fast those are and what they cost, `feed` hands out the traffic, `result` is what
comes of it.
"""

from lab.replay.function import Decided, Invocation, ScalerFunction
from lab.replay.replay import Delays, Opening, Replay
from lab.replay.result import MinuteOfReplay, PoolMinute, ReplayResult
from lab.replay.rungs import Rung, rungs

__all__ = [
    "Decided",
    "Delays",
    "Invocation",
    "MinuteOfReplay",
    "Opening",
    "PoolMinute",
    "Replay",
    "ReplayResult",
    "Rung",
    "ScalerFunction",
    "rungs",
]
