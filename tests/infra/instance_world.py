"""An instance for its own program: a PATH with `aws`, `docker` and `systemctl`, and instance metadata.

The commands are small scripts that ask this process. `aws` is boto3 in the emulated cloud, so it refuses what AWS
refuses: an action before the instance waits for it, a secret that does not exist, an option that the API does not have.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import jmespath
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, faults
from gpu_fleet.scaling.policy import Policy
from infra.gpu_pool import lifecycle_hooks

ROOT = Path(__file__).resolve().parent.parent.parent
GROUP = "gpu-fleet-chat-l4"
LOG_GROUP = "/gpu-fleet/test/chat"
IDLE = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
BUSY = "vllm:num_requests_running 1\nvllm:num_requests_waiting 3\n"

SCRIPT = """\
#!/bin/bash
exec 3<> /dev/tcp/127.0.0.1/{port}
printf '%s\\0' {name} "$@" | base64 -w0 >&3
echo >&3
read -r code <&3
if [ "$code" = 0 ]; then cat <&3; else cat <&3 >&2; fi
exit "$code"
"""


@dataclass
class InstanceWorld:
    """One instance of a group of one, in virtual time; its program runs in real time."""

    cloud: EmbeddedCloud
    folder: Path
    command_port: int = 0
    port: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    calls: list[str] = field(default_factory=list)
    """Commands with their answer: "aws autoscaling ... -> 254"."""
    requested: list[str] = field(default_factory=list)
    container: bool | None = True
    """Whether the container runs; None: Docker does not answer."""
    health: int = 200
    pages: list[str] = field(default_factory=lambda: [IDLE])
    """Answers of /metrics, in order; the last repeats."""
    log_lines: Iterator[str] = field(default_factory=lambda: iter(()))
    """Newest line of the container's log at each look; when they end, nothing new is logged."""
    whole_log: str = ""
    """The container's log with time stamps."""
    launched_at: str = ""
    """`pendingTime` of the identity document; empty: the service does not answer that."""
    restarts: int = 0
    tag_answers: list[str] = field(default_factory=list)
    """Names of the group's tag before it is there."""
    state_answers: list[str] = field(default_factory=list)
    """Lifecycle states of the metadata before the real ones."""
    stopped: bool = False
    """Whether systemd was told to stop the engine."""
    refused: dict[str, int] = field(default_factory=dict)
    """How often each `aws` operation is still refused."""
    on_stop: Callable[[], None] = lambda: None
    logged_in: set[str] = field(default_factory=set)
    """Registries that Docker has a login to."""
    images: set[str] = field(default_factory=set)
    """Images that Docker has."""
    _line: str = ""

    # -- the cloud --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return next(iter(self.cloud.lifelike.lifecycle.members), "i-gone")

    @property
    def state(self) -> str:
        """Lifecycle state of the instance; "gone" when its group has forgotten it."""
        with self.lock:
            groups = self.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
            states = {i["InstanceId"]: i["LifecycleState"] for g in groups for i in g["Instances"]}
            return states.get(self.first, "gone")

    first: str = ""

    def pass_time(self, seconds: float) -> None:
        with self.lock:
            self.cloud.advance(self.cloud.now + seconds)

    def scale(self, desired: int) -> None:
        with self.lock:
            self.cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=desired)
            self.pass_time(2)

    def serve(self) -> None:
        """Bring the instance into service and behind the load balancer, as its program would."""
        with self.lock:
            self.cloud.client("autoscaling").complete_lifecycle_action(
                AutoScalingGroupName=GROUP,
                LifecycleHookName="model-answers",
                InstanceId=self.first,
                LifecycleActionResult="CONTINUE",
            )
            self.cloud.lifelike.lifecycle.start_answering(self.cloud.lifelike.lifecycle.members[self.first])
            self.pass_time(60)
        (self.folder / "state").mkdir(exist_ok=True)
        (self.folder / "state/launched").touch()

    def activities(self) -> list[dict[str, Any]]:
        with self.lock:
            asg = self.cloud.client("autoscaling")
            return list(asg.describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"])

    def log(self) -> list[dict[str, Any]]:
        """What the instance wrote to its service's log group."""
        with self.lock:
            logs = self.cloud.client("logs")
            events = logs.filter_log_events(logGroupName=LOG_GROUP)["events"]
            return [json.loads(event["message"]) for event in events]

    # -- the commands -----------------------------------------------------------------------------------------------

    def run(self, words: list[str]) -> tuple[int, str]:
        with self.lock:
            code, text = {"aws": self._aws, "docker": self._docker, "systemctl": self._systemctl}[words[0]](words[1:])
            self.calls.append(f"{' '.join(words)} -> {code}")
            return code, text

    def _aws(self, words: list[str]) -> tuple[int, str]:
        service, operation, *rest = words
        if self.refused.get(operation, 0) > 0:
            self.refused[operation] -= 1
            return 254, f"An error occurred (ThrottlingException) when calling {operation}: Rate exceeded\n"
        if (service, operation) == ("ecr", "get-login-password"):
            return 0, "password\n"
        if (service, operation) == ("s3", "sync"):
            return self._sync(rest)
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        query = options.pop("--query", None)
        options.pop("--output", None)
        options.pop("--region", None)
        names = {_camel(name, lower=service == "logs"): _value(value) for name, value in options.items()}
        try:
            answer = getattr(boto3.client(service, "us-east-1"), operation.replace("-", "_"))(**names)
        except ParamValidationError as error:
            return 252, str(error)
        except ClientError as error:
            return 254, f"\n{error}\n"
        answer.pop("ResponseMetadata")
        return 0, f"{jmespath.search(query, answer) if query else json.dumps(answer, default=str)}\n"

    def _sync(self, words: list[str]) -> tuple[int, str]:
        """`aws s3 sync s3://... folder`: https://docs.aws.amazon.com/cli/latest/reference/s3/sync.html"""
        flags, (uri, folder) = set(words[:-2]), words[-2:]
        assert flags <= {"--only-show-errors", "--delete"}, flags
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        s3 = boto3.client("s3", "us-east-1")
        try:
            objects = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        except ClientError as error:
            return 1, f"fatal error: {error}"
        wanted = {Path(folder) / each["Key"].removeprefix(prefix): each["Key"] for each in objects}
        for path, key in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))
        for path in Path(folder).rglob("*") if "--delete" in flags else ():
            if path.is_file() and path not in wanted:
                path.unlink()
        return 0, ""

    def _docker(self, words: list[str]) -> tuple[int, str]:
        if self.container is None:
            return (
                1,
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            )
        if words[0] in ("inspect", "logs") and not self.container:
            return 1, "Error response from daemon: No such object: engine"
        if words[:2] == ["inspect", "--format"]:
            return 0, "true\n" if "Running" in words[2] else "4242 172.17.0.1\n"
        if words[:2] == ["logs", "--timestamps"]:
            return 0, self.whole_log
        if words[0] == "logs":
            self._line = next(self.log_lines, self._line)
            return 0, self._line + "\n"
        if words[0] == "login":
            self.logged_in.add(words[-1])
        if words[0] == "pull" and ".dkr.ecr." in words[1] and words[1].partition("/")[0] not in self.logged_in:
            return 1, "Error response from daemon: no basic auth credentials"
        if words[:2] == ["image", "inspect"]:
            return (
                (0, "[]") if words[2] in self.images else (1, f"Error response from daemon: No such image: {words[2]}")
            )
        return (0, "") if words[0] in ("login", "pull", "image", "run", "rm", "stop") else (1, "unknown command")

    def _systemctl(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "show":
            return 0, f"{self.restarts}\n"
        if words[-2:] == ["stop", "engine"]:
            self.stopped = True
            self.on_stop()
        return 0, ""

    # -- metadata and the engine ------------------------------------------------------------------------------------

    def answer(self, path: str) -> tuple[int, str]:
        self.requested.append(path)
        if path == "/health":
            return self.health, ""
        if path == "/metrics":
            return 200, self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if path == "/latest/dynamic/instance-identity/document" and self.launched_at:
            return 200, json.dumps({"instanceId": self.first, "pendingTime": self.launched_at})
        name = path.removeprefix("/latest/meta-data/")
        if name == "instance-id":
            return 200, self.first
        if name.startswith("tags/instance/"):
            tag = self.tag_answers.pop(0) if self.tag_answers else GROUP
            return (200, tag) if tag else (404, "")
        if name == "autoscaling/target-lifecycle-state":
            if self.state_answers:
                return 200, self.state_answers.pop(0)
            # https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
            return 200, "Terminated" if self.state.startswith(("Terminat", "gone")) else "InService"
        return 404, ""

    def listening(self) -> bool:
        """Whether the engine accepts connections."""
        return bool(self.container) and not self.stopped

    # -- its program ------------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Times are shortened; a drain counts an engine idle at the second look."""
        return {
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "infra/instance"),
            "PORT": str(self.port),
            "IMDS_URL": f"http://127.0.0.1:{self.port}",
            "STATE_FOLDER": str(self.folder / "state"),
            "LOG_GROUP": LOG_GROUP,
            "POLL_SECONDS": "0.01",
            "SCRAPE_SECONDS": "0.01",
            "HEARTBEAT_SECONDS": "0",
            "FIRST_PAUSE_SECONDS": "0.01",
            "LONGEST_PAUSE_SECONDS": "0.05",
            "IDLE_SECONDS": "0.05",
            "MAX_DRAIN_SECONDS": "30",
            "PROGRESS_BYTES": "1e18",
            "LAUNCHING_HOOK": "model-answers",
            "TERMINATING_HOOK": "drained",
            "WORKLOAD": "inference",
        }

    def start(self, command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "node", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**self.environment, **environment},
        )  # fmt: skip

    def actions(self, *, accepted: bool = True) -> list[str]:
        """Return the calls about hooks that AWS accepted, or refused: "complete-lifecycle-action drained CONTINUE"."""
        found = []
        for call in self.calls:
            match = re.fullmatch(r"aws autoscaling ([\w-]+) --lifecycle-hook-name (\S+) (.*) -> (\d+)", call)
            if match and (match[4] == "0") == accepted:
                result = re.search(r"--lifecycle-action-result (\w+)", match[3])
                found.append(" ".join([match[1], match[2], *([result[1]] if result else [])]))
        return found


