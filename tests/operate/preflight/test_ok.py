"""A stack for which everything is there."""

from __future__ import annotations

from gpu_fleet.operate.preflight.finding import Status
from tests.operate.preflight.stacks import GIVEN_NETWORK, found, look, text


def test_a_stack_for_which_everything_is_there_is_ok_in_every_row(account, library):
    rows = look(library, text(account))
    assert [(row.check, row.finding) for row in rows if row.finding.status is not Status.OK] == []
    assert {row.check for row in rows} == {
        "credentials", "service-linked role", "zone", "instance type", "spot", "vCPU quota", "storage quota", "quota",
        "AMI", "AMI's architecture", "AMI's root device", "root volume", "volumes' key", "image", "secret",
        "secret's key", "certificate", "web ACL", "alarm topic", "alarm topic's key", "Lambda concurrency",
    }  # fmt: skip


def test_a_stack_in_a_given_vpc_is_ok_in_every_row(account, library):
    account.network()
    rows = look(library, text(account, GIVEN_NETWORK))
    assert [(row.check, row.finding) for row in rows if row.finding.status is not Status.OK] == []
    assert {row.check for row in rows} >= {
        "VPC", "subnet", "load balancer's zones", "load balancer's addresses", "internet", "way out",
    }  # fmt: skip


def test_a_row_tells_what_was_found(account, library):
    rows = look(library, text(account))
    assert found(rows, "instance type", "g6.xlarge") == "ok: offered in us-east-1a, us-east-1b"
    assert found(rows, "vCPU quota", "G and VT instances") == (
        "ok: 64 vCPUs, the pools' max come to 40; to 80 with their largest types"
    )
    assert found(rows, "vCPU quota", "G and VT Spot") == "ok: 64 vCPUs, the pools' max come to 20"
    assert found(rows, "vCPU quota", "P instances") == "ok: 64 vCPUs, the pools' max come to 32"
    assert found(rows, "quota", "Elastic IPs") == "ok: 0 others, 2 for this stack, quota 5"
    assert found(rows, "root volume", "l4") == "ok: 200 GiB, the AMI's root has 50"
    assert found(rows, "secret's key", "api-key") == "ok: a key of yours, enabled"
