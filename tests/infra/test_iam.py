"""The roles' policies are valid and no wider than they must be. tests/permissions compares them with the calls made."""

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

from gpu_fleet.config.image_registry import PulledImage
from infra import iam
from infra.baked_ami import builder_statements
from infra.instance_rights import InstanceResources, ecr_repository_arn, instance_statements
from infra.scaler_rights import ServiceResources, scaler_statements, service_batches, service_statements

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
COMPONENT = "arn:aws:imagebuilder:us-east-1:123456789012:component/gpu-fleet-prod-chat-baked-0123abc/1.0.0/1"
CACHED_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub/vllm/vllm-openai:v0.29.0"
HASH_RULE = RULE[:-1] + "0"
SERVICE = ServiceResources(
    group_names=[NAME],
    listener_rule_arn=RULE,
    hash_rule_arns=[HASH_RULE],
    queue_arn=QUEUE,
    launch_template_arns=[TEMPLATE],
    instance_role_arn=ROLE,
    ami_parameters=["/aws/service/deeplearning/ami", "/mine"],
)


def findings(policy: str) -> list[str]:
    """Return the linter's findings, except that an application load balancer's rule is no network load balancer's."""
    found = [(f.issue, str(f.detail)) for f in analyze_policy_string(policy).findings]
    network_rule = str(
        [
            {
                "action": "elasticloadbalancing:ModifyRule",
                "required_format": "arn:*:elasticloadbalancing:*:*:listener-rule/net/*/*/*/*",
            }
        ]
    )
    return [f"{issue}: {detail}" for issue, detail in found if (issue, detail) != ("RESOURCE_MISMATCH", network_rule)]


def own_statements() -> list[iam.Statement]:
    return scaler_statements(
        PLACE, table_arn=TABLE, log_group_arn=LOGS, dead_letters_arn=QUEUE, services_path="/gpu-fleet/prod/services"
    )


def all_documents() -> dict[str, list[iam.Statement]]:
    return {
        "scaler": own_statements(),
        "services": service_statements(PLACE, [SERVICE, ServiceResources(group_names=[NAME], listener_rule_arn=RULE)]),
        "instances": instance_statements(
            PLACE,
            InstanceResources(
                group_tags={"gpu-fleet:stack": "gpu-fleet-prod", "gpu-fleet:service": "chat"},
                log_group_arn=LOGS,
                queue_arn=QUEUE,
                ecr_repository_arn="arn:aws:ecr:us-east-1:123456789012:repository/worker",
                secret_arns=["arn:aws:secretsmanager:us-east-1:123456789012:secret:token-AbCdEf"],
                kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555",
            ),
        ),
        "builder": builder_statements(PLACE, COMPONENT, PulledImage(CACHED_IMAGE, cached=True)),
        "schedule": iam.schedule_statements("arn:aws:lambda:us-east-1:123456789012:function:scaler", QUEUE),
    }


@pytest.mark.parametrize("name", list(all_documents()))
def test_the_linter_finds_nothing(name: str) -> None:
    assert findings(json.dumps(iam.document(all_documents()[name]))) == []


def test_the_linter_finds_a_wrong_action_and_a_wrong_resource() -> None:
    for action, resource in (("autoscaling:SetDesiredCapcity", GROUP), ("elasticloadbalancing:ModifyRule", GROUP)):
        assert findings(json.dumps(iam.document([iam.Statement("Wrong", [action], [resource])])))


@pytest.mark.parametrize("name", list(all_documents()))
def test_no_scopable_action_has_all_resources(name: str) -> None:
    """Of actions that write, tag or manage permissions."""
    for statement in all_documents()[name]:
        if "*" in statement.resources:
            assert [a for a in statement.actions if _scopable(a)] == [], statement.sid


def _scopable(action: str) -> bool:
    service, _, name = action.partition(":")
    entries = get_action_data(service, name)[service]  # type: ignore[index]
    writes = entries[0]["access_level"] in {"Write", "Permissions management", "Tagging"}
    return writes and any(entry["resource_arn_format"] != "*" for entry in entries)


