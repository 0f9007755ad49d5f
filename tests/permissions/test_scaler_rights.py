"""The scaler's deployed policies allow each call that it makes, and nothing that no call needs."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.client
import pytest

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, faults, provision
from gpu_fleet.replay.function import ScalerFunction
from gpu_fleet.scaling.decision import Decision, PoolTarget, Reason, Refresh, Signals, Step
from gpu_fleet.scaling.state import State
from infra import package
from lambdas.scaler import handler
from tests.permissions.evaluator import Request, granted_by, grants, request
from tests.permissions.scaler_calls import Calls

POLICIES = {
    "rolling": "model: llama-3.1-8b-fp8\nvertical: {method: in_place}\n",
    "jobs": "model: llama-3.1-8b\nworkload: training\n",
}
STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b], nat: none}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: rolling
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v1"}
      pools:
        gpu: {types: [g6.xlarge], alternatives: [[g6e.xlarge]], min: 1, max: 16, spot_percent: 100}
    tuning:
      policy: jobs
      container: {image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/tuning:1"}
      pools:
        gpu: {types: [g6.xlarge], min: 1, max: 4}
"""


@pytest.fixture(scope="module")
def cloud(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCloud]:
    """Provision a stack with everything that the scaler can change: spot, types in place, a job queue."""
    project = tmp_path_factory.mktemp("project")
    (project / "policies").mkdir()
    for name in ("catalog.yaml", "profiles.yaml"):
        (project / "policies" / name).symlink_to(root / "policies" / name)
    for name, text in POLICIES.items():
        (project / f"policies/{name}.yaml").write_text(text)
    (project / "Pulumi.yaml").symlink_to(root / "Pulumi.yaml")
    (project / "Pulumi.local.yaml").write_text(STACK)
    shutil.copytree(root / "infra", project / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    with zipfile.ZipFile(project / "scaler.zip", "w") as archive:
        archive.writestr("lambdas/__init__.py", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "build", lambda _root: project / "scaler.zip")
        with provision("local", project, CloudOptions(boot_seconds=60)) as cloud:
            yield cloud


@pytest.fixture(scope="module")
def documents(cloud: EmbeddedCloud) -> list[Any]:
    """Return the policies of the function's role, as the program wrote them."""
    iam = cloud.client("iam")
    function = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs["scaler"])
    role = function["Role"].rpartition("/")[2]
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == []
    versions = [
        iam.get_policy_version(
            PolicyArn=policy["PolicyArn"],
            VersionId=iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"],
        )
        for policy in attached
    ]
    return [_document(version["PolicyVersion"]["Document"]) for version in versions]


def _document(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text


@pytest.fixture(scope="module")
def requests(cloud: EmbeddedCloud) -> dict[str, list[Request]]:
    """Return, by operation, what IAM checks for the calls of runs that together do everything the scaler can do."""
    by_operation: dict[str, list[Request]] = {}
    calls, original = Calls(cloud), botocore.client.BaseClient._make_api_call

    def record(self: Any, operation: str, arguments: Mapping[str, Any]) -> Any:
        # The lookups' own calls are not the scaler's.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(botocore.client.BaseClient, "_make_api_call", original)
            name = self.meta.service_model.service_name
            by_operation.setdefault(f"{name}.{operation}", []).extend(calls.requests(name, operation, arguments))
        return original(self, operation, arguments)

    with ScalerFunction(cloud) as function, pytest.MonkeyPatch.context() as patch:

        def run(event: Mapping[str, Any], decide: Callable[..., Decision] | None = None) -> None:
            if decide is not None:
                patch.setattr(handler, "decide", decide)
                handler.scaler.cache_clear()
            with pytest.MonkeyPatch.context() as recording:
                recording.setattr(botocore.client.BaseClient, "_make_api_call", record)
                result = function.invoke(event)
                assert result.failure is None, [fault for decided in result.decisions for fault in decided.faults]

        _scaler_does_everything(cloud, run)
    return by_operation


def _scaler_does_everything(cloud: EmbeddedCloud, run: Callable[..., None]) -> None:
    groups = {service: cloud.group_name(service, "gpu") for service in ("chat", "tuning")}
    everywhere = {"chat": (3, {}), "tuning": (2, {})}
    run({}, _deciding(everywhere))
    # The scaler reads failed launches from the scaling activities.
    with faults.no_capacity(cloud):
        cloud.advance(cloud.now + 30)
        run({}, _deciding(everywhere))
    cloud.advance(cloud.now + 600)
    chat, tuning = (_instances(cloud, name) for name in groups.values())
    protecting = {"chat": (3, {"weight": 7, "on_demand_base": 1, "protect": (chat[1],)}), "tuning": (2, {})}
    run({}, _deciding(protecting))
    taking = {"chat": (2, {"take": (chat[0],)}), "tuning": (1, {"take": (tuning[0],)})}
    run({}, _deciding(taking, refresh=Refresh("gpu", ("g6e.xlarge",))))
    cloud.advance(cloud.now + 600)
    spot = next(i for i in _instances(cloud, groups["chat"]) if cloud.lifelike.lifecycle.members[i].spot)
    cloud.lifelike.events.functions[_arn(cloud)] = run
    with faults.spot_interruption(cloud, spot):
        cloud.advance(cloud.now + 5)
    assert spot not in cloud.lifelike.lifecycle.members, "it had nothing to drain, and was replaced at the notice"


def _arn(cloud: EmbeddedCloud) -> str:
    function = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs["scaler"])
    return str(function["FunctionArn"])


