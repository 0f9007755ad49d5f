"""If AWS refuses, throttles or does not answer, those rows are not known and say why; all others stay the same."""

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
from tests.operate.preflight.stacks import EXISTING_NETWORK, NEW_NETWORK, run_checks, stack_text

NEW = [
    ("acm", "DescribeCertificate"), ("ec2", "DescribeAddresses"), ("ec2", "DescribeAvailabilityZones"),
    ("ec2", "DescribeImages"), ("ec2", "DescribeInstanceTypeOfferings"), ("ec2", "DescribeInstanceTypes"),
    ("ec2", "DescribeVpcs"), ("ec2", "GetEbsDefaultKmsKeyId"), ("ecr", "DescribeImages"),
    ("ecr", "DescribePullThroughCacheRules"),
    ("elbv2", "DescribeLoadBalancers"), ("iam", "GetRole"), ("kms", "DescribeKey"), ("kms", "GetKeyPolicy"),
    ("kms", "ListGrants"), ("lambda", "GetAccountSettings"), ("secretsmanager", "DescribeSecret"),
    ("service-quotas", "GetAWSDefaultServiceQuota"), ("service-quotas", "GetServiceQuota"),
    ("sns", "GetTopicAttributes"), ("ssm", "GetParameter"), ("sts", "GetCallerIdentity"), ("wafv2", "GetWebACL"),
]  # fmt: skip
EXISTING = [
    ("ec2", "DescribeRouteTables"), ("ec2", "DescribeSubnets"), ("ec2", "DescribeVpcEndpoints"),
    ("ec2", "DescribeVpcs"),
]  # fmt: skip
ACTIONS = {"elbv2": "elasticloadbalancing", "service-quotas": "servicequotas"}
CODES = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied", "sns": "AuthorizationError", "sts": "AccessDenied"}
"""Other services say AccessDeniedException."""
THROTTLES = {"ec2": "RequestLimitExceeded", "sns": "Throttled", "lambda": "TooManyRequestsException"}
"""Other services say ThrottlingException."""
CALLS = [(NEW_NETWORK, *call) for call in NEW] + [(EXISTING_NETWORK, *call) for call in EXISTING]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Retry without a delay."""
    with mock.patch.object(standard.ExponentialBackoff, "delay_amount", return_value=0.0):
        yield


@pytest.fixture(scope="module")
def full() -> Iterator[Account]:
    """An account that causes every call: the user's own default key for EBS, and a VPC with endpoints.

    Tests do not change it.
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
    """Return the rows of both stacks while AWS answers."""
    rows = {network: run_checks(library, stack_text(full, network)) for network in (NEW_NETWORK, EXISTING_NETWORK)}
    assert {row.finding.status for each in rows.values() for row in each} == {Status.OK}
    return rows


def action(service: str, operation: str) -> str:
    return f"{ACTIONS.get(service, service)}:{operation}"


@pytest.fixture
def assert_not_known(full: Account, library, before: dict[str, list[Row]]):
    """Assert that under a fault some rows say what failed, and the others stay the same."""

    def check(fault, message: str, right: str = "", network: str = NEW_NETWORK) -> None:
        with fault:
            rows = run_checks(library, stack_text(full, network))
        changed = [row for row, row_before in zip(rows, before[network], strict=True) if row != row_before]
        assert changed
        for row in changed:
            assert row.finding.status is Status.NOT_KNOWN
            assert message in row.finding.text
            assert row.finding.missing_right == right

    return check


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_missing_right_is_named(assert_not_known, network, service, operation):
    named = action(service, operation)
    code = CODES.get(service, "AccessDeniedException")
    fault = api_call_will_fail(service, operation, code, times=None, status=403)
    assert_not_known(fault, f"needs the right {named}", named, network)


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_throttled_call_is_named(assert_not_known, network, service, operation):
    code = THROTTLES.get(service, "ThrottlingException")
    fault = api_call_will_fail(service, operation, code, times=None)
    assert_not_known(fault, f"AWS throttled {action(service, operation)}; try again later", network=network)


@pytest.mark.parametrize(("network", "service", "operation"), CALLS)
def test_a_call_without_an_answer_is_named(assert_not_known, network, service, operation):
    fault = api_call_will_time_out(service, operation, times=None)
    assert_not_known(fault, f"no answer to {action(service, operation)} in time", network=network)


def test_a_failed_call_is_retried(full, library):
    with api_call_will_fail("ec2", "DescribeImages", "RequestLimitExceeded", times=2) as fault:
        rows = run_checks(library, stack_text(full))
    assert fault.fired == 2
    assert {row.finding.status for row in rows} == {Status.OK}


def test_another_missing_right_than_the_calls_own_is_named(assert_not_known):
    message = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: kms:Decrypt on resource: arn"
    fault = api_call_will_fail(
        "secretsmanager", "DescribeSecret", "AccessDeniedException", times=None, message=message, status=403
    )
    assert_not_known(fault, "needs the right kms:Decrypt", "kms:Decrypt")


def test_expired_credentials_are_not_a_missing_right(assert_not_known):
    fault = api_call_will_fail("ec2", "DescribeInstanceTypes", "RequestExpired", times=None)
    assert_not_known(fault, "AWS does not accept the credentials here (RequestExpired)")


def test_an_unknown_error_is_reported_in_awss_words(assert_not_known):
    fault = api_call_will_fail("iam", "GetRole", "ServiceFailure", times=None, message="come back", status=500)
    assert_not_known(fault, "iam:GetRole failed: ServiceFailure: come back")


def test_without_credentials_no_row_is_known(full, library, monkeypatch):
    text = stack_text(full)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    rows = run_checks(library, text, session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert all(row.finding.text.startswith("no AWS credentials: ") for row in rows)


def test_an_unknown_profile_gives_no_traceback(full, library, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    rows = run_checks(library, stack_text(full), session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert "nobody" in rows[0].finding.text


def test_an_unknown_account_number_spoils_no_other_row(full, library):
    with api_call_will_fail("sts", "GetCallerIdentity", "AccessDenied", times=None, status=403):
        rows = run_checks(library, stack_text(full))
    assert [row.check for row in rows if row.finding.status is not Status.OK] == ["credentials"]


@contextlib.contextmanager
def a_proxys_page(service: str, operation: str) -> Iterator[None]:
    """Answer with a page of HTML in place of AWS's answer."""
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
def test_a_proxys_page_is_a_failed_call(assert_not_known, service, operation):
    assert_not_known(a_proxys_page(service, operation), f"{action(service, operation)} failed: ")


def test_only_the_first_line_of_a_page_is_repeated(full, library):
    with a_proxys_page("ssm", "GetParameter"):
        rows = run_checks(library, stack_text(full))
    assert all("\n" not in row.finding.text for row in rows)


def test_an_invalid_endpoint_gives_no_traceback(full, library, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    rows = run_checks(library, stack_text(full), session=None)
    assert {row.finding.status for row in rows} == {Status.NOT_KNOWN}
    assert "nonsense" in rows[0].finding.text
