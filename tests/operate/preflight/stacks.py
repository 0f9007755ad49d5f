"""The stacks of the tests, and functions that run their checks."""

from __future__ import annotations

import boto3

from gpu_fleet.config.library import Library
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.operate.preflight.all_checks import plan
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Row, run
from gpu_fleet.operate.preflight.finding import Status
from gpu_fleet.operate.preflight.stack_needs import Stack
from tests.operate.preflight.account import SESSION, Account

FILE = "Pulumi.test.yaml"

NEW_NETWORK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network:
    zones: [us-east-1a, us-east-1b]
    nat: per_zone
"""
EXISTING_NETWORK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network:
    vpc_id: {vpc}
    public_subnet_ids: ["{public_a}", "{public_b}"]
    private_subnet_ids: ["{private_a}", "{private_b}"]
    zones: [us-east-1a, us-east-1b]
"""
REST = """\
  gpu-fleet:load_balancer:
    certificate_arn: "{certificate}"
    waf_acl_arn: "{acl}"
  gpu-fleet:observability:
    alarm_topic_arn: "{topic}"
  gpu-fleet:image_caches:
    docker.io: {{credentials_arn: "{hub_login}"}}
    quay.io: {{existing_prefix: quay}}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container:
        image: "{image}"
        secrets: {{TOKEN: "{token}", API_KEY: "{api_key}"}}
      pools:
        l4: {{types: [g6.xlarge, g6.2xlarge], min: 0, max: 10, spot_percent: 50, ami_parameter: "{ami_parameter}"}}
        h100: {{types: [p5.4xlarge], min: 0, max: 2, ami_parameter: "{ami_parameter}"}}
"""


def stack_text(account: Account, network: str = NEW_NETWORK) -> str:
    """Return a stack's file that names what the account has."""
    return (network + REST).format(**account.names)


def run_checks(library: Library, text: str, session: boto3.Session | None = SESSION) -> list[Row]:
    """Return every row of the stack."""
    settings, document = parse_stack(text, FILE)
    return run(plan(Stack("test", settings, library)), ReadOnlyAws(settings.region, session), document)


def with_status(rows: list[Row], status: Status) -> set[tuple[str, str]]:
    """Return check and subject of the rows with this status."""
    return {(row.check, row.subject) for row in rows if row.finding.status is status}


def finding_text(rows: list[Row], check: str, subject: str = "") -> str:
    """Return status and text of the only row of this check."""
    matching = [row for row in rows if row.check == check and subject in row.subject]
    assert len(matching) == 1, matching
    return f"{matching[0].finding.status}: {matching[0].finding.text}"