def test_scopable_actions_are_recognised() -> None:
    assert _scopable("autoscaling:SetDesiredCapacity")
    assert not _scopable("cloudwatch:PutMetricData")


def test_without_spot_and_types_in_place_the_scaler_may_not_launch() -> None:
    statements = service_statements(PLACE, [ServiceResources(group_names=[NAME], listener_rule_arn=RULE)])
    assert {action for s in statements for action in s.actions} == {
        "autoscaling:SetDesiredCapacity",
        "autoscaling:SetInstanceProtection",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "elasticloadbalancing:ModifyRule",
    }


def test_weights_are_those_of_our_rules() -> None:
    (weights,) = [s for s in service_statements(PLACE, [SERVICE]) if "elasticloadbalancing:ModifyRule" in s.actions]
    assert weights.resources == [RULE, HASH_RULE]


def test_launches_are_bound_to_our_templates() -> None:
    (launch,) = [s for s in service_statements(PLACE, [SERVICE]) if "ec2:RunInstances" in s.actions]
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
def test_an_image_in_ecr_names_its_repository(image: str, repository: str) -> None:
    arn = ecr_repository_arn(f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{image}", "aws")
    assert arn == f"arn:aws:ecr:eu-west-1:123456789012:repository/{repository}"


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.11.0", "ghcr.io/some/engine:1", "public.ecr.aws/a/b:1", "x"])
def test_an_image_outside_ecr_has_no_repository_arn(image: str) -> None:
    assert ecr_repository_arn(image, "aws") is None


def longest(service: str) -> ServiceResources:
    """A service of five pools with the longest names and an AMI each."""
    return ServiceResources(
        group_names=[f"gpu-fleet-prod-{service * 20}-{pool * 20}-0123abc" for pool in "abcde"],
        listener_rule_arn=RULE + "0" * 20,
        launch_template_arns=[TEMPLATE[:-2] + service + pool for pool in "abcde"],
        instance_role_arn=f"arn:aws:iam::123456789012:role/gpu-fleet-prod-{service * 20}-instance-0123abc",
        ami_parameters=[f"/{service * 20}/{pool * 20}/ami-id" for pool in "abcde"],
    )


@given(st.lists(st.integers(0, 5), max_size=40))
def test_every_batch_of_services_fits_into_a_policy(pools: list[int]) -> None:
    """No service is left out, and each batch has as many as fit into 6144 characters."""
    resources = [
        replace(longest("w"), group_names=longest("w").group_names[:count], launch_template_arns=[TEMPLATE] * count)
        for count in pools
    ]
    batches = service_batches(PLACE, resources)
    assert [i for batch in batches for i in batch] == list(range(len(resources)))
    for batch in batches:
        assert iam.characters(service_statements(PLACE, resources[batch.start : batch.stop])) <= 6144
    for one, two in pairwise(batches):
        both = service_statements(PLACE, resources[one.start : two.start + 1])
        assert iam.characters(both) > 6144, "the next batch would have fitted"


def test_policies_of_the_shipped_stack_fit(program: Any) -> None:
    for policy in program("prod").of("Policy"):
        if policy.type == "aws:iam/policy:Policy":
            assert len(policy.inputs["policy"].replace(" ", "")) <= 6144


def test_the_linter_finds_nothing_in_the_programs_policies(program: Any) -> None:
    """They contain the real groups' ARNs, and no Output printed into a string."""
    run = program("prod")
    texts = [p.inputs["policy"] for p in run.of("Policy") if p.type == "aws:iam/policy:Policy"]
    texts += [p.inputs["policy"] for p in run.of("RolePolicy")]
    for text in texts:
        assert "Output" not in text
        assert findings(text) == []
    capacity = [
        s for text in texts for s in json.loads(text)["Statement"] if "autoscaling:SetDesiredCapacity" in s["Action"]
    ]
    assert sorted(arn for s in capacity for arn in s["Resource"]) == sorted(
        GROUP.replace(NAME, f"{group.name}-0123abc") for group in run.of("Group")
    )
