"""A pool: its bounds, its types, its image."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.accelerators import is_arm, needs_proprietary_driver
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.settings import PoolSettings

MOST_PARAMETER_NAME = 1011
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html"""


def count_problems(at: tuple[str | int, ...], pool: PoolSettings) -> Iterator[PlanProblem]:
    """An Auto Scaling group's bounds."""
    if pool.min > pool.max:
        yield PlanProblem((*at, "min"), f"must be at most max, {pool.max} (got {pool.min})")


def type_problems(at: tuple[str | int, ...], pool: PoolSettings) -> Iterator[PlanProblem]:
    """Each type once, in `types` and `alternatives` together."""
    places = _types(at, pool)
    for i, (place, name) in enumerate(places):
        if name in (earlier for _, earlier in places[:i]):
            yield PlanProblem(place, f"must be given once (got {name} twice)")


def _types(at: tuple[str | int, ...], pool: PoolSettings) -> list[tuple[tuple[str | int, ...], str]]:
    places: list[tuple[tuple[str | int, ...], str]] = [
        ((*at, "types", i), name) for i, name in enumerate(getattr(pool, "types", ()))
    ]
    for i, types in enumerate(getattr(pool, "alternatives", ())):
        places += [((*at, "alternatives", i, j), name) for j, name in enumerate(types)]
    return places


def image_problems(at: tuple[str | int, ...], pool: PoolSettings) -> Iterator[PlanProblem]:
    """The name of the AMI's parameter."""
    name = pool.ami_parameter
    if re.fullmatch(r"/[A-Za-z0-9_.\-/]+(:[A-Za-z0-9_.\-]+)?", name) is None or len(name) > MOST_PARAMETER_NAME:
        yield PlanProblem(
            (*at, "ami_parameter"),
            f"must be an SSM parameter's name that begins with /, of letters, digits and . - _ / and at most "
            f"{MOST_PARAMETER_NAME} characters (got {name[:60]})",
        )


def boot_problems(at: tuple[str | int, ...], pool: PoolSettings) -> Iterator[PlanProblem]:
    """Types that AWS's own AMIs do not boot on, as far as the parameter's name says for what they are."""
    name = pool.ami_parameter
    for here, kind in _types(at, pool):
        if f"/{'x86_64' if is_arm(kind) else 'arm64'}/" in name:
            made = "arm64" if is_arm(kind) else "x86_64"
            yield PlanProblem(here, f"must have the processor that ami_parameter names (got {kind}, which is {made})")
        elif "-oss-nvidia-driver" in name and needs_proprietary_driver(kind):
            yield PlanProblem(
                here, f"must have GPUs that the open NVIDIA driver of ami_parameter drives, T4 or newer (got {kind})"
            )
