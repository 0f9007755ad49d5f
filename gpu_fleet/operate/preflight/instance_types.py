"""Instance types: offered where the pools launch, and as spot where they ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack
from gpu_fleet.operate.preflight.zones import of_pool


def offered(name: str, zones: Sequence[str], answer: Mapping[str, Any]) -> Finding:
    """Each of the zones has the type: Auto Scaling validates a group's template by a launch."""
    where = {o["Location"] for o in answer.get("InstanceTypeOfferings", ()) if o["InstanceType"] == name}
    missing = [zone for zone in zones if zone not in where]
    if not where:
        return wrong("no zone of this region has it")
    if missing:
        return wrong(f"not offered in {', '.join(missing)}; it is in {', '.join(sorted(where))}")
    return ok(f"offered in {', '.join(zones)}")


def spot(types: Sequence[str], answer: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Every type of a pool with a spot share can be had as spot. Types that EC2 does not know are not judged here."""
    never = [name for name in types if name in answer and "spot" not in answer[name].get("SupportedUsageClasses", ())]
    return wrong(f"no spot instances of {', '.join(never)}") if never else ok(f"{', '.join(types)} can be had as spot")


def described(aws: ReadOnlyAws, stack: Stack) -> Mapping[str, Mapping[str, Any]]:
    """EC2's description of the types that it knows here, by name. By filter, as one unknown name spoils the call."""
    answer = aws.get("ec2", "DescribeInstanceTypes", Filters=[{"Name": "instance-type", "Values": _all_types(stack)}])
    return {kind["InstanceType"]: kind for kind in answer.get("InstanceTypes", ())}


def checks(stack: Stack) -> Iterator[Check]:
    """Each type of each pool, and the spot share of those that have one."""
    for pool in stack.pools:
        for path, name in pool.types:
            yield Check(
                "instance type",
                f"{pool.title} {name}",
                path,
                lambda aws, pool=pool, name=name: offered(name, of_pool(stack, pool, aws), _offerings(aws, stack)),
            )
        if pool.settings.spot_percent:
            yield Check(
                "spot",
                pool.title,
                (*pool.path, "spot_percent"),
                lambda aws, pool=pool: spot([name for _, name in pool.types], described(aws, stack)),
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
