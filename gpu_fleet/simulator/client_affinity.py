"""Who sends the requests, and what keeps them with a pool: a cookie, or a hash of their header."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_fleet.scaling.hashing import DIGITS
from gpu_fleet.scaling.policy import RoutingPolicy, RoutingStrategy


@dataclass(frozen=True, slots=True)
class ClientPopulation:
    """Clients of a service: any of the active ones sends the next request, until a new one takes its place.

    No trace that we know says who sent a request, so these are assumptions.
    """

    active: int = 1000
    requests_each: float = 10.0
    """Mean number of requests of one client before it leaves."""

    def __post_init__(self) -> None:
        if not self.active >= 1:
            raise ValueError(f"active: must be at least 1 (got {self.active})")
        if not self.requests_each >= 1:
            raise ValueError(f"requests_each: must be at least 1 (got {self.requests_each})")


@dataclass(frozen=True, slots=True)
class Affinity:
    """What keeps clients with a pool."""

    clients: ClientPopulation = field(default_factory=ClientPopulation)
    stickiness_seconds: float = 0.0
    """Lifetime of the cookie that leads a client back to its pool and instance, renewed by every answer; 0: none.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/sticky-sessions.html"""
    digits: int = 0
    """Digits that a client's header may end in, each with weights of its own; 0: none."""

    @classmethod
    def of(cls, routing: RoutingPolicy, clients: ClientPopulation) -> Affinity:
        """Return what the strategy keeps clients by."""
        match routing.strategy:
            case RoutingStrategy.STICKY:
                return cls(clients, stickiness_seconds=routing.stickiness_seconds)
            case RoutingStrategy.HASH:
                return cls(clients, digits=len(DIGITS))
            case _:
                return NO_AFFINITY


NO_AFFINITY = Affinity()
"""Every request goes by weight alone."""
