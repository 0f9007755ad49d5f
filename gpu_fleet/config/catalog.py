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
    running_seconds: Annotated[float, Field(ge=0)] = 30
    """Time from the launch to the kernel's start."""
    network_gbps: Annotated[float, Field(gt=0)]
    """Bandwidth of its network, Gbit/s; what it bursts to, if it bursts."""
    volume_gbps: Annotated[float, Field(gt=0)]
    """Bandwidth to its EBS volumes, Gbit/s; what it bursts to, if it bursts."""
    instance_store_gb: Annotated[float, Field(ge=0)] = 0
    """Size of its own disks together, GB (10^9 bytes), as AWS gives it; 0: none."""
    quota: str
    """On-demand quota that the type counts against, a key of `quotas`."""
    spot_quota: str
    """Spot quota that the type counts against, a key of `quotas`."""


PositiveFloat = Annotated[float, Field(gt=0)]


class BootFigures(Section):
    """What boots are computed from (`gpu_fleet.config.boot_estimate`) until a pool's own are known. GB: 1e9 bytes."""

    agent_seconds: Annotated[float, Field(ge=0)]
    """From the kernel's start until the boot script has installed everything."""
    image_gb: PositiveFloat
    """The container's image as it is downloaded."""
    unpacked_image_gb: PositiveFloat
    """The same on disk."""
    unpack_gb_per_second: PositiveFloat
    """Of the downloaded image, as fast as Docker unpacks it on a fast disk."""
    image_read_gb: PositiveFloat
    """Part of an unpacked image that is read before the engine answers."""
    snapshot_gb_per_second: PositiveFloat
    """First read of a volume that was made from an AMI's snapshot."""
    start_seconds: Annotated[float, Field(ge=0)]
    """From the container's start until the engine asks for its weights."""
    hub_gb_per_second: PositiveFloat
    """Download of weights from a public hub."""
    load_gb_per_second: PositiveFloat
    """From page cache or disk into one GPU."""
    most_load_gb_per_second: PositiveFloat
    """The same into all GPUs of an instance together."""
    stream_gb_per_second: PositiveFloat
    """Weights read from the network into the GPUs, without a disk in between."""
    instance_store_gb_per_second: PositiveFloat
    """Written to or read from a type's own disks."""
    cached_compile_share: Annotated[float, Field(ge=0, le=1)]
    """Of a model's `compile_seconds`, what is left with a cache of what was compiled."""
    healthy_seconds: Annotated[float, Field(ge=0)]
    """From the engine's first answer until the load balancer finds it healthy."""
    sources: dict[str, str]
    """Source of each figure, or why it is an estimate."""

    @model_validator(mode="after")
    def _each_figure_has_its_source(self) -> Self:
        figures = set(type(self).model_fields) - {"sources"}
        for name in sorted(figures ^ set(self.sources)):
            raise ValueError(f"sources: must have one for each figure and no other ({name} differs)")
        return self


class LaunchPrices(Section):
    """Prices of a launch beside the instance's own, in the catalog's region."""

    nat_usd_per_gb: Annotated[float, Field(ge=0)]
    """Data processed by a NAT gateway."""
    volume_usd_per_gib_month: Annotated[float, Field(ge=0)]
    """gp3 storage."""
    throughput_usd_per_mib_per_second_month: Annotated[float, Field(ge=0)]
    """gp3 throughput above 125 MiB/s."""
    source: str
    """Their pages, and when they were read."""


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
    """Source of GPUs, memory and vCPUs."""
    running_source: str = ""
    """Source of `running_seconds`."""
    bandwidth_source: str = ""
    """Source of bandwidths and instance stores."""
    boot: BootFigures
    """What the phases of a boot are computed from."""
    prices: LaunchPrices
    """What a launch costs beside the instance's hours."""
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
