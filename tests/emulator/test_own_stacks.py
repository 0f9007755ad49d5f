from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, provision
from infra.package import PackageError


def provisioned(stack: str, root: Path) -> EmbeddedCloud:
    try:
        return provision(stack, root, CloudOptions(boot_seconds=120))
    except PackageError as error:
        pytest.skip(f"the scaler's package cannot be built here: {error}")


@pytest.mark.parametrize("stack", ["local", "dev", "prod", "vertical"])
def test_every_resource_of_the_projects_stacks_can_be_made(root: Path, stack: str) -> None:
    with provisioned(stack, root) as cloud:
        counts = Counter(r.type for r in cloud.resources)
        parameters = cloud.services
        assert parameters
        groups = cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        assert len(groups) == counts["aws:autoscaling/group:Group"]
        named = {p["group"] for s in parameters.values() for p in s["bindings"]["pools"].values()}
        assert named == {g["AutoScalingGroupName"] for g in groups}
        cloud.advance(cloud.now + 300)
        for group in cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
            in_service = [i for i in group["Instances"] if i["LifecycleState"] == "InService"]
            assert len(in_service) == group["DesiredCapacity"] == group["MinSize"]


def test_the_local_stacks_group_drains_and_grows(root: Path) -> None:
    with provisioned("local", root) as cloud:
        service = next(iter(cloud.services))
        pool, binding = next(iter(cloud.services[service]["bindings"]["pools"].items()))
        group = cloud.group_name(service, pool)
        cloud.advance(cloud.now + 300)
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=3)
        cloud.advance(cloud.now + 300)
        arn = binding["target_group_arn"]
        health = cloud.client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        assert [h["TargetHealth"]["State"] for h in health] == ["healthy"] * 3


def copy_program(root: Path, folder: Path) -> str:
    """Copy the program without its stacks, and return the local stack's text."""
    for name in ("infra", "policies", "lambdas", "gpu_fleet"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pulumi.yaml", "pyproject.toml"):
        shutil.copy(root / name, folder)
    return (root / "Pulumi.local.yaml").read_text()


def test_a_stack_with_a_cache_and_a_bucket_of_weights_can_be_made(root: Path, tmp_path: Path) -> None:
    text = copy_program(root, tmp_path)
    text = text.replace("    docker.io: {existing_prefix: docker-hub}\n", "    quay.io: {}\n")
    text = text.replace("{bucket: models, prefix: llama-3.1-8b-fp8, load: stream}", "{}")
    (tmp_path / "Pulumi.local.yaml").write_text(text)
    with provisioned("local", tmp_path) as cloud:
        bucket = cloud.outputs["weights_bucket"]
        assert bucket == f"gpu-fleet-local-weights-{cloud.account}"
        assert (
            json.loads(cloud.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]["Effect"]
            == "Deny"
        )
        (rule,) = cloud.client("ecr").describe_pull_through_cache_rules()["pullThroughCacheRules"]
        assert rule["ecrRepositoryPrefix"] == "gpu-fleet-local/quay"


def test_instances_launch_the_base_ami_until_the_baked_one_is_built(root: Path, tmp_path: Path) -> None:
    text = copy_program(root, tmp_path)
    baked = text.replace("      boot:\n", "      boot:\n        baked_ami: true\n")
    assert baked != text
    (tmp_path / "Pulumi.local.yaml").write_text(baked)
    with provisioned("local", tmp_path) as cloud:
        group = cloud.group_name("chat", "l4")

        def launched() -> set[str]:
            cloud.advance(cloud.now + 600)
            (found,) = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])[
                "AutoScalingGroups"
            ]
            ids = [instance["InstanceId"] for instance in found["Instances"]]
            pages = cloud.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
            return {instance["ImageId"] for page in pages for instance in page["Instances"]}

        def parameter() -> str:
            return cloud.client("ssm").get_parameter(Name="/imagebuilder/gpu-fleet/local/chat")["Parameter"]["Value"]

        base = parameter()
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=1)
        assert launched() == {base}
        pipeline = cloud.outputs["baked_ami_pipelines"]["chat"]
        cloud.client("imagebuilder").start_image_pipeline_execution(imagePipelineArn=pipeline)
        assert parameter() != base
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=2)
        assert launched() == {base, parameter()}
