"""A pool's bounds, types and image."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.accelerators import is_arm, needs_proprietary_driver
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import PoolSettings

MAX_PARAMETER_NAME = 1011
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html"""


def count_problems(at: KeyPath, pool: PoolSettings) -> Iterator[PlanProblem]:
    """Check the Auto Scaling group's bounds."""
    if pool.min > pool.max:
        yield PlanProblem((*at, "min"), f"must be at most max, {pool.max} (got {pool.min})")


def type_problems(at: KeyPath, pool: PoolSettings) -> Iterator[PlanProblem]:
    """Check that no type occurs twice in `types` and `alternatives` together."""
    places = _types(at, pool)
    for i, (place, name) in enumerate(places):
        if name in (earlier for _, earlier in places[:i]):
            yield PlanProblem(place, f"must be given once (got {name} twice)")


def _types(at: KeyPath, pool: PoolSettings) -> list[tuple[KeyPath, str]]:
    places: list[tuple[KeyPath, str]] = [((*at, "types", i), name) for i, name in enumerate(getattr(pool, "types", ()))]
    for i, types in enumerate(getattr(pool, "alternatives", ())):
        places += [((*at, "alternatives", i, j), name) for j, name in enumerate(types)]
    return places


def image_problems(at: KeyPath, pool: PoolSettings) -> Iterator[PlanProblem]:
    """Check the name of the AMI's parameter."""
    name = pool.ami_parameter
    if re.fullmatch(r"/[A-Za-z0-9_.\-/]+(:[A-Za-z0-9_.\-]+)?", name) is None or len(name) > MAX_PARAMETER_NAME:
        yield PlanProblem(
            (*at, "ami_parameter"),
            f"must be an SSM parameter's name that begins with /, of letters, digits and . - _ / and at most "
            f"{MAX_PARAMETER_NAME} characters (got {name[:60]})",
        )


def boot_problems(at: KeyPath, pool: PoolSettings) -> Iterator[PlanProblem]:
    """Check that AWS's own AMIs boot on the types, as far as the parameter's name tells the AMI's kind."""
    name = pool.ami_parameter
    for here, type_name in _types(at, pool):
        if f"/{'x86_64' if is_arm(type_name) else 'arm64'}/" in name:
            processor = "arm64" if is_arm(type_name) else "x86_64"
            yield PlanProblem(
                here, f"must have the processor that ami_parameter names (got {type_name}, which is {processor})"
            )
        elif "-oss-nvidia-driver" in name and needs_proprietary_driver(type_name):
            yield PlanProblem(
                here,
                f"must have GPUs that the open NVIDIA driver of ami_parameter drives, T4 or newer (got {type_name})",
            )
