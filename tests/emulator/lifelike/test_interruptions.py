from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.emulator import Change, faults


@pytest.fixture
def spot(desk: Any) -> Any:
    desk.make_group(DesiredCapacity=2, distribution={"OnDemandPercentageAboveBaseCapacity": 0})
    desk.pass_time(200)
    return desk


def changes_of(desk: Any, instance: str) -> list[Change]:
    return [c.change for c in desk.changes if c.instance_id == instance]


def test_a_group_replaces_an_interrupted_instance_only_once_it_is_gone(spot: Any) -> None:
    """The group ignores the notice and notices the loss by its health check."""
    going = spot.instances()[0]["InstanceId"]
    with faults.spot_interruption(spot.cloud, going, at=spot.cloud.now + 60):
        spot.pass_time(61)
        assert spot.states() == ["InService", "InService"]
        spot.pass_time(118)
        assert spot.states() == ["InService", "InService"]
        spot.pass_time(5)
    lost = next(c for c in spot.changes if c.change is Change.LOST)
    notice = next(c for c in spot.changes if c.change is Change.INTERRUPTION_NOTICE)
    assert (lost.instance_id, lost.at - notice.at) == (going, 120)
    assert going not in spot.health()
    spot.pass_time(200)
    assert spot.states() == ["InService", "InService"]


def test_an_instance_terminated_at_its_notice_drains_in_order(spot: Any) -> None:
    going = spot.instances()[0]["InstanceId"]
    with faults.spot_interruption(spot.cloud, going):
        spot.asg.terminate_instance_in_auto_scaling_group(InstanceId=going, ShouldDecrementDesiredCapacity=False)
        spot.pass_time(10)
        assert spot.health()[going] == "draining"
        assert len(spot.instances()) == 3
        spot.pass_time(200)
    assert changes_of(spot, going)[-3:] == [Change.INTERRUPTION_NOTICE, Change.DRAINING, Change.GONE]
    assert spot.states() == ["InService", "InService"]


def test_an_instance_that_has_not_drained_in_two_minutes_is_lost(spot: Any) -> None:
    spot.cloud.world.drain_seconds = 600
    going = spot.instances()[0]["InstanceId"]
    with faults.spot_interruption(spot.cloud, going):
        spot.asg.terminate_instance_in_auto_scaling_group(InstanceId=going, ShouldDecrementDesiredCapacity=False)
        spot.pass_time(119)
        assert changes_of(spot, going)[-1] is Change.DRAINING
        spot.pass_time(2)
    assert changes_of(spot, going)[-1] is Change.LOST


def test_a_booting_instance_is_lost_at_its_interruption(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1, distribution={"OnDemandPercentageAboveBaseCapacity": 0})
    desk.pass_time(10)
    going = desk.instances()[0]["InstanceId"]
    desk.cloud.world.boot_seconds = 120
    with faults.slow_boot(desk.cloud, 120), faults.spot_interruption(desk.cloud, going):
        desk.pass_time(105)
        assert changes_of(desk, going)[-1] is Change.INTERRUPTION_NOTICE
        desk.pass_time(300)
    assert going not in {i["InstanceId"] for i in desk.instances()}
    assert desk.states() == ["InService"]


def test_a_recommendation_interrupts_nothing(spot: Any) -> None:
    named = spot.instances()[0]["InstanceId"]
    faults.rebalance_recommendation(spot.cloud, named)
    spot.pass_time(600)
    assert named in spot.health()
    assert Change.INTERRUPTION_NOTICE not in changes_of(spot, named)


def test_on_demand_is_never_interrupted(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(200)
    instance = desk.instances()[0]["InstanceId"]
    with pytest.raises(ValueError, match="no spot instance"), faults.spot_interruption(desk.cloud, instance):
        pass
    with pytest.raises(ValueError, match="no spot instance"):
        faults.rebalance_recommendation(desk.cloud, instance)
