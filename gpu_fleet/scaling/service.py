"""The service as the model sees it: a policy and one to five pools, with the figures of an instance of each."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_fleet.scaling.policy import Policy, Section
from gpu_fleet.scaling.profile import Speed

MAX_POOLS = 5
"""Target groups in one forward action:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


class Alternative(Section):
    """Interchangeable instance types of one GPU class, and what one instance carries and costs."""

    types: tuple[str, ...]
    """Instance types, the preferred one first."""
    capacity: Annotated[float, Field(gt=0)]
    """C: load that one instance carries within the SLO, in the policy's load unit."""
    throughput_rps: Annotated[float, Field(gt=0)]
    """Typical requests per second that one instance completes at load C: the unit in which pools' work is compared."""
    slowdown: Annotated[float, Field(ge=1)] = 1.0
    """How many times longer a request takes at load C than alone. Concurrency is not proportional to work: at load
    x*C an instance completes x*s/(1+(s-1)*x) of `throughput_rps` (see `gpu_fleet.scaling.profile`). At 1 it is."""
    service_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Service time of a typical request at load C."""
    slots: Annotated[float, Field(ge=0)] = 0.0
    """Requests that an instance serves at a time; more have to wait. 0: unknown. Above throughput_rps *
    service_seconds where the SLO's time per token is reached before memory is full."""
    first_token_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time to read the typical prompt on an idle instance: the part of the SLO's time to first token that leaves no
    room for waiting."""
    copies: Annotated[int, Field(ge=1)] = 1
    """Copies of the model on one instance; each reads its prompts one after another."""
    reaches_slo: bool = True
    """Whether an instance of this class meets the latency limits at all, even for a lone request."""
    on_demand_usd_per_hour: Annotated[float, Field(ge=0)]
    spot_usd_per_hour: Annotated[float, Field(ge=0)] | None = None
    vcpus: Annotated[int, Field(ge=1)] = 4
    """vCPUs of one instance, counted against the quota."""
    quota: str = ""
    """Name of the vCPU quota that on-demand instances of this class count against; empty: unknown."""
    lead_seconds: Annotated[float, Field(ge=0)] = 300
    """Expected time from order to first request, until the pool's own launches have been measured."""
    launch_usd: Annotated[float, Field(ge=0)] = 0.0
    """What a launch costs beside the instance's hours: data through a NAT gateway, and the volume until it serves."""
    speed: Speed | None = None
    """How fast one copy serves. With it, capacity follows the measured prompt and answer lengths instead of the
    policy's typical request."""


class Pool(Alternative):
    """Interchangeable instances of one GPU class.

    The figures are those of the types that the user names first.
    """

    name: str
    min_instances: Annotated[int, Field(ge=0)]
    max_instances: Annotated[int, Field(ge=0)]
    spot_percent: Annotated[float, Field(ge=0, le=100)] = 0
    """Share of spot instances above `on_demand_base`."""
    on_demand_base: Annotated[int, Field(ge=0)] = 0
    zones: tuple[str, ...] = ()
    """Availability zones of its subnets."""
    alternatives: tuple[Alternative, ...] = ()
    """Types that may replace `types` (`vertical.method: in_place`)."""

    @property
    def usd_per_hour(self) -> float:
        """Return the mean price of an instance at the pool's spot share."""
        if self.spot_usd_per_hour is None:
            return self.on_demand_usd_per_hour
        share = self.spot_percent / 100
        return (1 - share) * self.on_demand_usd_per_hour + share * self.spot_usd_per_hour

    def with_types(self, alternative: Alternative) -> Self:
        """Return the pool with these types and their figures."""
        return self.model_copy(update={name: getattr(alternative, name) for name in Alternative.model_fields})

    @property
    def kinds(self) -> tuple[Self, ...]:
        """Return the pool with each of its sets of types, in the order written."""
        return (self, *(self.with_types(alternative) for alternative in self.alternatives))

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Self:
        if self.min_instances > self.max_instances:
            raise ValueError(
                f"min_instances: must be at most max_instances ({self.max_instances}) (got {self.min_instances})"
            )
        return self


class Service(Section):
    """One model endpoint."""

    name: str
    policy: Policy
    pools: Annotated[tuple[Pool, ...], Field(min_length=1, max_length=MAX_POOLS)]
    vcpu_quotas: dict[str, int] = Field(default={})
    """vCPUs of each quota that this service may use."""

    @property
    def may_be_empty(self) -> bool:
        """Return whether all pools may go down to zero."""
        return all(pool.min_instances == 0 for pool in self.pools)

    @model_validator(mode="after")
    def _pool_names_differ(self) -> Self:
        names = [pool.name for pool in self.pools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"pools: {name} is named twice")
        return self
