"""The embedded cloud: the Pulumi program run without a CLI, its resources made in a lifelike moto."""

from lab.cloud.embedded import START, EmbeddedCloud, provision
from lab.cloud.program import Registered
from lab.cloud.provider import UnknownResourceError
from lab.cloud.publishing import Traffic
from lab.cloud.world import Change, InstanceChange, Launch

__all__ = [
    "START",
    "Change",
    "EmbeddedCloud",
    "InstanceChange",
    "Launch",
    "Registered",
    "Traffic",
    "UnknownResourceError",
    "provision",
]
