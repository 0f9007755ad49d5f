"""What a boot is expected to take, phase by phase, and what a launch costs: from sizes, bandwidths and prices.

Sizes, rates and prices stand in policies/catalog.yaml, each with its source. A pool's own launches replace the times
(`gpu_fleet.scaling.learning`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpu_fleet.config.catalog import Catalog, InstanceType, ServedModel
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.scaling.profile import Profile

GB_PER_GIB = 2**30 / 1e9
GB_PER_MIB = 2**20 / 1e9
HOURS_OF_MONTH = 730
BASELINE_MIB_PER_SECOND = 125
"""Throughput of a gp3 volume at no extra price: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""

OWN_MEMORY_GIB = 6
"""Estimate: main memory that the system and the engine's processes need. What weights leave of the rest is the page
cache from which they are read again."""

INTERNET_GBPS, MANY_VCPUS = 5.0, 32
"""Bandwidth of an instance to the internet below so many vCPUs; above, half of its network's:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-network-bandwidth.html"""


class Way(StrEnum):
    """How image or weights come to an instance."""

    NAT = "nat"
    """From the internet, through a NAT gateway that is paid by the GB."""
    REGION = "region"
    """Within the region, past the NAT gateway: S3 and ECR's layers through the free gateway endpoint."""
    AMI = "ami"
    """With the AMI."""


@dataclass(frozen=True, slots=True)
class BootPath:
    """How an instance of a pool comes by what it needs."""

    image: Way = Way.NAT
    weights: Way = Way.NAT
    volume_gib: float = 200
    volume_mib_per_second: float = BASELINE_MIB_PER_SECOND
    instance_store: bool = False
    """Docker's layers and the weights lie on the type's own disks, where it has some."""
    streamed: bool = False
    """The engine reads the weights from the network into the GPU, without a disk in between."""
    compile_cached: bool = False
    """What the engine compiles is there already."""


def expected_boot(
    kind: InstanceType, model: ServedModel, profile: Profile, catalog: Catalog, path: BootPath | None = None
) -> Boot:
    """Return what a boot on this type is expected to take.

    Worked: 8.5 GiB of weights on a g6.xlarge with its root volume at 125 MiB/s, all through NAT. The image, 12 GB and
    28.6 unpacked, is written at 131 MB/s: 310 s. The weights are written in 70 s and read from the page cache at 0.49
    GB/s in 19 s, after the engine's own start of 34 s.
    """
    path, told = path or BootPath(), catalog.boot
    return Boot(
        running=kind.running_seconds,
        agent=told.agent_seconds,
        image=_image_seconds(kind, catalog, path),
        weights=_start_seconds(kind, catalog, path) + _weights_seconds(kind, model, catalog, path),
        engine=profile.compile_seconds * (told.cached_compile_share if path.compile_cached else 1),
        healthy=told.healthy_seconds,
    )


def _image_seconds(kind: InstanceType, catalog: Catalog, path: BootPath) -> float:
    """Docker downloads, unpacks and writes at the same time: the slowest of the three sets the pace."""
    told = catalog.boot
    if path.image is Way.AMI:
        return 0.0
    return max(
        told.image_gb / _network_gb_per_second(kind, path.image),
        told.image_gb / told.unpack_gb_per_second,
        (told.image_gb + told.unpacked_image_gb) / _disk_gb_per_second(kind, catalog, path),
    )


def _start_seconds(kind: InstanceType, catalog: Catalog, path: BootPath) -> float:
    """The engine's own start; with the AMI's image it is the first to read what lies in the snapshot."""
    told = catalog.boot
    if path.image is not Way.AMI:
        return told.start_seconds
    pace = min(told.snapshot_gb_per_second, _disk_gb_per_second(kind, catalog, path))
    return told.start_seconds + told.image_read_gb / pace


def _weights_seconds(kind: InstanceType, model: ServedModel, catalog: Catalog, path: BootPath) -> float:
    """An engine downloads the weights, and then loads them into each copy's GPUs; or it streams them there."""
    told, size_gb = catalog.boot, model.weights_gib * GB_PER_GIB
    network = _network_gb_per_second(kind, path.weights)
    if path.streamed:
        return size_gb / min(network, told.stream_gb_per_second)
    disk = _disk_gb_per_second(kind, catalog, path)
    source = min(network, told.hub_gb_per_second) if path.weights is Way.NAT else network
    load = min(told.load_gb_per_second * kind.gpus, told.most_load_gb_per_second)
    if model.weights_gib > kind.memory_gib - OWN_MEMORY_GIB:
        load = min(load, disk)
    return size_gb / min(source, disk) + size_gb / load


def _network_gb_per_second(kind: InstanceType, way: Way) -> float:
    gbps = kind.network_gbps
    if way is Way.NAT:
        gbps = min(gbps, INTERNET_GBPS if kind.vcpus < MANY_VCPUS else gbps / 2)
    return gbps / 8


def _disk_gb_per_second(kind: InstanceType, catalog: Catalog, path: BootPath) -> float:
    if path.instance_store and kind.instance_store_gb:
        return catalog.boot.instance_store_gb_per_second
    return min(path.volume_mib_per_second * GB_PER_MIB, kind.volume_gbps / 8)


@dataclass(frozen=True, slots=True)
class LaunchPrice:
    """What one launch costs until its instance serves, USD."""

    nat_usd: float
    """Image and weights through the NAT gateway; zero where nothing passes it."""
    volume_usd: float
    """The root volume while it boots."""
    instance_usd: float
    """The instance while it boots, on demand: in every bill already."""

    @property
    def extra_usd(self) -> float:
        """Return what the instance's own hours do not pay."""
        return self.nat_usd + self.volume_usd

    @property
    def usd(self) -> float:
        """Return the whole price."""
        return self.extra_usd + self.instance_usd


def launch_price(
    kind: InstanceType, model: ServedModel, boot: Boot, catalog: Catalog, path: BootPath | None = None
) -> LaunchPrice:
    """Return what a launch costs that boots so.

    Worked: 12 GB of image and 8.5 GiB (9.1 GB) of weights at 0.045 USD are 0.95 USD; a g6.xlarge costs 0.80 an hour.
    """
    path, prices = path or BootPath(), catalog.prices
    passed_gb = (catalog.boot.image_gb if path.image is Way.NAT else 0.0) + (
        model.weights_gib * GB_PER_GIB if path.weights is Way.NAT else 0.0
    )
    extra_mib_per_second = max(0.0, path.volume_mib_per_second - BASELINE_MIB_PER_SECOND)
    volume_usd_per_month = (
        path.volume_gib * prices.volume_usd_per_gib_month
        + extra_mib_per_second * prices.throughput_usd_per_mib_per_second_month
    )
    hours = boot.seconds / 3600
    return LaunchPrice(
        nat_usd=passed_gb * prices.nat_usd_per_gb,
        volume_usd=volume_usd_per_month / HOURS_OF_MONTH * hours,
        instance_usd=kind.on_demand_usd_per_hour * hours,
    )
