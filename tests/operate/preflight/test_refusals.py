"""AWS refuses, throttles or does not answer: those rows are not known, and say why; all others stay as they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from botocore.retries import standard
from moto.core.responses import BaseResponse

from gpu_fleet.emulator.faults import api_call_will_fail, api_call_will_time_out
from gpu_fleet.operate.preflight.check import Row
from gpu_fleet.operate.preflight.finding import Status
from tests.operate.preflight.account import Account, an_account
from tests.operate.preflight.stacks import GIVEN_NETWORK, NEW_NETWORK, look, text

NEW = [
    ("acm", "DescribeCertificate"), ("ec2", "DescribeAddresses"), ("ec2", "DescribeAvailabilityZones"),
    ("ec2", "DescribeImages"), ("ec2", "DescribeInstanceTypeOfferings"), ("ec2", "DescribeInstanceTypes"),
    ("ec2", "DescribeVpcs"), ("ec2", "GetEbsDefaultKmsKeyId"), ("ecr", "DescribeImages"),
    ("elbv2", "DescribeLoadBalancers"), ("iam", "GetRole"), ("kms", "DescribeKey"), ("kms", "GetKeyPolicy"),
    ("kms", "ListGrants"), ("lambda", "GetAccountSettings"), ("secretsmanager", "DescribeSecret"),
    ("service-quotas", "GetAWSDefaultServiceQuota"), ("service-quotas", "GetServiceQuota"),
    ("sns", "GetTopicAttributes"), ("ssm", "GetParameter"), ("sts", "GetCallerIdentity"), ("wafv2", "GetWebACL"),
]  # fmt: skip
GIVEN = [
    ("ec2", "DescribeRouteTables"), ("ec2", "DescribeSubnets"), ("ec2", "DescribeVpcEndpoints"),
    ("ec2", "DescribeVpcs"),
]  # fmt: skip
ACTIONS = {"elbv2": "elasticloadbalancing", "service-quotas": "servicequotas"}
CODES = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied", "sns": "AuthorizationError", "sts": "AccessDenied"}
"""What the others call AccessDeniedException."""
THROTTLES = {"ec2": "RequestLimitExceeded", "sns": "Throttled", "lambda": "TooManyRequestsException"}
"""What the others call ThrottlingException."""
CALLS = [(NEW_NETWORK, *call) for call in NEW] + [(GIVEN_NETWORK, *call) for call in GIVEN]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries follow each other at once."""
    with mock.patch.object(standard.ExponentialBackoff, "delay_amount", return_value=0.0):
        yield


@pytest.fixture(scope="module")
def full() -> Iterator[Account]:
    """The account in which every call is made: a default key of EBS of one's own, and a VPC with endpoints.

    Nothing in it is changed here.
    """
    with an_account() as account:
        policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}
        account.ebs_key = account.key(Policy=json.dumps(policy))
        account.network()
        account.no_route("private_table")
        account.endpoints()
        yield account


@pytest.fixture(scope="module")
def before(full: Account, library) -> dict[str, list[Row]]:
    """The rows of both stacks while AWS answers."""
    rows = {network: look(library, text(full, network)) for network in (NEW_NETWORK, GIVEN_NETWORK)}
    assert {row.finding.status for each in rows.values() for row in each} == {Status.OK}
    return rows


def action(service: str, operation: str) -> str:
    return f"{ACTIONS.get(service, service)}:{operation}"


