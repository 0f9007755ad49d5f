"""The catalog of instance types and the serving profiles: the models of catalog.yaml and profiles.yaml."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_fleet.scaling.policy import Section
from gpu_fleet.scaling.profile import Profile

CATALOG = "catalog.yaml"
PROFILES = "profiles.yaml"

USABLE_MEMORY_FRACTION = 0.9
"""Share of a GPU's memory that vLLM uses, its default `gpu_memory_utilization`:
https://docs.vllm.ai/en/latest/configuration/engine_args.html"""


class Quota(Section):
    """A vCPU quota of EC2: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html."""

    name: str
    """Its name in Service Quotas."""
    code: Annotated[str, Field(pattern=r"^L-[0-9A-F]{8}$")]
    """Its code in Service Quotas."""


class InstanceType(Section):
    """One EC2 instance type."""

    gpu: str
    """GPU class, with its memory where one name has several: L4, A100-40G."""
    gpus: Annotated[int, Field(ge=1)]
    """GPUs of one instance."""
    gpu_memory_gib: Annotated[float, Field(gt=0)]
    """Memory of one GPU, GiB."""
    vcpus: Annotated[int, Field(ge=1)]
    """vCPUs, which EC2's quotas count."""
    memory_gib: Annotated[float, Field(gt=0)]
    """Main memory, GiB."""
    on_demand_usd_per_hour: Annotated[float, Field(gt=0)]
    """On-demand price, Linux, in the catalog's region."""
    spot_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Expected spot price; required for a pool with a spot share."""
    boot_seconds: Annotated[float, Field(ge=0)] = 180
    """Time from the launch to the start of the serving container."""
    instance_store_gb: Annotated[float, Field(ge=0)] = 0
    """Size of its own disks together, GB (10^9 bytes), as AWS gives it; 0: none."""
    quota: str
    """On-demand quota that the type counts against, a key of `quotas`."""
    spot_quota: str
    """Spot quota that the type counts against, a key of `quotas`."""


class Catalog(Section):
    """policies/catalog.yaml: the instance types that pools may use."""

    region: str
    """Region of the prices."""
    date: dt.date
    """Day of the prices."""
    source: str
    """Source of the on-demand prices."""
    spot_source: str = ""
    """Source of the spot prices, or the basis of their estimates."""
    hardware_source: str = ""
    """Source of GPUs, memory, vCPUs and instance store."""
    boot_source: str = ""
    """Source of `boot_seconds`."""
    quotas: dict[str, Quota]
    """Quotas by the short name that instance types use."""
    types: dict[str, InstanceType]
    """Instance types by EC2's name."""


class Placement(Profile):
    """One model on a number of GPUs of one class."""

    gpu: str
    """GPU class, as in the catalog."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs per copy of the model (tensor parallel)."""


class ServedModel(Section):
    """A model that policies may name, and how fast each class of GPU serves it."""

    description: str = ""
    """The model and its precision."""
    weights_gib: Annotated[float, Field(gt=0)]
    """Memory of the weights, GiB."""
    kv_bytes_per_token: Annotated[int, Field(gt=0)]
    """KV cache of one token, bytes: 2 x layers x KV heads x head size x bytes per value."""
    source: str
    """Source of these two figures."""
    profiles: Annotated[tuple[Placement, ...], Field(min_length=1)]
    """Measurements or estimates, one for each class and number of GPUs."""

    def placement(self, gpu: str, gpus: int) -> Placement | None:
        """Return the profile of this class and number of GPUs, or None."""
        return next((p for p in self.profiles if (p.gpu, p.gpus) == (gpu, gpus)), None)

    @model_validator(mode="after")
    def _each_placement_once(self) -> Self:
        seen: set[tuple[str, int]] = set()
        for i, placement in enumerate(self.profiles):
            key = (placement.gpu, placement.gpus)
            if key in seen:
                raise ValueError(
                    f"profiles[{i}].gpu: must be one profile for each class and number of GPUs "
                    f"(got {placement.gpus} x {placement.gpu} twice)"
                )
            seen.add(key)
        return self


class Profiles(Section):
    """policies/profiles.yaml: what instances can carry; each figure has a source or is marked as an estimate."""

    models: dict[str, ServedModel]
    """Models by the name that policies use."""
