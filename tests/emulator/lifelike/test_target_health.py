from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import faults


@pytest.fixture
def up(desk: Any) -> Any:
    desk.make_group(DesiredCapacity=1, HealthCheckType="EC2")
    desk.pass_time(200)
    return desk


def described(desk: Any) -> dict[str, Any]:
    found = desk.elb.describe_target_health(TargetGroupArn=desk.target_group)["TargetHealthDescriptions"]
    return found[0]["TargetHealth"]


def test_a_new_target_is_initial_until_its_first_check_passes(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(125)
    assert described(desk)["State"] == "initial"
    assert described(desk)["Reason"] == "Elb.InitialHealthChecking"
    desk.pass_time(6)
    assert described(desk) == {"State": "healthy"}


def test_a_target_is_unhealthy_after_its_threshold_and_healthy_again_after_the_other(up: Any) -> None:
    instance = up.instances()[0]["InstanceId"]
    with faults.engine_down(up.cloud, instance):
        up.pass_time(10)
        assert described(up)["State"] == "healthy"
        up.pass_time(15)
        assert described(up)["State"] == "unhealthy"
        assert described(up)["Reason"] == "Target.FailedHealthChecks"
    up.pass_time(15)
    assert described(up)["State"] == "unhealthy"
    up.pass_time(20)
    assert described(up)["State"] == "healthy"


def test_an_engine_back_before_the_threshold_was_never_unhealthy(up: Any) -> None:
    instance = up.instances()[0]["InstanceId"]
    with faults.engine_down(up.cloud, instance):
        up.pass_time(8)
    up.pass_time(60)
    assert described(up)["State"] == "healthy"
    assert "unhealthy" not in [str(c.change) for c in up.changes]


def test_a_deregistered_target_drains_until_its_last_request_ends(up: Any) -> None:
    target = [{"Id": up.instances()[0]["InstanceId"]}]
    up.elb.deregister_targets(TargetGroupArn=up.target_group, Targets=target)
    assert described(up)["State"] == "draining"
    up.pass_time(31)
    assert up.health() == {}
    health = up.elb.describe_target_health(TargetGroupArn=up.target_group, Targets=target)
    assert health["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"


def test_a_drain_lasts_no_longer_than_the_deregistration_delay(up: Any) -> None:
    up.cloud.world.drain_seconds = 10_000
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": "45"}
    up.elb.modify_target_group_attributes(TargetGroupArn=up.target_group, Attributes=[attribute])
    up.elb.deregister_targets(TargetGroupArn=up.target_group, Targets=[{"Id": up.instances()[0]["InstanceId"]}])
    up.pass_time(44)
    assert described(up)["State"] == "draining"
    up.pass_time(2)
    assert up.health() == {}


def test_deregistering_what_is_not_registered_is_no_error(up: Any) -> None:
    up.elb.deregister_targets(TargetGroupArn=up.target_group, Targets=[{"Id": "i-00000000000000000"}])


def test_a_target_registered_again_starts_as_initial(up: Any) -> None:
    target = [{"Id": up.instances()[0]["InstanceId"]}]
    up.elb.deregister_targets(TargetGroupArn=up.target_group, Targets=target)
    up.elb.register_targets(TargetGroupArn=up.target_group, Targets=target)
    assert described(up)["State"] == "initial"
    up.pass_time(10)
    assert described(up)["State"] == "healthy"
    up.pass_time(400)  # the drain that was called off does not come back
    assert described(up)["State"] == "healthy"


def test_a_target_group_without_a_load_balancer_is_unused(desk: Any) -> None:
    other = desk.elb.create_target_group(Name="other", Protocol="HTTP", Port=80, VpcId=desk.vpc)["TargetGroups"][0]
    desk.make_group(DesiredCapacity=1, TargetGroupARNs=[other["TargetGroupArn"]], HealthCheckType="EC2")
    desk.pass_time(300)
    found = desk.elb.describe_target_health(TargetGroupArn=other["TargetGroupArn"])["TargetHealthDescriptions"]
    assert found[0]["TargetHealth"]["Reason"] == "Target.NotInUse"


def test_an_unknown_target_group_is_an_error(desk: Any) -> None:
    with pytest.raises(ClientError, match="TargetGroupNotFound"):
        desk.elb.describe_target_health(TargetGroupArn=desk.target_group + "x")
