"""A stack for which AWS has everything."""

from __future__ import annotations

from gpu_fleet.operate.preflight.finding import Status
from tests.operate.preflight.stacks import EXISTING_NETWORK, finding_text, run_checks, stack_text


def test_every_row_of_a_stack_is_ok(account, library):
    rows = run_checks(library, stack_text(account))
    assert [(row.check, row.finding) for row in rows if row.finding.status is not Status.OK] == []
    assert {row.check for row in rows} == {
        "credentials", "service-linked role", "zone", "instance type", "spot", "vCPU quota", "storage quota", "quota",
        "AMI", "AMI's architecture", "AMI's root device", "root volume", "volumes' key", "image", "image cache",
        "image cache's login", "secret",
        "secret's key", "certificate", "web ACL", "alarm topic", "alarm topic's key", "Lambda concurrency",
    }  # fmt: skip


def test_every_row_of_a_stack_in_an_existing_vpc_is_ok(account, library):
    account.network()
    rows = run_checks(library, stack_text(account, EXISTING_NETWORK))
    assert [(row.check, row.finding) for row in rows if row.finding.status is not Status.OK] == []
    assert {row.check for row in rows} >= {
        "VPC", "subnet", "load balancer's zones", "load balancer's addresses", "internet", "way out",
    }  # fmt: skip


def test_the_texts_of_findings(account, library):
    rows = run_checks(library, stack_text(account))
    assert finding_text(rows, "instance type", "g6.xlarge") == "ok: offered in us-east-1a, us-east-1b"
    assert finding_text(rows, "vCPU quota", "G and VT instances") == (
        "ok: 64 vCPUs, the pools' max need 40, or 80 with their largest types"
    )
    assert finding_text(rows, "vCPU quota", "G and VT Spot") == "ok: 64 vCPUs, the pools' max need 20"
    assert finding_text(rows, "vCPU quota", "P instances") == "ok: 64 vCPUs, the pools' max need 32"
    assert finding_text(rows, "quota", "Elastic IPs") == "ok: 0 others, 2 for this stack, quota 5"
    assert finding_text(rows, "root volume", "l4") == "ok: 200 GiB, the AMI's root has 50"
    assert finding_text(rows, "secret's key", "api-key") == "ok: a key of yours, enabled"
