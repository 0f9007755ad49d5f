"""An instance's policy allows each call that the instance makes, and nothing that no call needs.

The boot scripts are those in the program's launch templates. They run with paths below a folder, and with an `aws` that
records its calls. The calls of agents and Docker are from their documentation.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gpu_fleet.config.stack_file import pulumi_config
from tests.permissions.evaluator import Request, granted_by, grants, request

WHERE = "us-east-1:123456789012"
SECRET = f"arn:aws:secretsmanager:{WHERE}:secret:token-AbCdEf"
KEY = f"arn:aws:kms:{WHERE}:key/11111111-2222-3333-4444-555555555555"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/engine:1"
COMMANDS = {
    "autoscaling complete-lifecycle-action": "autoscaling:CompleteLifecycleAction",
    "autoscaling record-lifecycle-action-heartbeat": "autoscaling:RecordLifecycleActionHeartbeat",
    "autoscaling set-instance-health": "autoscaling:SetInstanceHealth",
    "cloudwatch put-metric-data": "cloudwatch:PutMetricData",
    "logs create-log-stream": "logs:CreateLogStream",
    "logs put-log-events": "logs:PutLogEvents",
    "secretsmanager get-secret-value": "secretsmanager:GetSecretValue",
    # https://docs.aws.amazon.com/cli/latest/reference/ecr/get-login-password.html
    "s3 sync": "s3:ListBucket",
    "ecr get-login-password": "ecr:GetAuthorizationToken",
}


@dataclass(frozen=True)
class Service:
    """One service of the program: its role's policy, its groups, and its pools' boot scripts."""

    name: str
    policy: Any
    groups: Mapping[str, Mapping[str, str]]
    """Tags by name."""
    scripts: tuple[str, ...]


@pytest.fixture(scope="module")
def services(program: Callable[..., Any], root: Path) -> dict[str, Service]:
    """Return the services of stack prod, with secrets under the user's key, an image in ECR, and another service that
    needs none of these. One service's name is a prefix of another's.
    """
    settings = json.loads(pulumi_config(root, "prod")["gpu-fleet:services"])
    chat = settings["chat"]
    chat["container"] |= {"image": IMAGE, "secrets": {"HF_TOKEN": SECRET}, "kms_key_arn": KEY}
    plain = {"image": "vllm/vllm-openai:v1", "args": ["--model", "own/model"]}
    boot = {"weights": {"bucket": "own-bucket"}}
    settings["chat-large"] = {**chat, "container": plain, "boot": boot, "paths": ["/large/*"], "priority": 900}
    caches = {"docker.io": {"credentials_arn": SECRET.replace("token", "ecr-pullthroughcache/token")}}
    run = program("prod", **{"gpu-fleet:services": json.dumps(settings), "gpu-fleet:image_caches": json.dumps(caches)})
    by_name = {}
    for name in settings:
        (policy,) = [p for p in run.of("RolePolicy") if p.name == f"gpu-fleet-prod-{name}-instance"]
        groups = {
            f"{group.name}-0123abc": {tag["key"]: tag["value"] for tag in group.inputs["tags"]}
            for group in run.of("Group")
        }
        own = {group: tags for group, tags in groups.items() if tags["gpu-fleet:service"] == name}
        templates = [t for t in run.of("LaunchTemplate") if f"{t.name}-0123abc" in own]
        scripts = tuple(gzip.decompress(base64.b64decode(t.inputs["userData"])).decode() for t in templates)
        assert len(scripts) == len(own) > 0
        by_name[name] = Service(name, json.loads(policy.inputs["policy"]), own, scripts)
    return by_name


# --- the calls ----------------------------------------------------------------------------------------------------


def run_boot_script(script: str, folder: Path) -> Path:
    """Run a boot script, with everything that it writes below the folder, and return the folder."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    whole = re.sub(r"(?<![\w./])/(?=(?:etc|opt|var/log|var/lib|tmp)/)", f"{folder}/", script)
    for path in ("etc/systemd/system", "var/log", "tmp"):
        (folder / path).mkdir(parents=True)
    for name in ("systemctl", "docker", "curl", "dpkg"):
        (bin_ / name).write_text("#!/bin/bash\nexit 0\n")
    record = f'printf "%q " "$@" >> {folder}/calls; echo >> {folder}/calls'
    (bin_ / "aws").write_text(f'#!/bin/bash\n{record}\n[ "$1" != secretsmanager ] || echo s3cret\n')
    for path in bin_.iterdir():
        path.chmod(0o755)
    _bash(folder, ["-c", whole])
    return folder


