"""The real handler against the embedded cloud, in virtual time, under recorded traffic.

`replay` is the loop; `function` runs the Lambda, `alarms` what wakes it early, `fleet` ties the cloud's instances to
simulated engines, `pool_hardware` says how fast those are and what they cost, `feed` hands out the traffic, `result`
is what comes of it.
"""

from gpu_fleet.replay.function import Decided, Invocation, ScalerFunction
from gpu_fleet.replay.hardware import PoolHardware, pool_hardware
from gpu_fleet.replay.replay import Opening, Replay, ReplayDelays
from gpu_fleet.replay.replay_result import MinuteOfReplay, PoolMinute, ReplayResult

__all__ = [
    "Decided",
    "Invocation",
    "MinuteOfReplay",
    "Opening",
    "PoolHardware",
    "PoolMinute",
    "Replay",
    "ReplayDelays",
    "ReplayResult",
    "ScalerFunction",
    "pool_hardware",
]
