"""The pools' machine images: the parameter that names one, and whether it suits the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.config import naming
from gpu_fleet.config.stack_file import PROJECT
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, Status, not_known, ok, wrong
from gpu_fleet.operate.preflight.instance_types import described
from gpu_fleet.operate.preflight.stack_needs import Stack, StackPool
from infra.gpu_pool import root_device

Answer = Mapping[str, Any]


def ami_id(answer: Answer | None) -> Finding | str:
    """Return the AMI's id that the parameter holds, or what is wrong with the parameter."""
    if answer is None:
        return wrong("there is no such parameter in this region")
    value = str(answer.get("Parameter", {}).get("Value", ""))
    return value if value.startswith("ami-") else wrong(f"must hold an AMI's id, holds {value}")


def judge_availability(image_id: str, image: Answer | None) -> Finding:
    """The account can launch the AMI."""
    if image is None:
        return wrong(f"holds {image_id}, which this account cannot see in this region")
    if image.get("State") != "available":
        return wrong(f"holds {image_id}, which is {image.get('State')}")
    return ok(f"{image_id}, {image.get('Name', 'without a name')}")


def judge_architecture(image: Answer, types: Sequence[str], descriptions: Mapping[str, Answer]) -> Finding:
    """Every type of the pool runs the AMI. `instance_types` reports types that EC2 does not know."""
    architecture = image.get("Architecture")
    unsuitable = {
        name: supported
        for name in types
        if name in descriptions and architecture not in (supported := _architectures(descriptions[name]))
    }
    if unsuitable:
        types_text = ", ".join(f"{name} {' and '.join(supported)}" for name, supported in unsuitable.items())
        return wrong(f"the AMI is {architecture}, {types_text}")
    return ok(f"{architecture}")


def judge_root_name(image: Answer, expected: str) -> Finding:
    """The pool's volume replaces the root and is not a second volume beside it."""
    root = image.get("RootDeviceName")
    if root == expected:
        return ok(f"{root}")
    return wrong(
        f"the AMI's root is {root}, the pool's volume {expected}: instances would keep the AMI's small root; "
        f"use an AMI of Ubuntu, or of Amazon Linux whose parameter has amazon-linux or al2023 in its name"
    )


def judge_root_size(image: Answer, volume_gib: int) -> Finding:
    """The volume is at least as large as its snapshot; otherwise EC2 refuses the launch.

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
    """Yield one check for each parameter, for each pool whether the AMI suits it, and for each baked AMI."""
    paths: dict[str, StackPool] = {}
    for pool in stack.pools:
        paths.setdefault(pool.settings.ami_parameter, pool)
    for name, pool in paths.items():
        yield Check("AMI", name, (*pool.path, "ami_parameter"), lambda aws, name=name: _judge_parameter(aws, name))
    for pool in stack.pools:

        def examine_architecture(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            types = [name for _, name in pool.types]
            return _judge_image(aws, pool, lambda image: judge_architecture(image, types, described(aws, stack)))

        def examine_root(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            expected = root_device(pool.settings.ami_parameter)
            return _judge_image(aws, pool, lambda image: judge_root_name(image, expected))

        def examine_size(aws: ReadOnlyAws, pool: StackPool = pool) -> Finding:
            return _judge_image(aws, pool, lambda image: judge_root_size(image, pool.settings.volume_gib))

        yield Check("AMI's architecture", pool.title, (*pool.path, "types"), examine_architecture)
        yield Check("AMI's root device", pool.title, (*pool.path, "ami_parameter"), examine_root)
        yield Check("root volume", pool.title, (*pool.path, "volume_gib"), examine_size)

    for name, service in stack.settings.services.items():
        if service.boot.baked_ami:
            parameter = naming.baked_ami_parameter(PROJECT, stack.name, name)
            smallest_gib = min(pool.volume_gib for pool in service.pools.values())

            def examine_baked(aws: ReadOnlyAws, parameter: str = parameter, gib: int = smallest_gib) -> Finding:
                return _judge_baked(aws, parameter, gib)

            yield Check("baked AMI", name, ("services", name, "boot", "baked_ami"), examine_baked)


def _judge_baked(aws: ReadOnlyAws, parameter: str, smallest_gib: int) -> Finding:
    """The newest baked AMI can be launched by every pool; before the first `pulumi up` there is none."""
    if _parameter(aws, parameter) is None:
        return ok(f"{parameter} does not exist yet; pulumi up makes it, with the AMI that is built on")
    finding = _judge_parameter(aws, parameter)
    image = _image(aws, parameter)
    return finding if image is None or finding.status is not Status.OK else judge_root_size(image, smallest_gib)


def _judge_image(aws: ReadOnlyAws, pool: StackPool, judge: Callable[[Answer], Finding]) -> Finding:
    image = _image(aws, pool.settings.ami_parameter)
    return not_known("there is no AMI to look at") if image is None else judge(image)


def _judge_parameter(aws: ReadOnlyAws, name: str) -> Finding:
    image_id = ami_id(_parameter(aws, name))
    return image_id if isinstance(image_id, Finding) else judge_availability(image_id, _image(aws, name))


def _parameter(aws: ReadOnlyAws, name: str) -> Answer | None:
    not_found = ("ParameterNotFound", "ParameterVersionNotFound", "ValidationException")
    return aws.ask("ssm", "GetParameter", not_found=not_found, Name=name)


def _image(aws: ReadOnlyAws, name: str) -> Answer | None:
    """Return EC2's description of the AMI that the parameter holds; None if there is no such AMI."""
    image_id = ami_id(_parameter(aws, name))
    if isinstance(image_id, Finding):
        return None
    not_found = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed")
    answer = aws.ask("ec2", "DescribeImages", not_found=not_found, ImageIds=[image_id])
    return next(iter((answer or {}).get("Images", ())), None)


def _architectures(instance_type: Answer) -> Sequence[str]:
    return instance_type.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
