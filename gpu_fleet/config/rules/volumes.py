"""Disks: the root volume, and the instance store, which takes the container's image and the model from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from gpu_fleet.config.boot_estimate import GB_PER_GIB
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.library import Library
from gpu_fleet.config.model_weights import streams
from gpu_fleet.config.rules import each
from gpu_fleet.config.settings import DEFAULT_AMI_PARAMETER, MAX_VOLUME_IOPS, PoolSettings, ServiceSettings
from gpu_fleet.scaling.policy import Policy

AMI_GIB, AMI_USED_GIB = 75, 50
"""Root volume of the default AMI, below which EC2 refuses to launch it, and the used part of it, GiB. `df -h` on Deep
Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20250505: 73G, 50G used
(https://github.com/tekumara/notes, its page on the AMI). The size of other AMIs is unknown."""

KNOWN_IMAGE = "vllm/vllm-openai"
"""The image whose size the catalog has. The size of others is unknown."""


MAX_IOPS_PER_GIB, MAX_MIB_PER_IOPS = 500, 0.25
"""Of a gp3 volume: IOPS for each GiB, and MiB/s for each of its IOPS:
https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html#gp3-ebs-volume-type"""


def rate_problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check what EC2 gives a volume of this size: 30 GiB may have 15000 IOPS, and 3000 IOPS may have 750 MiB/s."""
    boot = service.boot
    throughput, most = getattr(boot, "volume_throughput_mib_per_second", 0), boot.volume_iops * MAX_MIB_PER_IOPS
    if throughput > most:
        yield PlanProblem(
            (*at, "boot", "volume_throughput_mib_per_second"),
            f"must be at most {most:g}, a quarter of volume_iops (got {throughput})",
        )
    for name, pool in each.pools(service):
        most = getattr(pool, "volume_gib", MAX_VOLUME_IOPS) * MAX_IOPS_PER_GIB
        if boot.volume_iops > most:
            yield PlanProblem(
                (*at, "boot", "volume_iops"),
                f"must be at most {most}, 500 for each GiB of pool {name}'s volume (got {boot.volume_iops})",
            )


def problems(
    at: KeyPath, pool: PoolSettings, service: ServiceSettings, policy: Policy, library: Library
) -> Iterator[PlanProblem]:
    """Check that AMI, image and weights fit; an unknown size counts as 0. llama-70b: 50 + 27 + 131.5 GiB.

    On types that all have an instance store, image and weights are there, and the volume holds the AMI alone; a baked
    AMI's image stays on the volume.
    """
    model = library.profiles.models.get(policy.model)
    image_gib = math.ceil(library.catalog.boot.unpacked_image_gb / GB_PER_GIB)
    is_default = pool.ami_parameter == DEFAULT_AMI_PARAMETER
    image = {"the image": image_gib if _repository(service.container.image) == KNOWN_IMAGE else 0}
    weights = {f"the weights of {policy.model}": model.weights_gib if model is not None and not streams(service) else 0}
    baked = image if service.boot.baked_ami else {}
    moving = weights if baked else {**image, **weights}
    stores = _stores(pool, library) if service.boot.instance_store else {}
    for type_name, store_gib in stores.items():
        if 0 < store_gib < sum(moving.values()):
            yield PlanProblem(
                at,
                f"must have types with an instance store of at least {math.ceil(sum(moving.values()))} GiB: "
                f"{_sizes(moving)} GiB, or boot.instance_store: false (got {type_name} with {store_gib:.0f})",
            )
    on_store = bool(stores) and all(stores.values())
    parts = {"the AMI": AMI_USED_GIB if is_default else 0, **baked, **({} if on_store else moving)}
    needed_gib = max(AMI_GIB if is_default else 0, math.ceil(sum(parts.values())))
    if pool.volume_gib < needed_gib:
        text = "the size of the AMI" if needed_gib > sum(parts.values()) + 1 else f"{_sizes(parts) or 'nothing'} GiB"
        yield PlanProblem((*at, "volume_gib"), f"must be at least {needed_gib}: {text} (got {pool.volume_gib})")


def _stores(pool: PoolSettings, library: Library) -> dict[str, float]:
    """Return the GiB of the instance store of each type that the pool may launch, as far as the catalog has it."""
    names = [*pool.types, *(name for types in pool.alternatives for name in types)]
    types = library.catalog.types
    return {name: types[name].instance_store_gb / GB_PER_GIB for name in names if name in types}


def _sizes(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {gib:g}" for part, gib in parts.items() if gib)


def _repository(image: str) -> str:
    """Return `vllm/vllm-openai` for `docker.io/vllm/vllm-openai:v0.11.0@sha256:...`."""
    name = image.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    return name.removeprefix("docker.io/")
