from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from gpu_fleet.emulator import Change, PublishingDelays, Traffic, faults
from gpu_fleet.scaling.boot import NODE_PHASES, Boot


@pytest.fixture
def up(desk: Any) -> Any:
    """Two healthy instances, at the start of a minute."""
    desk.make_group(DesiredCapacity=2)
    desk.pass_time(240)
    return desk


def read(
    desk: Any, name: str, stat: str, dims: dict[str, str], *, period: int = 60, namespace: str = "AWS/ApplicationELB"
) -> list[float]:
    metric = {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": n, "Value": v} for n, v in dims.items()],
    }
    found = desk.cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "q", "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}}],
        StartTime=dt.datetime.fromtimestamp(desk.cloud.now - 120, dt.UTC),
        EndTime=dt.datetime.fromtimestamp(desk.cloud.now, dt.UTC),
        ScanBy="TimestampAscending",
    )
    return list(found["MetricDataResults"][0]["Values"])


def of_targets(desk: Any) -> dict[str, str]:
    return {"TargetGroup": desk.target_group.rsplit(":", 1)[1], "LoadBalancer": desk.balancer}


def test_a_minutes_requests_can_be_read_once_it_is_over(up: Any) -> None:
    start = up.cloud.now
    for i in range(6):
        up.cloud.publish(at=start + 10 * i, traffic={up.target_group: Traffic(10, response_seconds=5.0 + i)})
        up.cloud.advance(start + 10 * (i + 1) - 1)
    assert read(up, "RequestCount", "Sum", of_targets(up)) == []
    up.cloud.advance(start + 60)
    assert read(up, "RequestCount", "Sum", of_targets(up)) == [60]
    assert read(up, "RequestCount", "Sum", {"LoadBalancer": up.balancer}) == [60]
    assert read(up, "TargetResponseTime", "Average", of_targets(up)) == [pytest.approx(0.75)]


def test_zero_requests_are_not_reported_but_hosts_are(up: Any) -> None:
    up.cloud.publish(traffic={up.target_group: Traffic(0)})
    up.pass_time(120)
    assert read(up, "RequestCount", "Sum", of_targets(up)) == []
    assert read(up, "HealthyHostCount", "Minimum", of_targets(up)) == [2, 2]
    assert read(up, "UnHealthyHostCount", "Maximum", of_targets(up)) == [0, 0]


def test_a_pool_without_targets_reports_no_hosts(desk: Any) -> None:
    desk.make_group()
    desk.pass_time(180)
    assert read(desk, "HealthyHostCount", "Minimum", of_targets(desk)) == []


def test_an_unhealthy_host_shows_in_its_minute(up: Any) -> None:
    with faults.engine_down(up.cloud, up.instances()[0]["InstanceId"]):
        up.pass_time(60)
    assert read(up, "HealthyHostCount", "Minimum", of_targets(up))[-1] == 1


def test_requests_that_a_target_refused_are_counted_beside_all_of_its_requests(up: Any) -> None:
    up.cloud.publish(traffic={up.target_group: Traffic(10, refused=4, response_seconds=3.0)})
    up.pass_time(60)
    assert read(up, "RequestCount", "Sum", of_targets(up)) == [10]
    assert read(up, "HTTPCode_Target_5XX_Count", "Sum", of_targets(up)) == [4]


def test_rejected_requests_count_for_the_load_balancer(up: Any) -> None:
    up.cloud.publish(rejected={up.balancer: 7})
    up.pass_time(60)
    assert read(up, "HTTPCode_ELB_503_Count", "Sum", {"LoadBalancer": up.balancer}) == [7]


def test_engines_publish_for_their_group_and_for_themselves(up: Any) -> None:
    one, two = (i["InstanceId"] for i in up.instances())
    up.cloud.publish(engines={one: {"requests_running": 4}, two: {"requests_running": 8}})
    up.pass_time(10)
    group = {"AutoScalingGroupName": "group"}
    fine = {"period": 10, "namespace": "GpuFleet"}
    assert read(up, "requests_running", "Average", group, **fine) == [6]
    assert read(up, "requests_running", "SampleCount", group, **fine) == [2]
    assert read(up, "requests_running", "Average", {**group, "InstanceId": two}, **fine) == [8]