def _instances(cloud: EmbeddedCloud, group: str) -> list[str]:
    described = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    return [i["InstanceId"] for i in described["AutoScalingGroups"][0]["Instances"] if i["LifecycleState"] != "Pending"]


def _deciding(
    targets: Mapping[str, tuple[int, Mapping[str, Any]]], refresh: Refresh | None = None
) -> Callable[..., Decision]:
    """Return a decide function that decides these instance counts and changes, by service."""

    def decide(service: Any, observation: Any, state: State, now: float) -> Decision:
        count, changes = targets[service.name]
        target = PoolTarget(count, changes.get("weight", 100 if service.name == "chat" else 0))
        target = PoolTarget(target.desired, target.weight, **{k: v for k, v in changes.items() if k != "weight"})
        reasons = (Reason(Step.GUARD, "told", "As told.", {}),)
        signals = Signals(0.5, 0.4, 0.6, 3.0, 4.0, 5.0, usd_per_hour=1.6)
        of_chat = refresh if service.name == "chat" else None
        return Decision({"gpu": target}, reasons, signals, State(at=now), refresh=of_chat)

    return decide


BY_THE_RUNTIME = (
    ("logs:CreateLogStream", "LogGroup"),
    ("logs:PutLogEvents", "LogGroup"),
    ("sqs:SendMessage", "Queue"),
)
"""What Lambda does with the function's role: write its log, and send a run that could not start to the dead letters.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""


@pytest.fixture(scope="module")
def by_the_runtime(cloud: EmbeddedCloud) -> list[Request]:
    function = cloud.client("lambda")
    name = cloud.outputs["scaler"]
    destination = function.get_function_event_invoke_config(FunctionName=name)["DestinationConfig"]["OnFailure"]
    stream = f"arn:aws:logs:us-east-1:{cloud.account}:log-group:/aws/lambda/{name}:log-stream:2026/01/05/[$LATEST]0"
    resources = {"LogGroup": stream, "Queue": destination["Destination"]}
    return [request(action, resources[name]) for action, name in BY_THE_RUNTIME]


def test_the_runs_make_every_write(requests: dict[str, list[Request]]) -> None:
    """Otherwise a right that no run uses would count as unneeded, and a call that no run makes as allowed."""
    from lambdas.scaler.apply import METHODS

    assert {name.partition(".")[2] for name in requests} >= {*METHODS, "PutItem"}


def test_every_call_is_allowed(
    documents: list[Any], requests: dict[str, list[Request]], by_the_runtime: list[Request]
) -> None:
    calls = [call for each in requests.values() for call in each] + by_the_runtime
    assert [call for call in calls if not granted_by(documents, call)] == []


def test_nothing_is_allowed_that_no_call_needs(
    documents: list[Any], requests: dict[str, list[Request]], by_the_runtime: list[Request]
) -> None:
    """Each action on each resource of each statement."""
    calls = [call for each in requests.values() for call in each] + by_the_runtime
    used = {grant for call in calls for grant in granted_by(documents, call)}
    assert grants(documents) - used == set()


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("autoscaling:SetDesiredCapacity", "autoscaling:us-east-1:{}:autoScalingGroup:1:autoScalingGroupName/other"),
        ("autoscaling:DeleteAutoScalingGroup", "autoscaling:us-east-1:{}:autoScalingGroup:1:autoScalingGroupName/chat"),
        ("dynamodb:PutItem", "dynamodb:us-east-1:{}:table/other"),
        ("ssm:GetParametersByPath", "ssm:us-east-1:{}:parameter/gpu-fleet/other/services"),
        ("sqs:GetQueueAttributes", "sqs:us-east-1:{}:other"),
    ],
)
def test_other_stacks_resources_are_out_of_reach(
    cloud: EmbeddedCloud, documents: list[Any], action: str, resource: str
) -> None:
    assert granted_by(documents, request(action, f"arn:aws:{resource.format(cloud.account)}")) == set()


def test_instances_launch_only_from_the_stacks_templates(cloud: EmbeddedCloud, documents: list[Any]) -> None:
    instance = f"arn:aws:ec2:us-east-1:{cloud.account}:instance/i-0123456789abcdef0"
    other = f"arn:aws:ec2:us-east-1:{cloud.account}:launch-template/lt-00000000000000000"
    assert granted_by(documents, request("ec2:RunInstances", instance)) == set()
    assert granted_by(documents, request("ec2:RunInstances", instance, {"ec2:LaunchTemplate": other})) == set()


def test_the_schedule_may_call_the_scaler_and_send_a_dead_letter(cloud: EmbeddedCloud) -> None:
    """https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html#setting-up-execution-role"""
    (schedule,) = cloud.client("scheduler").list_schedules()["Schedules"]
    target = cloud.client("scheduler").get_schedule(Name=schedule["Name"])["Target"]
    iam, role = cloud.client("iam"), target["RoleArn"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = _document(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
    calls = [
        request("lambda:InvokeFunction", target["Arn"]),
        request("sqs:SendMessage", target["DeadLetterConfig"]["Arn"]),
    ]
    used = [granted_by([document], call) for call in calls]
    assert all(used)
    assert set().union(*used) == grants([document])
