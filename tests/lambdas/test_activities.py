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


DESCRIBED = (
    (
        "The requested configuration is currently not supported. Please check the documentation for supported "
        f"configurations. {FAILED}"
    ),
    f"The security group sg-0f2a does not exist. {FAILED}",
    f"The key pair fleet does not exist. {FAILED}",
    f"Invalid device name upload. {FAILED}",
    f"Value (ephemeral9) for parameter virtualName is invalid. {FAILED}",
    "EBS block device mappings not supported for instance-store AMIs.",
    f"Placement groups may not be used with instances of type 'm1.large'. {FAILED}",
    "Client.InternalError: Client error on launch.",
    f"The AMI ID ami-6622f00f does not exist. {FAILED}",
    f"AMI ami-6622f00f is pending, and cannot be run. {FAILED}",
    (
        "The requested instance type's architecture (i386) does not match the architecture in the manifest for "
        "ami-6622f00f (x86_64). Launching ec2 instance failed."
    ),
    f"Your Capacity Block reservation cr-0f2a is not active yet. {FAILED}",
)
"""https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html and ts-as-ami.html"""
SEEN = (
    f"Could not launch On-Demand Instances. InvalidAMIID.NotFound - The image id '[ami-02c7]' does not exist. {FAILED}",
    (
        "Could not launch Spot Instances. InvalidParameterCombination - The specified instance type is not eligible "
        f"for Free Tier. For a list of Free Tier instance types, run 'describe-instance-types'. {FAILED}"
    ),
    f"You've reached your quota for maximum Fleet Requests for this account. {FAILED}",
    f"This account is currently blocked and not recognized as a valid account. {FAILED}",
    f"Authentication Failure. {FAILED}",
    (
        "Could not launch On-Demand Instances. UnauthorizedOperation - You are not authorized to perform this "
        f"operation. Encoded authorization failure message: VvuncIxj7Z_CPGNYXWqnuFV-YjByeAU66Q9752NtQ {FAILED}"
    ),
    "You are not authorized to use launch template: lt-0b27953098b749950",
    "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
    f"Something that nobody has read before. {FAILED}",
)
"""Read in groups' activities: tracker threads of cluster autoscalers and node group tools."""


@pytest.mark.parametrize("message", [*DESCRIBED, *SEEN])
def test_whatever_its_words_a_failed_launch_is_an_order_that_was_not_filled(message):
    """None of these is a matter of a zone, although the details name one, nor of spot or on-demand instances."""
    details = '{"Subnet ID":"subnet-0f77a91e","Availability Zone":"us-east-1d"}'
    failed = parse(activity(message, details=details))
    assert failed.capacity_errors == (CapacityError("", (NOW - timedelta(minutes=1)).timestamp(), None),)
    (said,) = failed.other
    assert "Launching" not in said
    assert "Encoded" not in said
    assert len(said) <= activities.LONGEST_MESSAGE
    assert said.startswith(message[:18])


@pytest.mark.parametrize(
    ("message", "spot"),
    [
        (VCPUS, False),
        (OLD_LIMIT, False),
        (f"Your quota allows for 0 more running instance(s). You requested at least 1. {FAILED}", False),
        (f"InstanceLimitExceeded - Your quota allows for 0 more running instance(s). {FAILED}", False),
        (f"6 instance(s) are already running. {FAILED}", False),
        (SPOT_COUNT, True),
        (f"Max spot instance count exceeded. {FAILED}", True),
        (
            (
                "AuthFailure.ServiceLinkedRoleCreationNotPermitted - The provided credentials do not have permission "
                f"to create the service-linked role for EC2 Spot Instances. {FAILED}"
            ),
            True,
        ),
        ("Your Spot request price of 0.015 is lower than the minimum required Spot request fulfillment price", True),
        (f"Could not launch Spot Instances. NewlyInvented - Words of tomorrow. {FAILED}", True),
        (f"Could not launch On-Demand Instances. NewlyInvented - Words of tomorrow. {FAILED}", False),
    ],
)
def test_a_quota_holds_in_every_zone_and_for_its_own_market(message, spot):
    details = '{"Subnet ID":"subnet-0f77a91e","Availability Zone":"us-east-1d"}'
    (error,) = parse(activity(message, details=details)).capacity_errors
    assert (error.zone, error.spot) == ("", spot)
    assert parse(activity(message)).other == (error.why,)


@pytest.mark.parametrize(
    "message",
    [
        (
            f"There are not enough free addresses in subnet 'subnet-0f77a91e' to satisfy the requested number of "
            f"instances. {FAILED}"
        ),
        f"The subnet ID 'subnet-0f77a91e' does not exist. {FAILED}",
        (
            "The requested reservation does not have sufficient compatible and available capacity for this request. "
            f"{FAILED}"
        ),
    ],
)
def test_what_one_zone_lacks_leaves_the_others_open(message):
    details = '{"Subnet ID":"subnet-0f77a91e","Availability Zone":"us-east-1d"}'
    assert parse(activity(message, details=details)).capacity_errors[0].zone == "us-east-1d"


def test_an_instance_that_ec2_ends_before_it_serves_could_not_be_launched():
    """A disk that cannot be decrypted: the launch succeeds, the instance is gone some seconds later."""
    began = "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: "
    message = f"{began}Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state"
    (error,) = parse(activity(message, status="Cancelled")).capacity_errors
    assert (error.zone, error.spot) == ("", None)
    volumes = f"{began}Client.VolumeLimitExceeded: Volume limit exceeded"
    assert parse(activity(volumes, status="Cancelled")).capacity_errors[0].spot is None
    by_hand = f"{began}Client.UserInitiatedShutdown: User initiated shutdown"
    assert parse(activity(by_hand, status="Cancelled")) == parse()


@pytest.mark.parametrize("how", ["Heartbeat Timeout", "Lifecycle Action Completed with ABANDON Result"])
def test_an_instance_that_gives_its_launch_up_is_a_launch_that_failed(how):
    """The image is wrong, a secret cannot be read, the engine crashes: the same in every zone and market."""
    token = "e85eb647-4fe0-4909-b341-a6c42d8aba1f"
    words = f"Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {token} was abandoned: "
    failed = parse(activity(f"{words}{how}", status="Cancelled", details='{"Availability Zone":"us-east-1d"}'))
    (error,) = failed.capacity_errors
    assert (error.zone, error.spot, error.booted) == ("", None, True)
    assert failed.other == (
        f"Instance failed to complete user's Lifecycle Action: Lifecycle Action was abandoned: {how}",
    )


def test_what_operators_have_to_do_is_told_once_and_a_lack_of_capacity_is_not_told():
    message = "The instance profile 'node' could not be found. Launching EC2 instance failed."
    failed = parse(activity(message), activity(message, minutes_ago=2), activity(ON_DEMAND))
    assert len(failed.capacity_errors) == 3
    assert failed.other == ("The instance profile 'node' could not be found.",)


@pytest.mark.parametrize("what", ["Attaching an existing EC2 instance: i-1", "Detaching EC2 instance: i-1"])
def test_other_activities_that_fail_are_no_launches(what):
    assert parse(activity("No.", what=what)) == parse()


def test_a_failed_termination_is_no_failed_launch():
    assert parse(activity("Instance is gone", what="Terminating")) == parse()
