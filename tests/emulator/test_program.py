from __future__ import annotations

import os
import socket
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from gpu_fleet.config.document import DocumentError
from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, RegisteredResource, UnknownResourceError, provision

Make = Callable[..., Path]

PROGRAM = """
    import pulumi
    import pulumi_aws as aws

    settings = pulumi.Config()
    zones = aws.get_availability_zones_output().names

    class Pool(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("small:index:Pool", name, None, opts)
            child = pulumi.ResourceOptions(parent=self)
            self.vpc = aws.ec2.Vpc(f"{name}-vpc", cidr_block="10.0.0.0/16", opts=child)
            self.subnets = [
                aws.ec2.Subnet(
                    f"{name}-{i}", vpc_id=self.vpc.id, cidr_block=f"10.0.{i}.0/24", availability_zone=zones[i],
                    opts=child,
                )
                for i in range(2)
            ]
            self.balancer = aws.lb.LoadBalancer(
                name, internal=True, subnets=[s.id for s in self.subnets], opts=child
            )
            self.targets = aws.lb.TargetGroup(
                name, port=8000, protocol="HTTP", vpc_id=self.vpc.id, deregistration_delay=77, opts=child
            )
            self.listener = aws.lb.Listener(
                name,
                load_balancer_arn=self.balancer.arn,
                port=80,
                default_actions=[{"type": "forward", "target_group_arn": self.targets.arn}],
                opts=child,
            )
            template = aws.ec2.LaunchTemplate(
                name, image_id="ami-12c6146b", instance_type="g6.xlarge", metadata_options={"http_tokens": "required"},
                opts=child,
            )
            self.group = aws.autoscaling.Group(
                name,
                min_size=1,
                max_size=settings.require_int("max"),
                vpc_zone_identifiers=[s.id for s in self.subnets],
                launch_template={"id": template.id, "version": "$Latest"},
                target_group_arns=[self.targets.arn],
                opts=pulumi.ResourceOptions(parent=self, ignore_changes=["desiredCapacity"]),
            )
            self.register_outputs({})

    pool = Pool("pool")
    pulumi.export("group", pool.group.name)
    pulumi.export("suffix", pool.targets.arn_suffix)
    pulumi.export("secret", pulumi.Output.secret(pulumi.Output.concat("of ", pool.balancer.dns_name)))
"""
CONFIG = "small:max: 4\n"


def test_a_program_is_made_in_moto_and_its_group_launches_instances(make_project: Make) -> None:
    with provision("local", make_project(PROGRAM, CONFIG), CloudOptions(boot_seconds=100)) as cloud:
        name = cloud.outputs["group"]
        assert name.startswith("pool-")
        assert cloud.outputs["suffix"].startswith("targetgroup/pool-")
        assert cloud.outputs["secret"].startswith("of pool-")
        cloud.advance(cloud.now + 400)
        (group,) = cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        assert (group["AutoScalingGroupName"], group["MinSize"], group["MaxSize"]) == (name, 1, 4)
        assert [i["LifecycleState"] for i in group["Instances"]] == ["InService"]
        (arn,) = group["TargetGroupARNs"]
        (target,) = cloud.client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        assert target["TargetHealth"]["State"] == "healthy"
        found = cloud.client("elbv2").describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
        assert {"Key": "deregistration_delay.timeout_seconds", "Value": "77"} in found


def test_each_resource_is_reported_with_its_parent_and_ignored_changes(make_project: Make) -> None:
    seen: list[RegisteredResource] = []
    with provision("local", make_project(PROGRAM, CONFIG), on_resource=seen.append) as cloud:
        assert cloud.resources == seen
    by_type = {r.type: r for r in seen}
    assert len(seen) == 9
    component, group = by_type["small:index:Pool"], by_type["aws:autoscaling/group:Group"]
    assert not component.custom
    assert group.custom
    assert group.parent == component.urn
    assert group.ignore_changes == ("desiredCapacity",)
    assert component.parent.endswith("::pulumi:pulumi:Stack::small-local")
    assert len({r.urn for r in seen}) == len(seen)


