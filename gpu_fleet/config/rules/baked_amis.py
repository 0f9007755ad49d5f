"""A service's baked AMI: what Image Builder can build on, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.rules import each
from gpu_fleet.config.settings import Nat, NewNetwork, ServiceSettings, StackSettings

_READABLE = re.compile(r"/(aws/service|imagebuilder)/[A-Za-z0-9_.\-/]+")
"""Parameters that Image Builder's own role may read:
https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSServiceRoleForImageBuilder.html"""


def problems(at: KeyPath, service: ServiceSettings, settings: StackSettings) -> Iterator[PlanProblem]:
    """Check the AMI that the baked one is built on, and the way of the instance that builds it to AWS."""
    if not service.boot.baked_ami:
        return
    here = (*at, "boot", "baked_ami")
    if isinstance(settings.network, NewNetwork) and settings.network.nat is Nat.NONE:
        yield PlanProblem(here, "must be false without a NAT gateway, by which Image Builder's instance reaches AWS")
    pools = each.pools(service)
    first = pools[0][1].ami_parameter if pools else ""
    for name, pool in pools:
        given, key = pool.ami_parameter, (*at, "pools", name, "ami_parameter")
        if given != first:
            yield PlanProblem(key, f"must be {first}, as in the first pool: boot.baked_ami makes one AMI (got {given})")
        elif name == pools[0][0] and _READABLE.fullmatch(given) is None:
            yield PlanProblem(
                key,
                "must begin with /aws/service/ or /imagebuilder/ and name no version: with boot.baked_ami, Image "
                f"Builder reads it (got {given[:60]})",
            )
