"""The embedded cloud: the stack's resources in a lifelike moto, moving in virtual time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moto import mock_aws  # before any client is made: a client made earlier would call the real AWS
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal import mock_random

from gpu_fleet.emulator import provider
from gpu_fleet.emulator.clock import VirtualClock
from gpu_fleet.emulator.cloud_world import BootSeconds, CloudWorld, DrainSeconds, InstanceChange, Location
from gpu_fleet.emulator.lifelike import Lifelike, lifelike
from gpu_fleet.emulator.lifelike.metric_store import Metrics
from gpu_fleet.emulator.program import Project, RegisteredResource, read_project, run_program
from gpu_fleet.emulator.publishing import Publisher, PublishingDelays, Traffic

if TYPE_CHECKING:
    from types import TracebackType

START = 1_767_571_200.0
"""2026-01-05T00:00:00Z, a Monday: the default start of virtual time."""

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_SECURITY_TOKEN": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    # Loading moto's 1300 images, which nothing here uses, takes a second at each start.
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
}

_open_clouds: list[EmbeddedCloud] = []


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """Settings of an embedded cloud."""

    start: float = START
    """Seconds since the epoch, UTC."""
    seed: int = 0
    """Fixes ids and everything random."""
    boot_seconds: BootSeconds = 300.0
    drain_seconds: DrainSeconds = 0.0
    delays: PublishingDelays = field(default_factory=PublishingDelays)


DEFAULT_OPTIONS = CloudOptions()


class EmbeddedCloud:
    """One AWS account in this process. Only one is open at a time, because moto is global to the process.

    Time moves only by `advance`. While the cloud is open, every client made anywhere in the process (the handler's too)
    reaches it, and no request leaves the process.
    """

    def __init__(self, region: str = "us-east-1", options: CloudOptions = DEFAULT_OPTIONS) -> None:
        """Create an empty account."""
        self.region = region
        self.options = options
        self.clock = VirtualClock(options.start)
        self.world = CloudWorld(
            self.clock, seed=options.seed, boot_seconds=options.boot_seconds, drain_seconds=options.drain_seconds
        )
        self.outputs: dict[str, Any] = {}
        """The stack's outputs."""
        self.resources: list[RegisteredResource] = []
        """The resources that the program registered, in order."""
        self.lifelike: Lifelike
        self._publisher: Publisher
        self._cleanup = contextlib.ExitStack()

    def open(self) -> Self:
        """Take over the process's AWS and its time; no effect if already open.

        Raises RuntimeError while another cloud is open.
        """
        if self in _open_clouds:
            return self
        if _open_clouds:
            raise RuntimeError("an embedded cloud is open already; moto has only one in a process")
        with contextlib.ExitStack() as opening:
            opening.enter_context(_environment({**_ENVIRONMENT, "AWS_DEFAULT_REGION": self.region}))
            opening.enter_context(self.clock)
            opening.enter_context(mock_aws())
            location = Location(self.account, self.region)
            self.lifelike = opening.enter_context(lifelike(self.world, location))
            self._publisher = Publisher(self.world, self.lifelike, location, self.options.delays)
            self._publisher.start()
            # Makes the account's default network before the ids are seeded.
            provider.MotoAccount(self.region, self.account).client("ec2").describe_vpcs()
            mock_random.seed(self.options.seed)
            self._cleanup = opening.pop_all()
        _open_clouds.append(self)
        return self

    def __enter__(self) -> Self:
        """Open the cloud."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the cloud."""
        self.close()

    def close(self) -> None:
        """Drop the account and give the process its own time and AWS back; no effect if already closed."""
        if self in _open_clouds:
            _open_clouds.remove(self)
            self._cleanup.close()

    @property
    def now(self) -> float:
        """Virtual seconds since the epoch, UTC."""
        return self.clock.now

    @property
    def account(self) -> str:
        """The account's number."""
        return DEFAULT_ACCOUNT_ID

    @property
    def metrics(self) -> Metrics:
        """The metrics of the stack's region."""
        return self.lifelike.metrics

    @property
    def services(self) -> Mapping[str, dict[str, Any]]:
        """The service parameters by service: `{"service": ..., "bindings": ...}`."""
        parameters: dict[str, dict[str, Any]] = {}
        pages = self.client("ssm").get_paginator("get_parameters_by_path")
        for page in pages.paginate(Path="/gpu-fleet", Recursive=True):
            for parameter in page["Parameters"]:
                if "/services/" in parameter["Name"]:
                    parameters[parameter["Name"].rsplit("/", 1)[-1]] = json.loads(parameter["Value"])
        return parameters

    def client(self, name: str) -> Any:
        """Return a boto3 client in the stack's region.

        Raises RuntimeError when the cloud is closed: the client would reach the real AWS.
        """
        if self not in _open_clouds:
            raise RuntimeError("the embedded cloud is closed")
        return provider.MotoAccount(self.region, self.account).client(name)

    def group_name(self, service: str, pool: str) -> str:
        """Return the pool's Auto Scaling group, as the service's parameter names it. Raises KeyError if unknown."""
        return str(self.services[service]["bindings"]["pools"][pool]["group"])

    def advance(self, to: float) -> None:
        """Move time to `to`; instances launch, boot, join, drain and end as due until then.

        Raises ValueError for a time in the past.
        """
        self.world.advance(to)

    def watch(self, watcher: Callable[[InstanceChange], None]) -> None:
        """Call `watcher` at every change of an instance from now on, in order and at its time."""
        self.world.watchers.append(watcher)

    def finish_drain(self, instance_id: str) -> None:
        """End the instance's drain: its last request has ended."""
        self.lifelike.lifecycle.finish_drain(instance_id)

    def publish(
        self,
        *,
        at: float | None = None,
        traffic: Mapping[str, Traffic] | None = None,
        engines: Mapping[str, Mapping[str, float]] | None = None,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        """Publish the load balancer's and the engines' measurements to CloudWatch.

        `at` is the start of the measured window (by default now); `traffic` is by target group ARN; `engines` holds
        gauges by instance id and metric name; `rejected` counts requests without a target by load balancer (`app/...`).
        `advance` itself counts the hosts. Raises ValueError for a target group without a load balancer, and for an
        instance that no group ever launched.
        """
        moment = self.now if at is None else at
        self._publisher.publish_traffic(moment, traffic or {}, rejected or {})
        self._publisher.publish_engines(moment, engines or {})

    def run(self, project: Project, on_resource: Callable[[RegisteredResource], None] | None = None) -> None:
        """Run a stack's program and make the resources that it registers.

        `on_resource` is called after each resource. Raises what the program or a resource raised.
        """
        aws = provider.MotoAccount(self.region, self.account, self.options.seed)

        def record(resource: RegisteredResource) -> None:
            self.resources.append(resource)
            if on_resource is not None:
                on_resource(resource)

        def make(token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
            # The order of registration depends on the event loop; an id must depend on the resource alone.
            mock_random.seed(f"{self.options.seed}/{token}/{name}")
            return provider.make(aws, token, name, inputs)

        def answer(token: str, args: Mapping[str, Any]) -> dict[str, Any]:
            return provider.answer(aws, token, args)

        self.outputs = run_program(project, make, answer, record)
        mock_random.seed(self.options.seed)


def provision(
    stack: str,
    root: Path,
    options: CloudOptions = DEFAULT_OPTIONS,
    on_resource: Callable[[RegisteredResource], None] | None = None,
) -> EmbeddedCloud:
    """Return an open embedded cloud that holds the stack's resources; close it, or use it as a context.

    `root` is the project's folder (with Pulumi.yaml). `on_resource` is called after each resource. Raises DocumentError
    for a project or stack that cannot be read, UnknownResourceError for an unknown resource type, and whatever the
    program raises; nothing stays open then.
    """
    project = read_project(root, stack)
    cloud = EmbeddedCloud(project.region, options)
    cloud.open()
    try:
        cloud.run(project, on_resource)
    except BaseException:
        cloud.close()
        raise
    return cloud


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
