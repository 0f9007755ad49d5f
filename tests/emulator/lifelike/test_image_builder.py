"""Image Builder: what it refuses, and what a run of a pipeline leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import EmbeddedCloud

BASE = "ssm:/aws/service/base"
PARAMETER = "/imagebuilder/newest"


@pytest.fixture
def cloud() -> Iterator[EmbeddedCloud]:
    with EmbeddedCloud() as cloud:
        yield cloud


def code_of(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def component(cloud: EmbeddedCloud, name: str = "pull") -> str:
    made = cloud.client("imagebuilder").create_component(
        name=name, semanticVersion="1.0.0", platform="Linux", data="{}"
    )
    return made["componentBuildVersionArn"]


def recipe(cloud: EmbeddedCloud, arn: str, **changes: Any) -> dict[str, Any]:
    given = {"name": "r", "semanticVersion": "1.0.0", "parentImage": BASE, "components": [{"componentArn": arn}]}
    return {**given, "name": "recipe", **changes}


def profile(cloud: EmbeddedCloud) -> str:
    iam = cloud.client("iam")
    iam.create_role(RoleName="builder", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
    iam.create_instance_profile(InstanceProfileName="builder")
    iam.add_role_to_instance_profile(InstanceProfileName="builder", RoleName="builder")
    return "builder"


def pipeline(cloud: EmbeddedCloud, parameter: str = PARAMETER) -> str:
    builder = cloud.client("imagebuilder")
    made = builder.create_image_recipe(**recipe(cloud, component(cloud)))
    where = builder.create_infrastructure_configuration(name="where", instanceProfileName=profile(cloud))
    target = {
        "region": "us-east-1", "ssmParameterConfigurations": [{"parameterName": parameter, "dataType": "text"}],
    }  # fmt: skip
    to = builder.create_distribution_configuration(name="newest", distributions=[target])
    return builder.create_image_pipeline(
        name="pipeline",
        imageRecipeArn=made["imageRecipeArn"],
        infrastructureConfigurationArn=where["infrastructureConfigurationArn"],
        distributionConfigurationArn=to["distributionConfigurationArn"],
    )["imagePipelineArn"]


def test_a_component_of_the_same_version_is_another_build(cloud: EmbeddedCloud) -> None:
    assert [component(cloud).rpartition("/")[2] for _ in range(2)] == ["1", "2"]


def test_a_recipe_of_the_same_version_is_refused(cloud: EmbeddedCloud) -> None:
    builder, arn = cloud.client("imagebuilder"), component(cloud)
    builder.create_image_recipe(**recipe(cloud, arn))
    assert code_of(builder.create_image_recipe, **recipe(cloud, arn)) == "ResourceAlreadyExistsException"
    builder.create_image_recipe(**recipe(cloud, arn, semanticVersion="1.0.1"))


def test_a_part_that_is_not_there_is_refused(cloud: EmbeddedCloud) -> None:
    builder, arn = cloud.client("imagebuilder"), component(cloud)
    unknown = arn.replace("/pull/", "/push/")
    assert code_of(builder.create_image_recipe, **recipe(cloud, unknown)) == "InvalidParameterValueException"
    no_role = {"name": "where", "instanceProfileName": "nobody"}
    assert code_of(builder.create_infrastructure_configuration, **no_role) == "InvalidParameterValueException"
    cloud.client("iam").create_instance_profile(InstanceProfileName="nobody")
    assert code_of(builder.create_infrastructure_configuration, **no_role) == "InvalidParameterValueException"
    lost = "arn:aws:imagebuilder:us-east-1:123456789012:infrastructure-configuration/lost"
    made = builder.create_image_recipe(**recipe(cloud, arn))["imageRecipeArn"]
    given = {"name": "pipeline", "imageRecipeArn": made, "infrastructureConfigurationArn": lost}
    assert code_of(builder.create_image_pipeline, **given) == "InvalidParameterValueException"


@pytest.mark.parametrize(
    "change", [{"name": "a/b"}, {"semanticVersion": "1"}, {"platform": "Plan9"}, {"data": "x" * 16001}]
)
def test_a_value_out_of_its_bounds_is_refused(cloud: EmbeddedCloud, change: dict[str, str]) -> None:
    given = {"name": "pull", "semanticVersion": "1.0.0", "platform": "Linux", "data": "{}"}
    create = cloud.client("imagebuilder").create_component
    assert code_of(create, **{**given, **change}) == "InvalidParameterException"


def test_a_run_writes_another_ami_into_the_parameter(cloud: EmbeddedCloud) -> None:
    arn, newest = pipeline(cloud), []
    for _ in range(2):
        cloud.client("imagebuilder").start_image_pipeline_execution(imagePipelineArn=arn)
        newest.append(cloud.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"])
    found = cloud.client("ec2").describe_images(ImageIds=newest)["Images"]
    assert len({image["ImageId"] for image in found}) == 2


def test_a_run_may_not_write_other_parameters(cloud: EmbeddedCloud) -> None:
    arn = pipeline(cloud, "/mine/newest")
    cloud.client("imagebuilder").start_image_pipeline_execution(imagePipelineArn=arn)
    assert code_of(cloud.client("ssm").get_parameter, Name="/mine/newest") == "ParameterNotFound"
