"""Every AWS resource type that the program may register, and how it is made in moto."""

from gpu_fleet.emulator.provider import balancer, compute, functions, identity, networking, storage, watching
from gpu_fleet.emulator.provider.invokes import ask
from gpu_fleet.emulator.provider.registry import MotoAccount, UnknownResourceError, known_types, make

__all__ = [
    "MotoAccount",
    "UnknownResourceError",
    "ask",
    "balancer",
    "compute",
    "functions",
    "identity",
    "known_types",
    "make",
    "networking",
    "storage",
    "watching",
]