def _camel(option: str, *, lower: bool) -> str:
    name = "".join(part.title() for part in option.removeprefix("--").split("-"))
    return name[0].lower() + name[1:] if lower else name


def _value(text: str) -> Any:
    return json.loads(text) if text.startswith("[") else text


def until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Wait until `reached`; a process that ends first fails the test."""
    pause = threading.Event()
    for _ in range(3000):
        if reached():
            return
        assert process.poll() is None, process.stdout and process.stdout.read()
        pause.wait(0.01)
    process.kill()
    pytest.fail(f"not reached in 30 s: {process.communicate()[0]}")


def end(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for the end of a process that ends by itself, and return what it said."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return [json.loads(line) for line in output.splitlines()]


@contextlib.contextmanager
def instance_world(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[InstanceWorld]:
    """One instance in Pending:Wait, whose program has not started. `settings` are the policy's, horizontal."""
    # CloudWatch Logs refuses events of another day, and the program has the real time.
    options = CloudOptions(start=time.time(), drain_seconds=lambda _: None)
    with EmbeddedCloud(options=options) as cloud, faults.failed_boot(cloud):
        world = InstanceWorld(cloud, folder)
        _make_group(cloud, Policy.model_validate({"model": "m", "horizontal": settings or {}}))
        world.scale(1)
        world.pass_time(30)
        world.first = world.id
        assert world.state == "Pending:Wait"
        with _listening(world):
            yield world


