"""A service's baked AMI: an Image Builder pipeline that pulls the container's image into an AMI."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.accelerators import is_arm
from gpu_fleet.config.image_registry import PulledImage
from infra import iam
from infra.gpu_pool import root_device
from infra.iam import Place, Statement
from infra.instance_rights import ecr_repository_arn, image_statements, session_statements

VERSION = "1.0.0"
"""Of component and recipe. They never change: a change makes new ones, with another random part in their names."""

X86_BUILDERS = ("m7i.xlarge", "m6i.xlarge", "m5.xlarge")
ARM_BUILDERS = ("m7g.xlarge", "m6g.xlarge")
"""Types of the instance that builds, of which Image Builder takes one that is available. A pull needs no GPU."""

PULL_TIMEOUT_SECONDS = 3600
MAX_AMI_NAME = 127
"""https://docs.aws.amazon.com/imagebuilder/latest/APIReference/API_AmiDistributionConfiguration.html"""


@dataclass(frozen=True, slots=True)
class BakedAmiArgs:
    """What the pipeline needs from its service."""

    parameter_name: str
    """Of the SSM parameter that holds the newest AMI's id."""
    base_ami_parameter: str
    """SSM parameter with the id of the AMI that is built on, read at each build."""
    instance_type: str
    """Of the pools, whose processor the AMI is for."""
    volume_gib: int
    """Root volume of the AMI: at most that of each pool."""
    image: pulumi.Input[PulledImage]
    """The container's image as instances pull it."""
    region: str
    place: pulumi.Output[Place]
    subnet_id: pulumi.Input[str]
    security_group_id: pulumi.Input[str]
    needed_to_build: Sequence[pulumi.Resource]
    """The way to AWS and to the registry."""
    tags: Mapping[str, str]


def document(image: str) -> str:
    """Return the document of the component: pull the image, and see on an instance of the new AMI that it is there.

    JSON is YAML. The login would otherwise be baked too, in root's ~/.docker.
    https://docs.aws.amazon.com/imagebuilder/latest/userguide/toe-use-documents.html
    """
    registry = image.partition("/")[0]
    commands = ["set -euo pipefail", "export DOCKER_CONFIG=$(mktemp -d)", """trap 'rm -rf "$DOCKER_CONFIG"' EXIT"""]
    if ".dkr.ecr." in registry:
        commands.append(
            f"aws ecr get-login-password --region {registry.split('.')[3]} | "
            f"docker login --username AWS --password-stdin {shlex.quote(registry)}"
        )
    commands.append(f"docker pull --quiet {shlex.quote(image)}")
    phases = [
        {"name": "build", "steps": [_step("PullImage", commands, attempts=3)]},
        {"name": "test", "steps": [_step("FindImage", [f"docker image inspect {shlex.quote(image)}"], attempts=1)]},
    ]
    return json.dumps({"schemaVersion": 1.0, "phases": phases}, indent=1)


def _step(name: str, commands: Sequence[str], *, attempts: int) -> dict[str, object]:
    return {
        "name": name,
        "action": "ExecuteBash",
        "timeoutSeconds": PULL_TIMEOUT_SECONDS,
        "maxAttempts": attempts,
        "inputs": {"commands": ["\n".join(commands)]},
    }


def builder_statements(place: Place, component_arn: str, image: PulledImage) -> list[Statement]:
    """Return the rights of the instance that builds and of the one that tests: be led by Image Builder through Systems
    Manager, read the component, log, and pull the image.

    What AWS's EC2InstanceProfileForImageBuilder has, for this component alone; without AmazonSSMManagedInstanceCore,
    which reads every parameter of the account.
    https://docs.aws.amazon.com/imagebuilder/latest/userguide/image-builder-setting-up.html#image-builder-IAM-prereq
    """
    return [
        *session_statements(place),
        Statement(
            "TakeCommands",
            [
                "ec2messages:AcknowledgeMessage",
                "ec2messages:DeleteMessage",
                "ec2messages:FailMessage",
                "ec2messages:GetEndpoint",
                "ec2messages:GetMessages",
                "ec2messages:SendReply",
            ],
            ["*"],
        ),
        Statement("ReadComponent", ["imagebuilder:GetComponent"], [component_arn]),
        Statement("ReadToolsOfImageBuilder", ["s3:GetObject"], [f"arn:{place.partition}:s3:::ec2imagebuilder*/*"]),
        Statement(
            "Log",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            [place.arn("logs", "log-group:/aws/imagebuilder/*")],
        ),
        *image_statements(ecr_repository_arn(image.name, place.partition), cached=image.cached),
    ]


