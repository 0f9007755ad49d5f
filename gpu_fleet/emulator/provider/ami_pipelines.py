"""EC2 Image Builder: components, recipes, where to build, where to send the result, and pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    makes,
    to_bool,
    to_int,
    without_none,
)


def _tags(r: Resource) -> dict[str, Any]:
    """Return the argument `tags`, or none without tags: the API refuses an empty mapping."""
    tags = r.inputs.get("tags")
    return {"tags": {key: str(value) for key, value in tags.items()}} if tags else {}


@makes("aws:imagebuilder/component:Component", longest_name=128)
def component(aws: MotoAccount, r: Resource) -> MadeResource:
    """A component."""
    i = r.inputs
    arn = aws.client("imagebuilder").create_component(
        name=r.physical_name, semanticVersion=i["version"], platform=i["platform"], data=i["data"], **_tags(r)
    )["componentBuildVersionArn"]
    return arn, {"arn": arn}


@makes("aws:imagebuilder/imageRecipe:ImageRecipe", longest_name=128)
def image_recipe(aws: MotoAccount, r: Resource) -> MadeResource:
    """A recipe."""
    i = r.inputs
    arn = aws.client("imagebuilder").create_image_recipe(
        name=r.physical_name,
        semanticVersion=i["version"],
        parentImage=i["parentImage"],
        components=[{"componentArn": each["componentArn"]} for each in i["components"]],
        blockDeviceMappings=[_device(each) for each in i.get("blockDeviceMappings") or []],
        **_tags(r),
    )["imageRecipeArn"]
    return arn, {"arn": arn}


def _device(device: Mapping[str, Any]) -> dict[str, Any]:
    ebs = dict(device["ebs"])
    for key in ("encrypted", "deleteOnTermination"):
        ebs[key] = to_bool(ebs.get(key))
    return {"deviceName": device["deviceName"], "ebs": without_none(**{**ebs, "volumeSize": to_int(ebs["volumeSize"])})}


@makes("aws:imagebuilder/infrastructureConfiguration:InfrastructureConfiguration", longest_name=128)
def infrastructure_configuration(aws: MotoAccount, r: Resource) -> MadeResource:
    """Where and as whom to build."""
    i = r.inputs
    options = i.get("instanceMetadataOptions") or {}
    arn = aws.client("imagebuilder").create_infrastructure_configuration(
        name=r.physical_name,
        instanceProfileName=i["instanceProfileName"],
        instanceMetadataOptions=without_none(
            httpTokens=options.get("httpTokens"), httpPutResponseHopLimit=to_int(options.get("httpPutResponseHopLimit"))
        ),
        **without_none(
            instanceTypes=i.get("instanceTypes"),
            subnetId=i.get("subnetId"),
            securityGroupIds=i.get("securityGroupIds"),
            terminateInstanceOnFailure=i.get("terminateInstanceOnFailure"),
            resourceTags=i.get("resourceTags"),
        ),
        **_tags(r),
    )["infrastructureConfigurationArn"]
    return arn, {"arn": arn}


@makes("aws:imagebuilder/distributionConfiguration:DistributionConfiguration", longest_name=128)
def distribution_configuration(aws: MotoAccount, r: Resource) -> MadeResource:
    """Where to send the AMI, and which parameters then hold its id."""
    arn = aws.client("imagebuilder").create_distribution_configuration(
        name=r.physical_name, distributions=r.inputs["distributions"], **_tags(r)
    )["distributionConfigurationArn"]
    return arn, {"arn": arn}


@makes("aws:imagebuilder/imagePipeline:ImagePipeline", longest_name=128)
def image_pipeline(aws: MotoAccount, r: Resource) -> MadeResource:
    """A pipeline, which nobody has run yet."""
    i = r.inputs
    tests = i.get("imageTestsConfiguration")
    arn = aws.client("imagebuilder").create_image_pipeline(
        name=r.physical_name,
        infrastructureConfigurationArn=i["infrastructureConfigurationArn"],
        **without_none(
            imageRecipeArn=i.get("imageRecipeArn"),
            distributionConfigurationArn=i.get("distributionConfigurationArn"),
            enhancedImageMetadataEnabled=i.get("enhancedImageMetadataEnabled"),
            imageTestsConfiguration={**tests, "timeoutMinutes": to_int(tests["timeoutMinutes"])} if tests else None,
        ),
        **_tags(r),
    )["imagePipelineArn"]
    return arn, {"arn": arn}