def _bash(folder: Path, arguments: list[str]) -> None:
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", *arguments], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


HELD = "vllm:num_requests_running 1\nvllm:generation_tokens_total 5\n"


class Engine(BaseHTTPRequestHandler):
    """An engine with this page, and the metadata of an instance with this group and state."""

    group, state, page, loading = "", "", "", 0
    """`loading`: health checks that still fail."""

    def do_PUT(self) -> None:
        self._answer("token")

    def do_GET(self) -> None:
        if self.path == "/health" and Engine.loading > 0:
            Engine.loading -= 1
            self.send_error(503)
            return
        answers = {"instance-id": "i-1", "tags/instance/aws:autoscaling:groupName": self.group}
        answers["autoscaling/target-lifecycle-state"] = self.state
        self._answer(answers.get(self.path.removeprefix("/latest/meta-data/"), self.page))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def run_node(folder: Path, group: str, port: int) -> None:
    """Run the node's program from the launching hook to the end of the drain, with an engine that freezes."""
    settings = dict(line.split("=", 1) for line in (folder / "etc/gpu-fleet/node.env").read_text().splitlines())
    environment = {
        **settings, "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PORT": str(port), "IMDS_URL": f"http://127.0.0.1:{port}",
        "POLL_SECONDS": "0.01", "SCRAPE_SECONDS": "0.01", "HEARTBEAT_SECONDS": "0", "IDLE_SECONDS": "0.1",
        "STALL_SECONDS": "0.05", "STATE_FOLDER": str(folder), "PYTHONPATH": str(folder / "opt/gpu-fleet"),
    }  # fmt: skip
    Engine.group, Engine.state, Engine.page, Engine.loading = group, "InService", HELD, 3
    command = [sys.executable, "-m", "node", "lifecycle"]
    last = "complete-lifecycle-action" if settings["WORKLOAD"] == "training" else "set-instance-health"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(3000):
                if last in _calls(folder):
                    break
                time.sleep(0.01)
            Engine.state, Engine.page = "Terminated", HELD.replace("running 1", "running 0")
            assert process.wait(30) == 0
        finally:
            process.kill()


def _calls(folder: Path) -> str:
    calls = folder / "calls"
    return calls.read_text() if calls.exists() else ""