def test_delays_postpone_published_data(make_desk: Any) -> None:
    desk = make_desk(delays=PublishingDelays(balancer_seconds=90, engine_seconds=20))
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(240)
    instance = desk.instances()[0]["InstanceId"]
    desk.cloud.publish(traffic={desk.target_group: Traffic(3)}, engines={instance: {"requests_running": 4}})
    group, fine = {"AutoScalingGroupName": "group"}, {"period": 10, "namespace": "GpuFleet"}
    desk.pass_time(19)
    assert read(desk, "requests_running", "Average", group, **fine) == []
    desk.pass_time(1)
    assert read(desk, "requests_running", "Average", group, **fine) == [4]
    desk.pass_time(60 + 90 - 20 - 1)
    assert read(desk, "RequestCount", "Sum", of_targets(desk)) == []
    desk.pass_time(1)
    metric = {
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "RequestCount",
        "Dimensions": [{"Name": n, "Value": v} for n, v in of_targets(desk).items()],
    }
    found = desk.cloudwatch.get_metric_statistics(
        **metric,
        StartTime=dt.datetime.fromtimestamp(desk.cloud.now - 300, dt.UTC),
        EndTime=dt.datetime.fromtimestamp(desk.cloud.now, dt.UTC),
        Period=60,
        Statistics=["Sum"],
    )
    assert [d["Sum"] for d in found["Datapoints"]] == [3]


def test_unknown_sources_cannot_publish(up: Any) -> None:
    with pytest.raises(ValueError, match="i-0: no group ever launched it"):
        up.cloud.publish(engines={"i-0": {"requests_running": 1}})
    with pytest.raises(ValueError, match="no target group behind a load balancer"):
        up.cloud.publish(traffic={"arn:x": Traffic(1)})


def test_a_day_of_metrics_does_not_make_reading_slower(up: Any) -> None:
    one, two = (i["InstanceId"] for i in up.instances())
    for _ in range(24 * 60):
        up.cloud.publish(engines={i: {"requests_running": 1} for i in (one, two)})
        up.pass_time(60)
    series = up.cloud.metrics.series["GpuFleet", "requests_running", (("AutoScalingGroupName", "group"),)]
    assert len(series._fine) <= 3 * 60 + 11
    assert len(series._minutes) <= 24 * 60


def test_an_instance_publishes_the_phases_of_its_boot_once(desk: Any) -> None:
    """What it times itself ends with its answer; the hook and the load balancer's checks take their own time."""
    boot = Boot(running=30, agent=60, image=100, weights=50, engine=40, healthy=20)
    desk.cloud.world.boot_seconds = lambda _launch: boot
    desk.make_group(DesiredCapacity=1)
    launched_at = desk.cloud.now
    desk.pass_time(279)
    assert read_boot(desk, "engine") == []
    desk.pass_time(61)
    for phase in NODE_PHASES:
        assert read_boot(desk, phase.value) == [boot.by_phase[phase]]
    assert read_boot(desk, "healthy") == []
    healthy_at = [change.at for change in desk.changes if change.change is Change.HEALTHY]
    assert healthy_at[0] - launched_at > boot.seconds - boot.healthy
    (id_,) = [instance["InstanceId"] for instance in desk.instances()]
    with faults.engine_down(desk.cloud, id_):
        desk.pass_time(1)
    desk.pass_time(120)
    assert read_boot(desk, "engine") == []


def read_boot(desk: Any, phase: str) -> list[float]:
    dimensions = {"AutoScalingGroupName": "group", "phase": phase}
    return read(desk, "boot_seconds", "Average", dimensions, namespace="GpuFleet")
