from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError


def update(desk: Any, **how: Any) -> dict[str, Any]:
    desk.asg.update_auto_scaling_group(AutoScalingGroupName="group", **how)
    return desk.group()


@pytest.fixture
def mixed(desk: Any) -> Any:
    distribution = {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 40}
    desk.make_group(DesiredCapacity=2, distribution=distribution)
    return desk


def test_an_update_without_the_policy_keeps_it(mixed: Any) -> None:
    before = mixed.group()["MixedInstancesPolicy"]
    after = update(mixed, MaxSize=7)
    assert after["MixedInstancesPolicy"] == before
    assert after["MaxSize"] == 7


def test_a_partial_distribution_keeps_the_rest(mixed: Any) -> None:
    before = mixed.group()["MixedInstancesPolicy"]
    policy = {"InstancesDistribution": {"OnDemandBaseCapacity": 3}}
    after = update(mixed, MixedInstancesPolicy=policy)["MixedInstancesPolicy"]
    assert after["InstancesDistribution"] == {**before["InstancesDistribution"], "OnDemandBaseCapacity": 3}
    assert after["LaunchTemplate"] == before["LaunchTemplate"]


def test_overrides_are_replaced_as_a_whole(mixed: Any) -> None:
    before = mixed.group()["MixedInstancesPolicy"]
    policy = {"LaunchTemplate": {"Overrides": [{"InstanceType": "g6e.xlarge"}]}}
    after = update(mixed, MixedInstancesPolicy=policy)["MixedInstancesPolicy"]
    assert after["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g6e.xlarge"}]
    assert after["InstancesDistribution"] == before["InstancesDistribution"]
    specification = after["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert specification["LaunchTemplateId"] == mixed.template
    mixed.scale(3)
    mixed.pass_time(10)
    assert "g6e.xlarge" in {i["InstanceType"] for i in mixed.instances()}


def test_a_described_policy_can_be_sent_back(mixed: Any) -> None:
    policy = mixed.group()["MixedInstancesPolicy"]
    policy["LaunchTemplate"]["LaunchTemplateSpecification"].pop("LaunchTemplateName")
    assert update(mixed, MixedInstancesPolicy=policy)["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]


@pytest.mark.parametrize(
    ("how", "desired"), [({"MinSize": 4}, 4), ({"MaxSize": 1}, 1), ({"MaxSize": 8}, 2), ({"MinSize": 1}, 2)]
)
def test_bounds_move_the_desired_capacity_if_necessary(mixed: Any, how: dict[str, int], desired: int) -> None:
    assert update(mixed, **how)["DesiredCapacity"] == desired
    mixed.pass_time(200)
    assert len([i for i in mixed.instances() if i["LifecycleState"] == "InService"]) == desired


def test_contradicting_bounds_are_refused(mixed: Any) -> None:
    with pytest.raises(ClientError, match="must be greater than or equal to min bound"):
        update(mixed, MinSize=11)
    with pytest.raises(ClientError, match="must be between"):
        update(mixed, DesiredCapacity=11)
    with pytest.raises(ClientError, match="must be between"):
        mixed.make_group("other", MinSize=2, MaxSize=3, DesiredCapacity=1)
    assert mixed.group()["DesiredCapacity"] == 2


def test_settings_that_moto_drops_are_kept(mixed: Any) -> None:
    after = update(
        mixed,
        DefaultCooldown=11,
        DefaultInstanceWarmup=12,
        CapacityRebalance=True,
        TerminationPolicies=["NewestInstance"],
    )
    assert (after["DefaultCooldown"], after["DefaultInstanceWarmup"], after["CapacityRebalance"]) == (11, 12, True)
    assert after["TerminationPolicies"] == ["NewestInstance"]


def test_a_weight_is_refused_because_it_is_not_modelled(desk: Any) -> None:
    template = {"LaunchTemplateSpecification": {"LaunchTemplateId": desk.template, "Version": "1"}}
    template["Overrides"] = [{"InstanceType": "g6.xlarge", "WeightedCapacity": "2"}]  # type: ignore[assignment]
    with pytest.raises(ClientError, match="only weights of 1"):
        desk.make_group(MixedInstancesPolicy={"LaunchTemplate": template})


def test_hooks_given_at_creation_apply_to_the_first_instance(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(60)
    assert desk.states() == ["Pending:Wait"]
