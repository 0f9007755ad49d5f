"""The AMI that a pipeline bakes: pools must be able to launch what its parameter holds."""

from __future__ import annotations

import pytest

from gpu_fleet.operate.preflight.finding import Status
from tests.operate.preflight.account import Account
from tests.operate.preflight.stacks import finding_text, run_checks, stack_text, with_status

BASE = "/imagebuilder/base"
PARAMETER = "/imagebuilder/gpu-fleet/test/chat"


def baked(account: Account) -> str:
    image = account.client("ssm").get_parameter(Name=account.names["ami_parameter"])["Parameter"]["Value"]
    account.client("ssm").put_parameter(Name=BASE, Value=image, Type="String")
    account.names["ami_parameter"] = BASE
    text = stack_text(account)
    assert "      pools:\n" in text
    return text.replace("      pools:\n", "      boot: {baked_ami: true}\n      pools:\n")


def hold(account: Account, value: str) -> None:
    account.client("ssm").put_parameter(Name=PARAMETER, Value=value, Type="String")


def test_before_the_first_update_there_is_none(account, library):
    rows = run_checks(library, baked(account))
    assert with_status(rows, Status.WRONG) == set()
    assert finding_text(rows, "baked AMI").startswith(f"ok: {PARAMETER} does not exist yet")


def test_an_ami_that_the_pools_can_launch_is_ok(account, library):
    hold(account, account.ami())
    assert finding_text(run_checks(library, baked(account)), "baked AMI") == "ok: 200 GiB, the AMI's root has 50"


def test_a_volume_smaller_than_the_newest_baked_ami_is_wrong(account, library):
    hold(account, account.ami())
    account.root_gib = 150
    text = baked(account).replace("h100: {types: [p5.4xlarge],", "h100: {types: [p5.4xlarge], volume_gib: 120,")
    assert finding_text(run_checks(library, text), "baked AMI") == (
        "wrong: must be at least 150 GiB, the size of the AMI's root (got 120)"
    )


@pytest.mark.parametrize(
    ("value", "text"), [("latest", "must hold an AMI's id"), ("ami-0123456789abcdef0", "this account cannot see")]
)
def test_a_parameter_that_names_no_ami_is_wrong(account, library, value, text):
    hold(account, value)
    assert text in finding_text(run_checks(library, baked(account)), "baked AMI")


def test_image_builders_role_is_checked(account, library):
    text = finding_text(run_checks(library, baked(account)), "service-linked role", "ImageBuilder")
    assert "AWS creates it with the first pipeline" in text
