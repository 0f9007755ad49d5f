"""The AWS resource types that the program may register, each made in moto, and the provider functions it may call."""

from gpu_fleet.emulator.provider import (
    balancer,
    compute,
    functions,
    identity,
    image_builder,
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
    "answer",
    "balancer",
    "compute",
    "functions",
    "identity",
    "image_builder",
    "images",
    "make",
    "networking",
    "storage",
    "watching",
]