def test_provisioning_is_reproducible_by_its_seed(make_project: Make) -> None:
    root = make_project(PROGRAM, CONFIG)

    def provisioned(seed: int) -> tuple[dict[str, str], list[str]]:
        with provision("local", root, CloudOptions(seed=seed)) as cloud:
            cloud.advance(cloud.now + 400)
            instances = cloud.client("autoscaling").describe_auto_scaling_instances()["AutoScalingInstances"]
            return {r.urn: r.id for r in cloud.resources}, [i["InstanceId"] for i in instances]

    assert provisioned(1) == provisioned(1)
    assert provisioned(1) != provisioned(2)


def test_closing_restores_the_process(make_project: Make) -> None:
    root = make_project(PROGRAM, CONFIG)
    before = (os.environ.copy(), list(sys.path), Path.cwd())
    with provision("local", root):
        assert os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
    assert (os.environ.copy(), list(sys.path), Path.cwd()) == before


def test_an_unknown_type_is_named_and_nothing_stays_open(make_project: Make) -> None:
    program = 'import pulumi_aws as aws\naws.route53.Zone("zone", name="example.org")\n'
    with pytest.raises(UnknownResourceError, match=r"zone \(aws:route53/zone:Zone\).*gpu_fleet/emulator/provider/"):
        provision("local", make_project(program))
    with provision("local", make_project(PROGRAM, CONFIG)):
        pass


def test_an_unknown_property_is_an_error_and_not_lost(make_project: Make) -> None:
    program = 'import pulumi_aws as aws\naws.ec2.Vpc("net", cidr_block="10.0.0.0/16", ipv4_ipam_pool_id="x")\n'
    with pytest.raises(UnknownResourceError, match=r"net .*ipv4IpamPoolId"):
        provision("local", make_project(program))


def test_an_unknown_call_is_an_error(make_project: Make) -> None:
    with pytest.raises(UnknownResourceError, match="getZone"):
        provision("local", make_project('import pulumi_aws as aws\naws.route53.get_zone(name="x")\n'))


def test_a_refused_resource_names_the_resource(make_project: Make) -> None:
    program = 'import pulumi_aws as aws\naws.ec2.Subnet("lost", vpc_id="vpc-0", cidr_block="10.0.0.0/24")\n'
    with pytest.raises(Exception, match="InvalidVpcID") as caught:
        provision("local", make_project(program))
    assert "while making lost (aws:ec2/subnet:Subnet)" in caught.value.__notes__


def test_a_name_that_is_too_long_for_aws_is_refused(make_project: Make) -> None:
    program = f'import pulumi_aws as aws\naws.lb.TargetGroup("{"x" * 25}", port=1, protocol="HTTP", vpc_id="vpc-0")\n'
    with pytest.raises(ValueError, match="longer than the 32"):
        provision("local", make_project(program))


def test_a_failing_program_raises_its_own_error(make_project: Make) -> None:
    with pytest.raises(ZeroDivisionError):
        provision("local", make_project("1 / 0"))
    with pytest.raises(Exception, match="small:max"):
        provision("local", make_project(PROGRAM))


