"""A small service, its engines, and its traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_fleet.scaling.policy import Horizontal, Policy, Request, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.simulated_fleet import MachineModel
from gpu_fleet.simulator.world import World, WorldOptions

PROFILE = Profile(
    prefill_base_seconds=0.01,
    prefill_tokens_per_second=8000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0006,
    kv_cache_tokens=200_000,
    max_sequences=64,
    compile_seconds=60,
    estimate=True,
    source="made up for tests",
)


@dataclass(frozen=True)
class Chunk:
    at_seconds: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """A source of requests that all have the same lengths."""

    at: NDArray[np.float64]
    span_seconds: float
    input_tokens: float = 800.0
    output_tokens: float = 150.0

    @classmethod
    def poisson(cls, rps: float, seconds: float, seed: int = 0) -> Requests:
        random = np.random.default_rng(seed)
        at = np.sort(random.uniform(0, seconds, random.poisson(rps * seconds)))
        return cls(at, seconds)

    @classmethod
    def none(cls, seconds: float) -> Requests:
        return cls(np.empty(0), seconds)

    def windows(self, window_seconds: float = 600.0, *, seed: int = 0) -> Iterator[Chunk]:
        for start in np.arange(0, self.span_seconds, window_seconds):
            last = start + window_seconds >= self.span_seconds
            at = self.at[(self.at >= start) & ((self.at < start + window_seconds) | last)]
            yield Chunk(at, np.full(at.size, self.input_tokens), np.full(at.size, self.output_tokens))


def make_service(**pool_keys: object) -> Service:
    """Pools `small` (1 USD an hour) and `big` (2 USD) that differ only in name and price."""
    policy = Policy(
        model="m",
        request=Request(input_tokens=800, output_tokens=150),
        slo=Slo(ttft_seconds=2, tpot_seconds=0.06),
        horizontal=Horizontal(busy_max_drain_seconds=300),
    )
    carried = instance_capacity(PROFILE, policy.request, policy.slo, policy.load.unit)
    keys = {
        "types": ("g6.xlarge",),
        "min_instances": 0,
        "max_instances": 40,
        "capacity": carried.capacity,
        "throughput_rps": carried.throughput_rps,
        "slowdown": carried.slowdown,
        "service_seconds": carried.service_seconds,
        "lead_seconds": 300.0,
        "on_demand_usd_per_hour": 1.0,
        **pool_keys,
    }
    return Service(
        name="chat",
        policy=policy,
        pools=(Pool(name="small", **keys), Pool(name="big", **{**keys, "on_demand_usd_per_hour": 2.0})),  # type: ignore[arg-type]
    )


@pytest.fixture
def service() -> Service:
    return make_service()


@pytest.fixture
def world(service: Service) -> Callable[..., World]:
    """Makes a world; without arguments an hour of 4 requests a second on four small instances.

    Other arguments are fields of `MachineModel` and `WorldOptions`.
    """

    def make(
        source: Requests | None = None,
        service: Service = service,
        *,
        initial: Mapping[str, int] | None = None,
        **fields: object,
    ) -> World:
        machine_fields = {name: fields.pop(name) for name in ("boot", "faults", "phases", "gpus") if name in fields}
        return World(
            service,
            source or Requests.poisson(4.0, 3600.0),
            {"small": PROFILE, "big": PROFILE},
            initial={"small": 4} if initial is None else initial,
            machines=MachineModel(**machine_fields),  # type: ignore[arg-type]
            options=WorldOptions(**fields),  # type: ignore[arg-type]
        )

    return make
