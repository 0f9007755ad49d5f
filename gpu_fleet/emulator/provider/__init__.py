"""The AWS resource types that the program may register, each made in moto, and the provider functions it may call."""

from gpu_fleet.emulator.provider import (
    ami_pipelines,
    balancer,
    compute,
    functions,
    identity,
    images,
    networking,
    storage,
    watching,
)
from gpu_fleet.emulator.provider.invokes import answer
from gpu_fleet.emulator.provider.registry import MotoAccount, UnknownResourceError, make

__all__ = [
    "MotoAccount",
    "UnknownResourceError",
    "ami_pipelines",
    "answer",
    "balancer",
    "compute",
    "functions",
    "identity",
    "images",
    "make",
    "networking",
    "storage",
    "watching",
]
