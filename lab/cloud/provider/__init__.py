"""Every AWS resource type that the program may register, and how it is made in moto."""

from lab.cloud.provider import balancer, compute, functions, identity, network, storage, watching
from lab.cloud.provider.invokes import ask
from lab.cloud.provider.registry import Aws, UnknownResourceError, known_types, make

__all__ = [
    "Aws",
    "UnknownResourceError",
    "ask",
    "balancer",
    "compute",
    "functions",
    "identity",
    "known_types",
    "make",
    "network",
    "storage",
    "watching",
]
