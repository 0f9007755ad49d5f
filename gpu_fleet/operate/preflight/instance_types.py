"""Instance types: their zones, and whether spot offers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.operate.preflight.account_zones import pool_zones
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack


def judge_offer(name: str, zones: Sequence[str], answer: Mapping[str, Any]) -> Finding:
    """AWS offers the type in each of the zones: Auto Scaling validates a group's template by a launch."""
    offering_zones = {o["Location"] for o in answer.get("InstanceTypeOfferings", ()) if o["InstanceType"] == name}
    missing = [zone for zone in zones if zone not in offering_zones]
    if not offering_zones:
        return wrong("no zone of this region has it")
    if missing:
        return wrong(f"not offered in {', '.join(missing)}; it is in {', '.join(sorted(offering_zones))}")
    return ok(f"offered in {', '.join(zones)}")


def judge_spot(types: Sequence[str], descriptions: Mapping[str, Mapping[str, Any]]) -> Finding:
    """EC2 offers every type as spot. `judge_offer` reports types that EC2 does not know."""
    without_spot = [
        name
        for name in types
        if name in descriptions and "spot" not in descriptions[name].get("SupportedUsageClasses", ())
    ]
    if without_spot:
        return wrong(f"no spot instances of {', '.join(without_spot)}")
    return ok(f"{', '.join(types)} available as spot")


def described(aws: ReadOnlyAws, stack: Stack) -> Mapping[str, Mapping[str, Any]]:
    """Return EC2's descriptions of the types that it knows here, by name.

    The call filters by name: EC2 refuses a call with an unknown name as a whole.
    """
    answer = aws.get("ec2", "DescribeInstanceTypes", Filters=[{"Name": "instance-type", "Values": _all_types(stack)}])
    return {each["InstanceType"]: each for each in answer.get("InstanceTypes", ())}


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each type of each pool, and of each pool with a spot share."""
    for pool in stack.pools:
        for path, name in pool.types:
            yield Check(
                "instance type",
                f"{pool.title} {name}",
                path,
                lambda aws, pool=pool, name=name: judge_offer(
                    name, pool_zones(stack, pool, aws), _offerings(aws, stack)
                ),
            )
        if pool.settings.spot_percent:
            yield Check(
                "spot",
                pool.title,
                (*pool.path, "spot_percent"),
                lambda aws, pool=pool: judge_spot([name for _, name in pool.types], described(aws, stack)),
            )


def _offerings(aws: ReadOnlyAws, stack: Stack) -> Mapping[str, Any]:
    return aws.get(
        "ec2",
        "DescribeInstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": _all_types(stack)}],
    )


def _all_types(stack: Stack) -> list[str]:
    return sorted({name for pool in stack.pools for _, name in pool.types})
