"""The pools' machine images: what the parameter says, and whether it suits the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.instance_types import described
from gpu_fleet.operate.preflight.stack_needs import Stack, StackPool
from infra.gpu_pool import root_device

Answer = Mapping[str, Any]


def parameter(answer: Answer | None) -> Finding | str:
    """The AMI's id that the parameter holds, or why it holds none."""
    if answer is None:
        return wrong("there is no such parameter in this region")
    value = str(answer.get("Parameter", {}).get("Value", ""))
    return value if value.startswith("ami-") else wrong(f"must hold an AMI's id, holds {value}")


def available(image_id: str, image: Answer | None) -> Finding:
    """The AMI can be launched by this account."""
    if image is None:
        return wrong(f"holds {image_id}, which this account cannot see in this region")
    if image.get("State") != "available":
        return wrong(f"holds {image_id}, which is {image.get('State')}")
    return ok(f"{image_id}, {image.get('Name', 'without a name')}")


def architecture(image: Answer, types: Sequence[str], known: Mapping[str, Answer]) -> Finding:
    """Every type of the pool runs it. Types that EC2 does not know are told elsewhere."""
    of_image = image.get("Architecture")
    others = {
        name: supported
        for name in types
        if name in known and of_image not in (supported := _architectures(known[name]))
    }
    if others:
        said = ", ".join(f"{name} {' and '.join(supported)}" for name, supported in others.items())
        return wrong(f"the AMI is {of_image}, {said}")
    return ok(f"{of_image}")


def root_name(image: Answer, expected: str) -> Finding:
    """The volume of the pool takes the place of the root and is no second one beside it."""
    found = image.get("RootDeviceName")
    if found == expected:
        return ok(f"{found}")
    return wrong(
        f"the AMI's root is {found}, the pool's volume {expected}: instances would keep the AMI's small root; "
        f"take an AMI of Ubuntu, or of Amazon Linux whose parameter has amazon-linux or al2023 in its name"
    )


def root_size(image: Answer, volume_gib: int) -> Finding:
    """The volume is no smaller than the snapshot that it is made from, else EC2 refuses the launch.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
    """
    for mapping in image.get("BlockDeviceMappings", ()):
        if mapping.get("DeviceName") == image.get("RootDeviceName") and "VolumeSize" in mapping.get("Ebs", {}):
            size = mapping["Ebs"]["VolumeSize"]
            if size > volume_gib:
                return wrong(f"must be at least {size} GiB, the size of the AMI's root (got {volume_gib})")
            return ok(f"{volume_gib} GiB, the AMI's root has {size}")
    return not_known("EC2 does not say how large the AMI's root is")


def checks(stack: Stack) -> Iterator[Check]:
    """Each parameter once, and for each pool whether the AMI suits it."""
    paths: dict[str, StackPool] = {}
    for pool in stack.pools:
        paths.setdefault(pool.settings.ami_parameter, pool)
    for name, pool in paths.items():
        yield Check("AMI", name, (*pool.path, "ami_parameter"), lambda aws, name=name: _resolved(aws, name))
    for pool in stack.pools:

        def fits(aws: ReadOnlyAws, pool: StackPool, judge: Callable[[Answer], Finding]) -> Finding:
            image = _image(aws, pool.settings.ami_parameter)
            return not_known("there is no AMI to look at") if image is None else judge(image)

        def look_at_architecture(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            types = [name for _, name in pool.types]
            return fits(aws, pool, lambda image: architecture(image, types, described(aws, stack)))

        def look_at_root(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            expected = root_device(pool.settings.ami_parameter)
            return fits(aws, pool, lambda image: root_name(image, expected))

        def look_at_size(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            return fits(aws, pool, lambda image: root_size(image, pool.settings.volume_gib))

        yield Check("AMI's architecture", pool.title, (*pool.path, "types"), look_at_architecture)
        yield Check("AMI's root device", pool.title, (*pool.path, "ami_parameter"), look_at_root)
        yield Check("root volume", pool.title, (*pool.path, "volume_gib"), look_at_size)


def _resolved(aws: ReadOnlyAws, name: str) -> Finding:
    found = parameter(_parameter(aws, name))
    return found if isinstance(found, Finding) else available(found, _image(aws, name))


def _parameter(aws: ReadOnlyAws, name: str) -> Answer | None:
    missing = ("ParameterNotFound", "ParameterVersionNotFound", "ValidationException")
    return aws.ask("ssm", "GetParameter", absent=missing, Name=name)


def _image(aws: ReadOnlyAws, name: str) -> Answer | None:
    """EC2's description of the AMI that the parameter holds; None where there is none."""
    image_id = parameter(_parameter(aws, name))
    if isinstance(image_id, Finding):
        return None
    missing = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed")
    answer = aws.ask("ec2", "DescribeImages", absent=missing, ImageIds=[image_id])
    return next(iter((answer or {}).get("Images", ())), None)


def _architectures(kind: Answer) -> Sequence[str]:
    return kind.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
