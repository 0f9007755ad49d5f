from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def put(account: Any) -> Any:
    group = account.target_group(account.vpc())

    def put(**attributes: str) -> dict[str, str]:
        new = [{"Key": key.replace("__", "."), "Value": value} for key, value in attributes.items()]
        account.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=new)
        described = account.elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
        return {attribute["Key"]: attribute["Value"] for attribute in described}

    return put


def test_the_longest_deregistration_delay_is_an_hour(put: Any, refused: Any) -> None:
    assert put(deregistration_delay__timeout_seconds="3600")["deregistration_delay.timeout_seconds"] == "3600"
    with refused("ValidationError", "0-3600"):
        put(deregistration_delay__timeout_seconds="3601")


@pytest.mark.parametrize("seconds", ["29", "901"])
def test_slow_start_is_30_to_900_seconds(put: Any, refused: Any, seconds: str) -> None:
    with refused("ValidationError", "30-900"):
        put(slow_start__duration_seconds=seconds)
    put(slow_start__duration_seconds="30")
    put(slow_start__duration_seconds="0")


def test_slow_start_requires_round_robin(put: Any, refused: Any) -> None:
    put(slow_start__duration_seconds="30")
    with refused("InvalidConfigurationRequest"):
        put(load_balancing__algorithm__type="least_outstanding_requests")
    put(slow_start__duration_seconds="0")
    put(load_balancing__algorithm__type="least_outstanding_requests")
    with refused("InvalidConfigurationRequest"):
        put(slow_start__duration_seconds="30")


def test_the_algorithm_is_one_that_aws_has(put: Any, refused: Any) -> None:
    put(load_balancing__algorithm__type="weighted_random")
    with refused("ValidationError"):
        put(load_balancing__algorithm__type="fastest")


def test_anomaly_mitigation_requires_weighted_random(put: Any, refused: Any) -> None:
    with refused("InvalidConfigurationRequest"):
        put(load_balancing__algorithm__anomaly_mitigation="on")
    put(load_balancing__algorithm__type="weighted_random", load_balancing__algorithm__anomaly_mitigation="on")
    with refused("InvalidConfigurationRequest"):
        put(load_balancing__algorithm__type="round_robin")
    put(load_balancing__algorithm__type="round_robin", load_balancing__algorithm__anomaly_mitigation="off")
