"""The program builds every stack that `validate` accepts, within AWS's limits."""

from __future__ import annotations

import base64
import json
import string
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from gpu_fleet.config import naming
from gpu_fleet.config.library import Library
from gpu_fleet.config.rules.tags import MAX_TAGS
from gpu_fleet.config.yaml_files import read_library
from infra.iam import MAX_INLINE_CHARACTERS, MAX_MANAGED_CHARACTERS, MAX_MANAGED_POLICIES
from infra.stack_problems import stack_problems

MAX_CHARACTERS = {
    "TargetGroup": naming.MAX_TARGET_GROUP_NAME,
    "LoadBalancer": naming.MAX_LOAD_BALANCER_NAME,
    "Role": naming.MAX_ROLE_NAME,
    "Schedule": naming.MAX_ROLE_NAME,
    "Function": naming.MAX_FUNCTION_NAME,
    "Queue": naming.MAX_QUEUE_NAME,
    "Bucket": naming.MAX_BUCKET_NAME,
    # botocore's models have these.
    "InstanceProfile": 128,
    "Policy": 128,
    "RolePolicy": 128,
    "LaunchTemplate": 128,
    "Group": 255,
    "SecurityGroup": 255,
    "MetricAlarm": 255,
    "Table": 255,
    "Topic": 256,
    "LogGroup": 512,
    "Parameter": 1011,
}


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    return read_library(root)


def names(most: int = 20) -> st.SearchStrategy[str]:
    """Draw short names, which collide, long names, which do not fit, and some that are refused."""
    short = st.sampled_from(["a", "b", "a-b", "b-c", "c", "chat", "l4", "chat-l4", "scaler", "a-failed", "internal"])
    long = st.text(string.ascii_lowercase + "-", min_size=most - 2, max_size=most + 1)
    return short | long


TEXTS = st.text(string.ascii_letters + " {}\\\n'$`\"é", max_size=40)

POOLS = st.dictionaries(
    names(),
    st.fixed_dictionaries(
        {"types": st.sampled_from([["g6.xlarge"], ["g6e.xlarge", "g6e.2xlarge"], ["p5.4xlarge"]]),
         "min": st.integers(0, 3), "max": st.integers(2, 40)},
        optional={
            "spot_percent": st.sampled_from([0, 50, 100]),
            "ami_parameter": st.sampled_from(["/mine/ami", "/" + "a" * 300, "/" + "b" * 900]),
            "volume_gib": st.sampled_from([80, 500]),
        },
    ),
    min_size=1, max_size=5,
)  # fmt: skip

SERVICES = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["chat", "batch", "training"]),
        "container": st.fixed_dictionaries(
            {"image": st.sampled_from(["a/b:1", "123456789012.dkr.ecr.us-east-1.amazonaws.com/w:1"])},
            optional={
                "args": st.lists(TEXTS, max_size=3),
                "environment": st.dictionaries(st.sampled_from(["A", "B"]), TEXTS | st.just("x" * 2000), max_size=2),
                "secrets": st.just({"S": "arn:aws:secretsmanager:us-east-1:123456789012:secret:s-AbCdEf"}),
            },
        ),
        "pools": POOLS,
    }
)

STACKS = st.fixed_dictionaries(
    {
        "network": st.sampled_from(
            [{"cidr": f"10.0.0.0/{length}", "zones": ["us-east-1a", "us-east-1f"]} for length in (16, 22, 23)]
        ),
        "load_balancer": st.fixed_dictionaries(
            {"internal": st.just(True)},
            optional={
                "access_logs": st.booleans(),
                "allowed_cidrs": st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]), min_size=1),
                "certificate_arn": st.just("arn:aws:acm:us-east-1:123456789012:certificate/0"),
            },
        ),
        "services": st.dictionaries(names(), SERVICES, min_size=1, max_size=4),
    },
    optional={
        "tags": st.dictionaries(
            st.text(string.ascii_letters + "-:./ ", min_size=1, max_size=6), TEXTS, max_size=4
        ) | st.just({f"t{i}": "x" * 256 for i in range(46)}),
    },
)  # fmt: skip


def routed(services: dict[str, Any]) -> dict[str, Any]:
    """Give each inference service its own path, so that most stacks are accepted."""
    return {
        name: service if service["policy"] == "training" else {**service, "paths": [f"/{i}/*"], "priority": i + 1}
        for i, (name, service) in enumerate(services.items())
    }


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(stack=STACKS, name=names(34), project=st.sampled_from(["gpu-fleet", "my-fleet"]))
def test_an_accepted_stack_is_built_within_every_limit(
    built: Any, library: Library, tmp_path_factory: pytest.TempPathFactory, stack: Any, name: str, project: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    values = {**stack, "services": routed(stack["services"])}
    config = {"aws:region": "us-east-1", **{f"{project}:{key}": value for key, value in values.items()}}
    path = folder / f"Pulumi.{name}.yaml"
    path.write_text(json.dumps({"config": config}))  # which is YAML
    problems = stack_problems(folder, name, library, project)
    path.unlink()
    event("accepted" if not problems else "refused")
    assume(not problems)

    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    run = built(texts, name, project)

    assert [urn for urn, count in Counter(r.urn for r in run.resources).items() if count > 1] == []
    with_name = [r for r in run.resources if r.custom and "LifecycleHook" not in r.type and "name" in r.inputs]
    fixed = Counter((r.type, r.inputs["name"]) for r in with_name)
    assert [each for each, count in fixed.items() if count > 1] == []
    for resource in run.resources:
        type_name = resource.type.rsplit(":", 1)[-1]
        if resource.custom and type_name in MAX_CHARACTERS:
            name_in_aws = resource.inputs.get("name") or resource.name + "-0123abc"
            assert len(name_in_aws) <= MAX_CHARACTERS[type_name], resource.urn
            assert "--" not in name_in_aws, resource.urn
        tags = resource.inputs.get("tags", {})
        assert len(tags) <= MAX_TAGS
    managed = [p for p in run.of("Policy") if p.type == "aws:iam/policy:Policy"]
    assert len(managed) <= MAX_MANAGED_POLICIES
    for policy in managed:
        assert len("".join(policy.inputs["policy"].split())) <= MAX_MANAGED_CHARACTERS
    for policy in run.of("RolePolicy"):
        assert len("".join(policy.inputs["policy"].split())) <= MAX_INLINE_CHARACTERS
    for template in run.of("LaunchTemplate"):
        assert len(base64.b64decode(template.inputs["userData"])) <= 16384
    for parameter in run.of("Parameter"):
        assert len(parameter.inputs["value"].encode()) <= 8192
    rules = [r for r in run.of("SecurityGroupIngressRule") if "load-balancer" in r.name]
    assert len(rules) <= 60