def script_requests(folder: Path, service: Service) -> Iterator[Request]:
    """Yield the requests of the `aws` commands."""
    for line in _calls(folder).splitlines():
        words = shlex.split(line)
        action = COMMANDS[" ".join(words[:2])]
        options = dict(pairwise(words))
        if action.startswith("autoscaling:"):
            # Health is set by the instance alone: AWS finds its group.
            group = options.get("--auto-scaling-group-name", next(iter(service.groups)))
            assert options["--instance-id"] == "i-1"
            yield request(action, group_arn(group), tagged(service.groups[group]))
        elif action.startswith("cloudwatch:"):
            yield request(action, "*", {"cloudwatch:namespace": options["--namespace"]})
        elif action.startswith("logs:"):
            stream = f"{options['--log-group-name']}:log-stream:{options['--log-stream-name']}"
            yield request(action, f"arn:aws:logs:{WHERE}:log-group:{stream}")
        elif action.startswith("secretsmanager:"):
            yield request(action, options["--secret-id"])
            # The user's key encrypts the secret: Secrets Manager decrypts on behalf of the caller.
            yield request("kms:Decrypt", KEY, {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"})
        elif action.startswith("s3:"):
            # https://docs.aws.amazon.com/cli/latest/reference/s3/sync.html lists, and gets what is not there.
            (uri,) = [word for word in words if word.startswith("s3://")]
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            yield request("s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": prefix})
            yield request("s3:GetObject", f"arn:aws:s3:::{bucket}/{prefix}model.safetensors")
        else:
            yield request(action)


def group_arn(name: str) -> str:
    return f"arn:aws:autoscaling:{WHERE}:autoScalingGroup:1-2-3:autoScalingGroupName/{name}"


def tagged(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def agent_requests(folder: Path) -> Iterator[Request]:
    """Yield the requests of Docker, the CloudWatch agent, the SSM agent and a worker, by their settings."""
    serve = (folder / "opt/gpu-fleet/serve.sh").read_text()
    words = shlex.split(serve.replace("\\\n", " ").splitlines()[-1])
    # https://docs.docker.com/engine/logging/drivers/awslogs/
    (group,) = [word.partition("=")[2] for word in words if word.startswith("awslogs-group=")]
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        yield request(action, f"arn:aws:logs:{WHERE}:log-group:{group}:log-stream:0123abc")
    # https://docs.aws.amazon.com/AmazonECR/latest/userguide/security-iam-awsmanpol.html (PullOnly)
    (repository,) = [word.partition("/")[2].partition(":")[0] for word in words if ".dkr.ecr." in word]
    # A first pull through a cache: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html
    fills = ("ecr:BatchImportUpstreamImage", "ecr:CreateRepository") if "/docker-hub/" in repository else ()
    for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", *fills):
        yield request(action, f"arn:aws:ecr:{WHERE}:repository/{repository}")
    # Metrics, and the tag with the name of its group:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/create-iam-roles-for-cloudwatch-agent.html
    agent = json.loads((folder / "etc/gpu-fleet/agent.json").read_text())["metrics"]
    yield request("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": agent["namespace"]})
    if "${aws:AutoScalingGroupName}" in agent["append_dimensions"].values():
        yield request("ec2:DescribeTags")
    # https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
    yield request("ssm:UpdateInstanceInformation", f"arn:aws:ec2:{WHERE}:instance/i-1")
    for channel in ("ControlChannel", "DataChannel"):
        yield request(f"ssmmessages:Create{channel}")
        yield request(f"ssmmessages:Open{channel}")
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-receive-delete-message.html
    environment = (folder / "etc/gpu-fleet/container.env").read_text()
    for queue in re.findall(r"^QUEUE_URL=.*/(.+)$", environment, re.MULTILINE):
        for action in ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"):
            yield request(action, f"arn:aws:sqs:{WHERE}:{queue}")


@pytest.fixture(scope="module")
def requests(
    services: dict[str, Service], port: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Request]]:
    """Return all requests of an instance of the first pool, from boot to end, by service."""
    by_service = {}
    for service in services.values():
        folder = run_boot_script(service.scripts[0], tmp_path_factory.mktemp(service.name))
        _bash(folder, [str(folder / "opt/gpu-fleet/pull.sh")])
        if (copy := folder / "opt/gpu-fleet/weights.sh").exists():
            (folder / "opt/models/weights").mkdir(parents=True)
            (folder / "opt/models/weights/copied").touch()
            _bash(folder, [str(copy)])
        if service.name == "fine-tuning":
            looks = folder / "looks"
            ends = f'echo . >> {looks}; [ "$(wc -l < {looks})" -gt 9 ] && echo false || echo true'
            (folder / "bin/docker").write_text(f"#!/bin/bash\n{ends}\n")
        run_node(folder, next(iter(service.groups)), port)
        by_service[service.name] = [*script_requests(folder, service), *agent_requests(folder)]
    return by_service


# --- compared with the policies ------------------------------------------------------------------------------------

SERVICES = ("chat", "chat-large", "fine-tuning")


