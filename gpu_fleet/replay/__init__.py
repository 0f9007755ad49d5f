"""The real handler against the embedded cloud, in virtual time, under recorded traffic.

`replay` is the loop and `replay_cloud` the cloud that it needs. `function` runs the Lambda and `alarms` wake it early;
`traffic_weights` reads and writes the listener rule. `engine_fleet` ties the cloud's instances to simulated engines,
`hardware` says how fast those serve and what they cost, `engine_gauges` is what they publish, and `feed` hands out the
traffic. `replay_result` is the result, with the `type_changes` in it. `demo` puts a stack, an hour of traffic
(`demo_traffic`) and a static fleet for comparison (`static_fleet`) together.
"""

from gpu_fleet.replay.function import Invocation, LoggedDecision, ScalerFunction
from gpu_fleet.replay.hardware import Hardware, InstanceHardware, service_hardware
from gpu_fleet.replay.replay import Opening, Replay
from gpu_fleet.replay.replay_cloud import cloudwatch_delays, replay_cloud
from gpu_fleet.replay.replay_result import MinuteOfReplay, PoolMinute, ReplayResult
from gpu_fleet.replay.type_changes import TypeChange

__all__ = [
    "Hardware",
    "InstanceHardware",
    "Invocation",
    "LoggedDecision",
    "MinuteOfReplay",
    "Opening",
    "PoolMinute",
    "Replay",
    "ReplayResult",
    "ScalerFunction",
    "TypeChange",
    "cloudwatch_delays",
    "replay_cloud",
    "service_hardware",
]
