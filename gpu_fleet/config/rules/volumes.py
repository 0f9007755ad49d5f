"""The root volume, which holds the system, the container's image and the model."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gpu_fleet.config.boot_estimate import GB_PER_GIB
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import DEFAULT_AMI_PARAMETER, PoolSettings, ServiceSettings
from gpu_fleet.scaling.policy import Policy

AMI_GIB, AMI_USED_GIB = 75, 50
"""Root volume of the default AMI, below which EC2 refuses to launch it, and the used part of it, GiB. `df -h` on Deep
Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20250505: 73G, 50G used
(https://github.com/tekumara/notes, its page on the AMI). The size of other AMIs is unknown."""

KNOWN_IMAGE = "vllm/vllm-openai"
"""The image whose size the catalog has. The size of others is unknown."""


def problems(
    at: KeyPath, pool: PoolSettings, service: ServiceSettings, policy: Policy, library: Library
) -> Iterator[PlanProblem]:
    """Check that AMI, image and weights fit; an unknown size counts as 0. llama-70b: 50 + 27 + 131.5 GiB."""
    model = library.profiles.models.get(policy.model)
    image_gib = math.ceil(library.catalog.boot.unpacked_image_gb / GB_PER_GIB)
    is_default = pool.ami_parameter == DEFAULT_AMI_PARAMETER
    parts = {
        "the AMI": AMI_USED_GIB if is_default else 0,
        "the image": image_gib if _repository(service.container.image) == KNOWN_IMAGE else 0,
        f"the weights of {policy.model}": model.weights_gib if model is not None else 0,
    }
    needed_gib = max(AMI_GIB if is_default else 0, math.ceil(sum(parts.values())))
    if pool.volume_gib < needed_gib:
        sizes = ", ".join(f"{part} {gib:g}" for part, gib in parts.items() if gib)
        yield PlanProblem(
            (*at, "volume_gib"), f"must be at least {needed_gib}: {sizes or 'nothing'} GiB (got {pool.volume_gib})"
        )


def _repository(image: str) -> str:
    """Return `vllm/vllm-openai` for `docker.io/vllm/vllm-openai:v0.11.0@sha256:...`."""
    name = image.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    return name.removeprefix("docker.io/")