class BakedAmi(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:BakedAmi`. A pipeline that bakes an image, and the parameter that it fills.

    Until the first build the parameter holds the AMI that is built on, so that instances launch and pull the image.
    The AMIs are not the stack's, and stay when it is destroyed.
    """

    parameter_name: pulumi.Output[str]
    pipeline_arn: pulumi.Output[str]

    def __init__(self, name: str, args: BakedAmiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:BakedAmi", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        parameter = self._make_parameter(name, args)
        component = aws.imagebuilder.Component(
            name,
            platform="Linux",
            version=VERSION,
            data=pulumi.Output.from_input(args.image).apply(lambda image: document(image.name)),
            tags=args.tags,
            opts=self._child,
        )
        pipeline = aws.imagebuilder.ImagePipeline(
            name,
            image_recipe_arn=self._make_recipe(name, args, component).arn,
            infrastructure_configuration_arn=self._make_infrastructure(name, args, component).arn,
            distribution_configuration_arn=self._make_distribution(name, args, parameter).arn,
            # An inventory of packages would need more rights, and nothing reads it.
            enhanced_image_metadata_enabled=False,
            image_tests_configuration=aws.imagebuilder.ImagePipelineImageTestsConfigurationArgs(
                image_tests_enabled=True, timeout_minutes=60
            ),
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=args.needed_to_build),
        )
        self.parameter_name, self.pipeline_arn = parameter.name, pipeline.arn
        self.register_outputs({"parameter_name": self.parameter_name, "pipeline_arn": self.pipeline_arn})

    def _make_parameter(self, name: str, args: BakedAmiArgs) -> aws.ssm.Parameter:
        base = aws.ssm.get_parameter_output(name=args.base_ami_parameter)
        return aws.ssm.Parameter(
            name,
            name=args.parameter_name,
            type="String",
            data_type="aws:ec2:image",
            description="The newest baked AMI. Written by Image Builder; before the first build, the AMI built on.",
            value=base.insecure_value,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["value"]),
        )

    def _make_recipe(
        self, name: str, args: BakedAmiArgs, component: aws.imagebuilder.Component
    ) -> aws.imagebuilder.ImageRecipe:
        return aws.imagebuilder.ImageRecipe(
            name,
            version=VERSION,
            parent_image=f"ssm:{args.base_ami_parameter}",
            components=[aws.imagebuilder.ImageRecipeComponentArgs(component_arn=component.arn)],
            block_device_mappings=[
                aws.imagebuilder.ImageRecipeBlockDeviceMappingArgs(
                    device_name=root_device(args.base_ami_parameter),
                    ebs=aws.imagebuilder.ImageRecipeBlockDeviceMappingEbsArgs(
                        volume_type="gp3",
                        volume_size=args.volume_gib,
                        encrypted="true",
                        delete_on_termination="true",
                    ),
                )
            ],
            tags=args.tags,
            opts=self._child,
        )

    def _make_infrastructure(
        self, name: str, args: BakedAmiArgs, component: aws.imagebuilder.Component
    ) -> aws.imagebuilder.InfrastructureConfiguration:
        role_name = naming.fitting(name, naming.MAX_ROLE_NAME)
        role = aws.iam.Role(
            role_name, assume_role_policy=json.dumps(iam.trust("ec2.amazonaws.com")), tags=args.tags, opts=self._child
        )
        policy = aws.iam.RolePolicy(
            name,
            role=role.id,
            policy=pulumi.Output.all(args.place, component.arn, args.image).apply(
                lambda resolved: json.dumps(iam.document(builder_statements(*resolved)))
            ),
            opts=self._child,
        )
        profile = aws.iam.InstanceProfile(role_name, role=role.name, tags=args.tags, opts=self._child)
        return aws.imagebuilder.InfrastructureConfiguration(
            name,
            instance_profile_name=profile.name,
            instance_types=list(ARM_BUILDERS if is_arm(args.instance_type) else X86_BUILDERS),
            subnet_id=args.subnet_id,
            security_group_ids=[args.security_group_id],
            instance_metadata_options=aws.imagebuilder.InfrastructureConfigurationInstanceMetadataOptionsArgs(
                http_tokens="required", http_put_response_hop_limit=1
            ),
            terminate_instance_on_failure=True,
            resource_tags=args.tags,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )

    def _make_distribution(
        self, name: str, args: BakedAmiArgs, parameter: aws.ssm.Parameter
    ) -> aws.imagebuilder.DistributionConfiguration:
        built_at = "-{{ imagebuilder:buildDate }}"
        return aws.imagebuilder.DistributionConfiguration(
            name,
            distributions=[
                aws.imagebuilder.DistributionConfigurationDistributionArgs(
                    region=args.region,
                    ami_distribution_configuration=aws.imagebuilder.DistributionConfigurationDistributionAmiDistributionConfigurationArgs(
                        name=naming.cut(name, MAX_AMI_NAME - len(built_at)) + built_at, ami_tags=args.tags
                    ),
                    ssm_parameter_configurations=[
                        aws.imagebuilder.DistributionConfigurationDistributionSsmParameterConfigurationArgs(
                            parameter_name=parameter.name, data_type="aws:ec2:image"
                        )
                    ],
                )
            ],
            tags=args.tags,
            opts=self._child,
        )
