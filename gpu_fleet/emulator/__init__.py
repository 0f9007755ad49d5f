"""The embedded cloud: the Pulumi program run without a CLI, its resources made in a lifelike moto."""

from gpu_fleet.emulator.cloud_world import Change, InstanceChange, Launch
from gpu_fleet.emulator.embedded import START, CloudOptions, EmbeddedCloud, provision
from gpu_fleet.emulator.program import RegisteredResource
from gpu_fleet.emulator.provider import UnknownResourceError
from gpu_fleet.emulator.publishing import PublishingDelays, Traffic

__all__ = [
    "START",
    "Change",
    "CloudOptions",
    "EmbeddedCloud",
    "InstanceChange",
    "Launch",
    "PublishingDelays",
    "RegisteredResource",
    "Traffic",
    "UnknownResourceError",
    "provision",
]
