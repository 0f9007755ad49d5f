"""Failed launches, with real messages of scaling activities."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpu_fleet.scaling.observation import CapacityError
from lambdas.scaler import activities

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


def activity(
    message: str, *, minutes_ago: float = 1, status: str = "Failed", details: str | None = None, what="Launching"
):
    return {
        "StartTime": NOW - timedelta(minutes=minutes_ago, seconds=5),
        "EndTime": NOW - timedelta(minutes=minutes_ago),
        "StatusCode": status,
        "StatusMessage": message,
        "Description": f"{what} a new EC2 instance.  Status Reason: {message}",
        **({"Details": details} if details is not None else {}),
    }


def parse(*read):
    return activities.parse(read, NOW.timestamp())


FAILED = "Launching EC2 instance failed."
SUFFICIENT = (
    "We currently do not have sufficient g4dn.8xlarge capacity in the Availability Zone you requested (us-east-1a). "
    "Our system will be working on provisioning additional capacity. You can currently get g4dn.8xlarge capacity by "
    f"not specifying an Availability Zone in your request or choosing us-east-1b, us-east-1c. {FAILED}"
)
ON_DEMAND = f"Could not launch On-Demand Instances. InsufficientInstanceCapacity - {SUFFICIENT}"
SPOT = (
    "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available that matches "
    f"your request. {FAILED}"
)
UNFULFILLABLE = (
    "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your request "
    f"configuration. Please adjust your request and try again. {FAILED}"
)
SPOT_COUNT = (
    f"Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded. {FAILED}"
)
CONTACT = "Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
VCPUS = (
    "Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU capacity than your current "
    "vCPU limit of 32 allows for the instance bucket that the specified instance type belongs to. "
    f"{CONTACT} {FAILED}"
)
OLD_LIMIT = (
    "You have requested more instances (7) than your current instance limit of 6 allows for the specified instance "
    f"type. {CONTACT} {FAILED}"
)
NOT_IN_ZONE = (
    "Your requested instance type (g6.xlarge) is not supported in your requested Availability Zone (us-gov-west-1b). "
    f"Please retry your request by not specifying an Availability Zone. {FAILED}"
)


@pytest.mark.parametrize(
    ("message", "zone", "spot"),
    [
        (SUFFICIENT, "us-east-1a", False),
        (ON_DEMAND, "us-east-1a", False),
        (SPOT, "", True),
        (UNFULFILLABLE, "", True),
        (SPOT_COUNT, "", True),
        (VCPUS, "", False),
        (OLD_LIMIT, "", False),
        (NOT_IN_ZONE, "us-gov-west-1b", False),
    ],
)
def test_a_capacity_error_is_recognized_by_its_message(message, zone, spot):
    failed = parse(activity(message))
    assert failed.capacity_errors == (CapacityError(zone, (NOW - timedelta(minutes=1)).timestamp(), spot),)
    assert failed.other == ()


def test_the_zone_in_the_details_overrides_the_message():
    details = '{"Subnet ID":"subnet-0f77a91e","Availability Zone":"us-east-1d"}'
    assert parse(activity(SPOT, details=details)).capacity_errors[0].zone == "us-east-1d"


@pytest.mark.parametrize("details", ["", "not json", "[]", "{}", '{"Availability Zone": null}'])
def test_without_a_zone_in_the_details_the_message_is_read(details):
    assert parse(activity(SUFFICIENT, details=details)).capacity_errors[0].zone == "us-east-1a"


def test_an_instance_type_in_brackets_is_no_zone():
    message = "Your requested instance type (g6.xlarge) is not supported in your requested Availability Zone."
    assert parse(activity(message)).capacity_errors[0].zone == ""


def test_successes_are_no_errors():
    assert parse(activity(ON_DEMAND, status="Successful"), activity(ON_DEMAND, status="InProgress")) == parse()


def test_failures_older_than_an_hour_are_ignored():
    assert parse(activity(ON_DEMAND, minutes_ago=61)) == parse()
    assert parse(activity(ON_DEMAND, minutes_ago=59)) != parse()


def test_an_activity_without_an_end_has_the_time_of_its_start():
    unended = activity(SPOT)
    del unended["EndTime"]
    assert parse(unended).capacity_errors[0].at == (NOW - timedelta(minutes=1, seconds=5)).timestamp()


def test_errors_come_oldest_first():
    failed = parse(activity(SPOT, minutes_ago=1), activity(ON_DEMAND, minutes_ago=3)).capacity_errors
    assert [error.spot for error in failed] == [False, True]


def test_a_launch_that_fails_for_another_reason_is_reported_once_and_is_no_capacity_error():
    message = "The instance profile 'node' could not be found. Launching EC2 instance failed."
    failed = parse(activity(message), activity(message, minutes_ago=2))
    assert failed.capacity_errors == ()
    assert failed.other == (message,)


def test_a_failed_termination_is_no_failed_launch():
    assert parse(activity("Instance is gone", what="Terminating")).other == ()
