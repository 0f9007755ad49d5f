"""Who may do what: no wider than it must be. Against the calls that are made it is held in tests/permissions."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parliament import analyze_policy_string
from policy_sentry.querying.actions import get_action_data

from infra import iam

PLACE = iam.Place("aws", "us-east-1", "123456789012")
NAME = "gpu-fleet-prod-chat-l4-0123abc"
GROUP = f"arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/{NAME}"
HEX = "0123456789abcdef"
RULE = f"arn:aws:elasticloadbalancing:us-east-1:123456789012:listener-rule/app/lb/{HEX}/{HEX}/{HEX}"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:jobs"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/state"
LOGS = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/scaler"
TEMPLATE = "arn:aws:ec2:us-east-1:123456789012:launch-template/lt-0123456789abcdef0"
ROLE = "arn:aws:iam::123456789012:role/instance"
GRANT = iam.ServiceGrant([NAME], RULE, QUEUE, [TEMPLATE], ROLE, ["/aws/service/deeplearning/ami", "/mine"])


def findings(policy: str) -> list[str]:
    """What the linter says, but that an application load balancer's rule is not a network load balancer's too."""
    said = [(f.issue, str(f.detail)) for f in analyze_policy_string(policy).findings]
    only_net = str(
        [
            {
                "action": "elasticloadbalancing:ModifyRule",
                "required_format": "arn:*:elasticloadbalancing:*:*:listener-rule/net/*/*/*/*",
            }
        ]
    )
    return [f"{issue}: {detail}" for issue, detail in said if (issue, detail) != ("RESOURCE_MISMATCH", only_net)]


def scaler_own() -> list[iam.Statement]:
    return iam.scaler_statements(
        PLACE, table_arn=TABLE, log_group_arn=LOGS, dead_letters_arn=QUEUE, services_path="/gpu-fleet/prod/services"
    )


def all_documents() -> dict[str, list[iam.Statement]]:
    return {
        "scaler": scaler_own(),
        "services": iam.service_statements(PLACE, [GRANT, iam.ServiceGrant([NAME], RULE)]),
        "instances": iam.instance_statements(
            PLACE,
            tags={"gpu-fleet:stack": "gpu-fleet-prod", "gpu-fleet:service": "chat"},
            log_group_arn=LOGS,
            queue_arn=QUEUE,
            ecr_repository_arn="arn:aws:ecr:us-east-1:123456789012:repository/worker",
            secret_arns=["arn:aws:secretsmanager:us-east-1:123456789012:secret:token-AbCdEf"],
            kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555",
        ),
        "schedule": iam.schedule_statements("arn:aws:lambda:us-east-1:123456789012:function:scaler", QUEUE),
    }


@pytest.mark.parametrize("name", list(all_documents()))
def test_the_linter_has_nothing_to_say(name: str) -> None:
    assert findings(json.dumps(iam.document(all_documents()[name]))) == []


def test_the_linter_would_say_it() -> None:
    for action, resource in (("autoscaling:SetDesiredCapcity", GROUP), ("elasticloadbalancing:ModifyRule", GROUP)):
        assert findings(json.dumps(iam.document([iam.Statement("Wrong", [action], [resource])])))


@pytest.mark.parametrize("name", list(all_documents()))
def test_no_action_that_can_be_scoped_stands_on_everything(name: str) -> None:
    """Of writing actions and of those that read what is confidential."""
    for statement in all_documents()[name]:
        if "*" in statement.resources:
            assert [a for a in statement.actions if _scopable(a)] == [], statement.sid


def _scopable(action: str) -> bool:
    service, _, name = action.partition(":")
    entries = get_action_data(service, name)[service]  # type: ignore[index]
    writes = entries[0]["access_level"] in {"Write", "Permissions management", "Tagging"}
    return writes and any(entry["resource_arn_format"] != "*" for entry in entries)


def test_the_check_for_width_finds_what_it_looks_for() -> None:
    assert _scopable("autoscaling:SetDesiredCapacity")
    assert not _scopable("cloudwatch:PutMetricData")


def test_a_service_without_spot_and_types_in_place_gets_no_right_to_launch() -> None:
    statements = iam.service_statements(PLACE, [iam.ServiceGrant([NAME], RULE)])
    assert {action for s in statements for action in s.actions} == {
        "autoscaling:SetDesiredCapacity",
        "autoscaling:SetInstanceProtection",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "elasticloadbalancing:ModifyRule",
    }


def test_launches_are_bound_to_our_templates() -> None:
    (launch,) = [s for s in iam.service_statements(PLACE, [GRANT]) if "ec2:RunInstances" in s.actions]
    assert launch.conditions == {"ArnLike": {"ec2:LaunchTemplate": [TEMPLATE]}}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("team/worker:1.0", "team/worker"),
        ("worker@sha256:ab12", "worker"),
        ("worker", "worker"),
        ("w:1@sha256:ab", "w"),
    ],
)
def test_an_image_of_ecr_can_be_pulled_and_no_other_repository(image: str, repository: str) -> None:
    found = iam.ecr_repository_arn(f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{image}", "aws")
    assert found == f"arn:aws:ecr:eu-west-1:123456789012:repository/{repository}"


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.11.0", "ghcr.io/some/engine:1", "public.ecr.aws/a/b:1", "x"])
def test_an_image_from_elsewhere_needs_no_right(image: str) -> None:
    assert iam.ecr_repository_arn(image, "aws") is None


def longest(service: str) -> iam.ServiceGrant:
    """What the scaler is granted of a service of five pools with the longest names and an AMI each."""
    return iam.ServiceGrant(
        group_names=[f"gpu-fleet-prod-{service * 20}-{pool * 20}-0123abc" for pool in "abcde"],
        listener_rule_arn=RULE + "0" * 20,
        launch_template_arns=[TEMPLATE[:-2] + service + pool for pool in "abcde"],
        instance_role_arn=f"arn:aws:iam::123456789012:role/gpu-fleet-prod-{service * 20}-instance-0123abc",
        ami_parameters=[f"/{service * 20}/{pool * 20}/ami-id" for pool in "abcde"],
    )


@given(st.lists(st.integers(0, 5), max_size=40))
def test_every_share_of_services_fits_into_a_policy(pools: list[int]) -> None:
    """And none is left out: 6144 characters each, of which as many as fit go together."""
    grants = [
        replace(longest("w"), group_names=longest("w").group_names[:count], launch_template_arns=[TEMPLATE] * count)
        for count in pools
    ]
    shares = iam.shares(PLACE, grants)
    assert [i for share in shares for i in share] == list(range(len(grants)))
    for share in shares:
        assert iam.characters(iam.service_statements(PLACE, grants[share.start : share.stop])) <= 6144
    for one, two in pairwise(shares):
        both = iam.service_statements(PLACE, grants[one.start : two.start + 1])
        assert iam.characters(both) > 6144, "the next one would have fitted"


def test_policies_of_the_shipped_stack_fit(program: Any) -> None:
    for policy in program("prod").of("Policy"):
        if policy.type == "aws:iam/policy:Policy":
            assert len(policy.inputs["policy"].replace(" ", "")) <= 6144


def test_what_the_program_sends_is_what_was_linted(program: Any) -> None:
    """The documents reach AWS as they were built: the real groups' ARNs, and no Output printed into a string."""
    run = program("prod")
    texts = [p.inputs["policy"] for p in run.of("Policy") if p.type == "aws:iam/policy:Policy"]
    texts += [p.inputs["policy"] for p in run.of("RolePolicy")]
    for text in texts:
        assert "Output" not in text
        assert findings(text) == []
    moved = [
        s for text in texts for s in json.loads(text)["Statement"] if "autoscaling:SetDesiredCapacity" in s["Action"]
    ]
    assert sorted(arn for s in moved for arn in s["Resource"]) == sorted(
        GROUP.replace(NAME, f"{group.name}-0123abc") for group in run.of("Group")
    )