@pytest.mark.parametrize("name", SERVICES)
def test_every_call_is_allowed(services: dict[str, Service], requests: dict[str, list[Request]], name: str) -> None:
    assert [each for each in requests[name] if not granted_by([services[name].policy], each)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_allowed_that_no_call_needs(
    services: dict[str, Service], requests: dict[str, list[Request]], name: str
) -> None:
    used = {grant for each in requests[name] for grant in granted_by([services[name].policy], each)}
    assert grants([services[name].policy]) - used == set()


def test_the_calls_cover_an_instances_whole_life(requests: dict[str, list[Request]]) -> None:
    """Otherwise a call that the test does not make would count as allowed."""
    assert {each.action for each in requests["chat"]} >= {*COMMANDS.values(), "kms:Decrypt"} - {"s3:ListBucket"}
    assert {"s3:ListBucket", "s3:GetObject"} <= {each.action for each in requests["chat-large"]}
    assert "secretsmanager:GetSecretValue" not in {each.action for each in requests["chat-large"]}
    for name, cached in (("chat", False), ("chat-large", True), ("fine-tuning", False)):
        assert ("ecr:CreateRepository" in {each.action for each in requests[name]}) == cached
    assert "sqs:ReceiveMessage" in {each.action for each in requests["fine-tuning"]}


@pytest.mark.parametrize("name", SERVICES)
def test_no_instance_can_end_an_instance_or_change_a_group(services: dict[str, Service], name: str) -> None:
    group, tags = next(iter(services[name].groups.items()))
    for action in (
        "TerminateInstanceInAutoScalingGroup", "SetDesiredCapacity", "SetInstanceProtection", "UpdateAutoScalingGroup",
        "DetachInstances", "EnterStandby", "PutLifecycleHook", "DeleteLifecycleHook",
        "CreateOrUpdateTags",
    ):  # fmt: skip
        call = request(f"autoscaling:{action}", group_arn(group), tagged(tags))
        assert granted_by([services[name].policy], call) == set()
    instance = f"arn:aws:ec2:{WHERE}:instance/i-2"
    assert granted_by([services[name].policy], request("ec2:TerminateInstances", instance)) == set()


def test_an_instance_sets_the_health_of_its_own_service_alone(services: dict[str, Service]) -> None:
    for service in services.values():
        for other in services.values():
            for group, tags in other.groups.items():
                call = request("autoscaling:SetInstanceHealth", group_arn(group), tagged(tags))
                allowed = bool(granted_by([service.policy], call))
                assert allowed == (service is other and service.name != "fine-tuning"), f"{service.name} on {group}"


def test_an_instance_completes_only_the_hooks_of_its_own_service(services: dict[str, Service]) -> None:
    """Even if its groups' names start as another's: `chat` and `chat-large`, stack `prod` and stack `prod-a`."""
    complete = "autoscaling:CompleteLifecycleAction"
    for service in services.values():
        for other in services.values():
            for group, tags in other.groups.items():
                allowed = granted_by([service.policy], request(complete, group_arn(group), tagged(tags)))
                assert bool(allowed) == (service is other), f"{service.name} on {group}"
    own = next(iter(services["chat"].groups.values()))
    similar = {**own, "gpu-fleet:stack": "gpu-fleet-prod-chat", "gpu-fleet:service": "l4"}
    for tags in (similar, {}, {**own, "gpu-fleet:stack": "gpu-fleet-dev"}, {"gpu-fleet:service": "chat"}):
        call = request(complete, group_arn("gpu-fleet-prod-chat-l4-0123abc"), tagged(tags))
        assert granted_by([services["chat"].policy], call) == set()


def test_an_instance_publishes_only_in_its_namespace(services: dict[str, Service]) -> None:
    """In others it could silence alarms, such as the scaler's own."""
    for namespace in ("GpuFleet/Scaler", "AWS/Lambda", "Other"):
        call = request("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": namespace})
        assert granted_by([services["chat"].policy], call) == set()


@pytest.mark.parametrize(
    ("key", "context"),
    [
        (KEY, {}),
        (KEY, {"kms:ViaService": "s3.us-east-1.amazonaws.com"}),
        (KEY, {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}),
        (KEY.replace("1111", "2222"), {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}),
    ],
    ids=["by itself", "through S3", "in another region", "another key"],
)
def test_the_key_only_decrypts_secrets(services: dict[str, Service], key: str, context: Mapping[str, str]) -> None:
    assert granted_by([services["chat"].policy], request("kms:Decrypt", key, context)) == set()


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("secretsmanager:GetSecretValue", SECRET.replace("token", "other")),
        ("sqs:ReceiveMessage", f"arn:aws:sqs:{WHERE}:other"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{WHERE}:repository/other"),
        ("logs:PutLogEvents", f"arn:aws:logs:{WHERE}:log-group:/aws/lambda/other:log-stream:1"),
    ],
)
def test_another_services_resources_are_out_of_reach(services: dict[str, Service], action: str, resource: str) -> None:
    for service in services.values():
        assert granted_by([service.policy], request(action, resource)) == set()