@pytest.fixture
def hold(full: Account, library, before: dict[str, list[Row]]):
    """Under a fault some rows say what failed, and the others are what they were."""

    def hold(fault, said: str, right: str = "", network: str = NEW_NETWORK) -> None:
        with fault:
            rows = look(library, text(full, network))
        changed = [row for row, was in zip(rows, before[network], strict=True) if row != was]
        assert changed
        for row in changed:
            assert row.finding.status is Status.NOT_KNOWN
            assert said in row.finding.text
            assert row.finding.missing_right == right

    return hold


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_missing_right_is_named(hold, network, service, operation):
    named = action(service, operation)
    code = CODES.get(service, "AccessDeniedException")
    fault = api_call_will_fail(service, operation, code, times=None, status=403)
    hold(fault, f"needs the right {named}", named, network)


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_throttled_call_is_named(hold, network, service, operation):
    code = THROTTLES.get(service, "ThrottlingException")
    fault = api_call_will_fail(service, operation, code, times=None)
    hold(fault, f"AWS throttled {action(service, operation)}; try again later", network=network)


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_call_without_an_answer_is_named(hold, network, service, operation):
    fault = api_call_will_time_out(service, operation, times=None)
    hold(fault, f"no answer to {action(service, operation)} in time", network=network)


def test_a_call_that_fails_once_is_made_again(full, library):
    with api_call_will_fail("ec2", "DescribeImages", "RequestLimitExceeded", times=2) as fault:
        rows = look(library, text(full))
    assert fault.fired == 2
    assert {row.finding.status for row in rows} == {Status.OK}


def test_a_right_beside_the_calls_own_is_the_one_that_is_named(hold):
    message = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: kms:Decrypt on resource: arn"
    fault = api_call_will_fail(
        "secretsmanager", "DescribeSecret", "AccessDeniedException", times=None, message=message, status=403
    )
    hold(fault, "needs the right kms:Decrypt", "kms:Decrypt")


def test_credentials_that_have_expired_are_told_from_rights(hold):
    fault = api_call_will_fail("ec2", "DescribeInstanceTypes", "RequestExpired", times=None)
    hold(fault, "AWS does not accept the credentials here (RequestExpired)")


def test_an_error_that_nobody_foresaw_is_passed_on_in_aws_own_words(hold):
    fault = api_call_will_fail("iam", "GetRole", "ServiceFailure", times=None, message="come back", status=500)
    hold(fault, "iam:GetRole failed: ServiceFailure: come back")


def test_without_credentials_no_row_is_known_and_each_says_why(full, library, monkeypatch):
    written = text(full)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    rows = look(library, written, session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert all(row.finding.text.startswith("no AWS credentials: ") for row in rows)


def test_a_profile_that_is_not_there_is_no_traceback(full, library, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    rows = look(library, text(full), session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert "nobody" in rows[0].finding.text


def test_an_account_that_is_not_known_does_not_spoil_what_it_is_compared_with(full, library):
    with api_call_will_fail("sts", "GetCallerIdentity", "AccessDenied", times=None, status=403):
        rows = look(library, text(full))
    assert [row.check for row in rows if row.finding.status is not Status.OK] == ["credentials"]


@contextlib.contextmanager
def a_proxys_page(service: str, operation: str) -> Iterator[None]:
    """A page of HTML in place of AWS's answer."""
    original = BaseResponse.call_action

    def call_action(self: BaseResponse) -> Any:
        if (self.boto3_service_name, self._get_action()) == (service, operation):
            return 502, {}, "<!doctype html>\n<title>Bad Gateway</title>"
        return original(self)

    with mock.patch.object(BaseResponse, "call_action", call_action):
        yield


@pytest.mark.parametrize(
    ("service", "operation"), [("ec2", "DescribeImages"), ("iam", "GetRole"), ("ssm", "GetParameter")]
)
def test_a_page_of_a_proxy_is_a_call_that_failed(hold, service, operation):
    hold(a_proxys_page(service, operation), f"{action(service, operation)} failed: ")


def test_of_a_page_only_the_first_line_is_repeated(full, library):
    with a_proxys_page("ssm", "GetParameter"):
        rows = look(library, text(full))
    assert all("\n" not in row.finding.text for row in rows)


def test_an_endpoint_that_is_none_is_no_traceback(full, library, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    rows = look(library, text(full), session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert "nonsense" in rows[0].finding.text