def test_a_project_may_be_named_by_a_relative_path(make_project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program itself runs in its own folder, and imports from the project's."""
    root = make_project("import beside\n" + textwrap.dedent(PROGRAM), CONFIG)
    (root / "beside.py").write_text("")
    monkeypatch.chdir(root.parent)
    with provision("local", Path(root.name)) as cloud:
        assert cloud.outputs["group"]
    assert Path.cwd() == root.parent.resolve()


def test_a_missing_stack_or_project_names_its_file(make_project: Make, tmp_path: Path) -> None:
    root = make_project("")
    with pytest.raises(DocumentError, match=r"Pulumi\.prod\.yaml: there is no such file"):
        provision("prod", root)
    with pytest.raises(DocumentError, match=r"Pulumi\.yaml: there is no such file"):
        provision("local", tmp_path / "nowhere")
    (root / "Pulumi.local.yaml").write_text("config: {a: 1, a: 2}\n")
    with pytest.raises(DocumentError, match=r"Pulumi\.local\.yaml:1:16: a: key given twice"):
        provision("local", root)
    (root / "Pulumi.local.yaml").write_text("config: {}\n")
    with pytest.raises(DocumentError, match=r"Pulumi\.local\.yaml:1:1: config\.aws:region: must be given"):
        provision("local", root)
    (root / "infra" / "__main__.py").unlink()
    (root / "Pulumi.local.yaml").write_text("config: {aws:region: us-east-1}\n")
    with pytest.raises(DocumentError, match=r"Pulumi\.yaml:3:1: main: there is no program"):
        provision("local", root)


def test_only_one_cloud_is_open_at_a_time() -> None:
    with EmbeddedCloud() as cloud:
        with pytest.raises(RuntimeError, match="open already"), EmbeddedCloud():
            pass
        assert cloud.client("ec2").describe_vpcs()["Vpcs"]
    with pytest.raises(RuntimeError, match="closed"):
        cloud.client("ec2")


def test_no_request_leaves_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    with EmbeddedCloud() as cloud:
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(socket, "create_connection", refuse)
        assert boto3.client("sts").get_caller_identity()["Account"] == cloud.account
        with pytest.raises(Exception, match="Not yet implemented"):
            boto3.client("pricing").describe_services()


ITSELF = """
    import pulumi

    before = pulumi.StackReference(f"organization/{pulumi.get_project()}/{pulumi.get_stack()}")
    pulumi.export("before", before.outputs)
"""


def test_a_stack_has_no_earlier_outputs(make_project: Make) -> None:
    with provision("local", make_project(ITSELF)) as cloud:
        assert cloud.outputs["before"] == {}


def test_another_stack_cannot_be_read(make_project: Make) -> None:
    root = make_project(ITSELF.replace("{pulumi.get_stack()}", "other"))
    with pytest.raises(LookupError, match="organization/small/other: no such stack"):
        provision("local", root)


RULE = """
    import pulumi
    import pulumi_aws as aws

    zones = ["us-east-1a", "us-east-1b"]
    vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
    subnets = [
        aws.ec2.Subnet(zone, vpc_id=vpc.id, cidr_block=f"10.0.{i}.0/24", availability_zone=zone)
        for i, zone in enumerate(zones)
    ]
    balancer = aws.lb.LoadBalancer("front", internal=True, subnets=[s.id for s in subnets])
    groups = [aws.lb.TargetGroup(name, port=80, protocol="HTTP", vpc_id=vpc.id) for name in ("one", "two")]
    nothing = {"type": "fixed-response", "fixed_response": {"content_type": "text/plain", "status_code": "404"}}
    listener = aws.lb.Listener("front", load_balancer_arn=balancer.arn, port=80, default_actions=[nothing])

    def rule(name, priority, action):
        return aws.lb.ListenerRule(
            name, listener_arn=listener.arn, priority=priority, conditions=[{"path_pattern": {"values": ["/x"]}}],
            actions=[action], tags={"name": name},
        )

    shares = [{"arn": group.arn, "weight": weight} for group, weight in zip(groups, (70, 0), strict=True)]
    several = rule("several", 7, {"type": "forward", "forward": {"target_groups": shares}})
    single = rule("single", 8, {"type": "forward", "target_group_arn": groups[0].arn})
    closed = rule("closed", 9, nothing)

    def summary(found):
        return {
            "priority": found.priority,
            "tags": found.tags,
            "weights": {
                share.arn: share.weight
                for action in found.actions for forward in action.forwards for share in forward.target_groups
            },
            "is_listeners": found.listener_arn,
        }

    pulumi.export("listener", listener.arn)
    pulumi.export("groups", [group.arn for group in groups])
    for name, made in (("several", several), ("single", single), ("closed", closed)):
        pulumi.export(name, aws.lb.get_listener_rule_output(arn=made.arn).apply(summary))
    by_place = aws.lb.get_listener_rule_output(listener_arn=listener.arn, priority=several.priority)
    pulumi.export("by_place", by_place.apply(summary))
"""


def test_a_listener_rule_is_read_in_its_present_state(make_project: Make) -> None:
    with provision("local", make_project(RULE)) as cloud:
        one, two = cloud.outputs["groups"]
        listener = cloud.outputs["listener"]
        several = {"priority": 7, "tags": {"name": "several"}, "weights": {one: 70, two: 0}, "is_listeners": listener}
        assert cloud.outputs["several"] == several
        assert cloud.outputs["by_place"] == several
        assert cloud.outputs["single"]["weights"] == {one: 1}
        assert cloud.outputs["closed"]["weights"] == {}


def test_an_unknown_listener_rule_is_an_error(make_project: Make) -> None:
    program = """
        import pulumi_aws as aws

        aws.lb.get_listener_rule(arn="arn:aws:elasticloadbalancing:us-east-1:123456789012:listener-rule/app/x/1/2/3")
    """
    with pytest.raises(ClientError, match="RuleNotFound"):
        provision("local", make_project(program))