def _make_group(cloud: EmbeddedCloud, policy: Policy) -> None:
    """Make a group with the stack's own hooks, behind a load balancer that waits 25 minutes for open connections."""
    ec2, elb, asg = cloud.client("ec2"), cloud.client("elbv2"), cloud.client("autoscaling")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    other = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1b")["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    balancer = elb.create_load_balancer(Name="balancer", Subnets=[subnet, other])["LoadBalancers"][0]["LoadBalancerArn"]
    targets = elb.create_target_group(
        Name="targets", Protocol="HTTP", Port=8000, VpcId=vpc, HealthCheckIntervalSeconds=10, HealthyThresholdCount=2
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=targets, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1500"}]
    )
    action = {"Type": "forward", "TargetGroupArn": targets}
    elb.create_listener(LoadBalancerArn=balancer, Port=80, Protocol="HTTP", DefaultActions=[action])
    template = ec2.create_launch_template(
        LaunchTemplateName="template",
        LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge", "UserData": "aGk="},
    )["LaunchTemplate"]["LaunchTemplateId"]
    asg.create_auto_scaling_group(
        AutoScalingGroupName=GROUP, MinSize=0, MaxSize=5, VPCZoneIdentifier=subnet, TargetGroupARNs=[targets],
        LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"},
        HealthCheckType="ELB", HealthCheckGracePeriod=60,
        LifecycleHookSpecificationList=[
            {
                "LifecycleHookName": name,
                "LifecycleTransition": hook["lifecycle_transition"],
                "HeartbeatTimeout": hook["heartbeat_timeout"],
                "DefaultResult": hook["default_result"],
            }
            for name, hook in lifecycle_hooks(policy).items()
        ],
    )  # fmt: skip
    cloud.client("logs").create_log_group(logGroupName=LOG_GROUP)


@contextlib.contextmanager
def _listening(world: InstanceWorld) -> Iterator[None]:
    class Commands(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = base64.b64decode(self.rfile.readline()).decode().rstrip("\0").split("\0")
            code, text = world.run(words)
            with contextlib.suppress(ConnectionError):  # its program was ended
                self.wfile.write(f"{code}\n{text}".encode())

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            of_metadata = self.path.startswith(("/latest/meta-data", "/latest/dynamic"))
            if of_metadata and self.headers.get("X-aws-ec2-metadata-token") != "token":
                self.send_error(401)
                return
            if not of_metadata and not world.listening():
                self.connection.close()
                return
            code, text = world.answer(self.path)
            with contextlib.suppress(ConnectionError):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

        def do_PUT(self) -> None:
            self.send_response(200 if self.path == "/latest/api/token" else 404)
            self.end_headers()
            self.wfile.write(b"token")

        def log_message(self, *_: object) -> None:
            pass

    class CommandServer(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address, request_queue_size = True, True, 64

    with CommandServer(("127.0.0.1", 0), Commands) as commands, ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        world.command_port, world.port = commands.server_address[1], web.server_address[1]
        for name in ("aws", "docker", "systemctl"):
            path = world.folder / name
            path.write_text(SCRIPT.format(port=world.command_port, name=name))
            path.chmod(0o755)
        for server in (commands, web):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield
        finally:
            commands.shutdown()
            web.shutdown()
