"""The embedded cloud: the stack's resources in a lifelike moto, moving in virtual time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moto import mock_aws  # before any client is made: a client made earlier would call the real AWS
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal import mock_random

from gpu_fleet.emulator import provider
from gpu_fleet.emulator.clock import VirtualClock
from gpu_fleet.emulator.cloud_world import BootSeconds, CloudWorld, DrainSeconds, InstanceChange
from gpu_fleet.emulator.lifelike import Lifelike, lifelike
from gpu_fleet.emulator.lifelike.metric_store import Metrics
from gpu_fleet.emulator.program import Project, Registered, read_project, run_program
from gpu_fleet.emulator.publishing import Publisher, Traffic

if TYPE_CHECKING:
    from types import TracebackType

START = 1_767_571_200.0
"""2026-01-05T00:00:00Z, a Monday: when time begins where nobody says otherwise."""

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_SECURITY_TOKEN": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    # 1300 images that nobody here asks for: a second at each start.
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
}

_open: list[EmbeddedCloud] = []


class EmbeddedCloud:
    """One AWS account in this process. Only one is open at a time: moto's is the process's own.

    Time stands still at its start and moves by `advance` alone. All clients made anywhere in the process while it is
    open
    (the handler's too) reach it, and no request leaves the process.
    """

    def __init__(
        self,
        region: str = "us-east-1",
        *,
        start: float = START,
        seed: int = 0,
        boot_seconds: BootSeconds = 300.0,
        drain_seconds: DrainSeconds = 0.0,
        balancer_delay_seconds: float = 0.0,
        engine_delay_seconds: float = 0.0,
    ) -> None:
        """An empty account at `start` (seconds since the epoch, UTC); `seed` fixes ids and everything left to chance.

        The delays are CloudWatch's: until the load balancer's minute (from its end) and an engine's sample can be read.
        """
        self.region = region
        self.seed = seed
        self.clock = VirtualClock(start)
        self.world = CloudWorld(self.clock, seed=seed, boot_seconds=boot_seconds, drain_seconds=drain_seconds)
        self.outputs: dict[str, Any] = {}
        """The stack's outputs."""
        self.resources: list[Registered] = []
        """What the program registered, in order."""
        self.life: Lifelike
        self._publisher: Publisher
        self._delays = (balancer_delay_seconds, engine_delay_seconds)
        self._open = contextlib.ExitStack()

    def open(self) -> Self:
        """Take over the process's AWS and its time; once open, nothing. Raises RuntimeError while another is open."""
        if self in _open:
            return self
        if _open:
            raise RuntimeError("an embedded cloud is open already; moto has only one in a process")
        with contextlib.ExitStack() as opening:
            opening.enter_context(_environment({**_ENVIRONMENT, "AWS_DEFAULT_REGION": self.region}))
            opening.enter_context(self.clock)
            opening.enter_context(mock_aws())
            self.life = opening.enter_context(lifelike(self.world, self.account, self.region))
            self._publisher = Publisher(
                self.world,
                self.life.metrics,
                self.life.targets,
                (self.account, self.region),
                self._group_of,
                balancer_delay_seconds=self._delays[0],
                engine_delay_seconds=self._delays[1],
            )
            self._publisher.begin()
            # Makes the account's default network, before anything is seeded.
            provider.MotoAccount(self.region, self.account).client("ec2").describe_vpcs()
            mock_random.seed(self.seed)
            self._open = opening.pop_all()
        _open.append(self)
        return self

    def __enter__(self) -> Self:
        """As `open`."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Everything is gone; time and AWS are the process's own again."""
        self.close()

    def close(self) -> None:
        """As leaving the context. Closing twice does no harm."""
        if self in _open:
            _open.remove(self)
            self._open.close()

    @property
    def now(self) -> float:
        """Virtual seconds since the epoch, UTC."""
        return self.clock.now

    @property
    def account(self) -> str:
        """The account's number."""
        return DEFAULT_ACCOUNT_ID

    def client(self, name: str) -> Any:
        """A boto3 client in the stack's region. Raises RuntimeError when the cloud is closed: it would reach the
        real AWS.
        """
        if self not in _open:
            raise RuntimeError("the embedded cloud is closed")
        return provider.MotoAccount(self.region, self.account).client(name)

    def advance(self, to: float) -> None:
        """Move time on to `to`; instances launch, boot, join, drain and go as is due until then.

        Raises ValueError for a time that has passed.
        """
        self.world.advance(to)

    def publish(
        self,
        *,
        at: float | None = None,
        traffic: Mapping[str, Traffic] | None = None,
        engines: Mapping[str, Mapping[str, float]] | None = None,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        """Put what the load balancer and the engines saw into CloudWatch.

        `at` is the start of the window that was seen (now where not given); `traffic` is by target group ARN, `engines`
        are gauges by instance id and metric name, `rejected` are requests without a target by load balancer
        (`app/...`).
        Hosts are counted by `advance` itself. Raises ValueError for a target group that no load balancer sends to, and
        for an instance that no group ever launched.
        """
        moment = self.now if at is None else at
        self._publisher.traffic(moment, traffic or {}, rejected or {})
        self._publisher.engines(moment, engines or {})

    def _group_of(self, instance_id: str) -> str:
        try:
            return self.life.lifecycle.group_of[instance_id]
        except KeyError:
            raise ValueError(f"{instance_id}: no group ever launched it") from None

    @property
    def metrics(self) -> Metrics:
        """The metrics of the stack's region."""
        return self.life.metrics

    def watch(self, watcher: Callable[[InstanceChange], None]) -> None:
        """Tell `watcher` of every change of an instance from now on, in order and at its time."""
        self.world.watchers.append(watcher)

    def group_name(self, service: str, pool: str) -> str:
        """The Auto Scaling group of a pool, by the service's parameter. Raises KeyError where there is none."""
        return str(self.services[service]["bindings"]["pools"][pool]["group"])

    def load_gone(self, instance_id: str) -> None:
        """An instance's last request has ended: it need not drain any longer."""
        self.life.lifecycle.load_gone(instance_id)

    @property
    def services(self) -> Mapping[str, dict[str, Any]]:
        """The service parameters, by service: `{"service": ..., "bindings": ...}`."""
        found: dict[str, dict[str, Any]] = {}
        pages = self.client("ssm").get_paginator("get_parameters_by_path")
        for page in pages.paginate(Path="/gpu-fleet", Recursive=True):
            for parameter in page["Parameters"]:
                if "/services/" in parameter["Name"]:
                    found[parameter["Name"].rsplit("/", 1)[-1]] = json.loads(parameter["Value"])
        return found

    def run(self, project: Project, on_resource: Callable[[Registered], None] | None = None) -> None:
        """Run a stack's program and make what it registers. Raises what the program or a resource raised."""
        aws = provider.MotoAccount(self.region, self.account, self.seed)

        def seen(resource: Registered) -> None:
            self.resources.append(resource)
            if on_resource is not None:
                on_resource(resource)

        def make(token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
            # The order of registration hangs on the event loop; an id is to hang on the resource alone.
            mock_random.seed(f"{self.seed}/{token}/{name}")
            return provider.make(aws, token, name, inputs)

        self.outputs = run_program(
            project,
            make,
            lambda token, args: provider.ask(aws, token, args),
            seen,
        )
        mock_random.seed(self.seed)


def provision(
    stack: str,
    root: Path,
    on_resource: Callable[[Registered], None] | None = None,
    *,
    start: float = START,
    seed: int = 0,
    boot_seconds: BootSeconds = 300.0,
    drain_seconds: DrainSeconds = 0.0,
    balancer_delay_seconds: float = 0.0,
    engine_delay_seconds: float = 0.0,
) -> EmbeddedCloud:
    """An open embedded cloud in which the stack stands; close it, or use it as a context.

    `root` is the project's folder (with Pulumi.yaml). `on_resource` is told of each resource once it stands. Raises
    DocumentError where the project or the stack cannot be read, UnknownResourceError for a resource type that is not
    known here, and whatever the program raises; nothing stays open then.
    """
    project = read_project(root, stack)
    cloud = EmbeddedCloud(
        project.region,
        start=start,
        seed=seed,
        boot_seconds=boot_seconds,
        drain_seconds=drain_seconds,
        balancer_delay_seconds=balancer_delay_seconds,
        engine_delay_seconds=engine_delay_seconds,
    )
    cloud.open()
    try:
        cloud.run(project, on_resource)
    except BaseException:
        cloud.close()
        raise
    return cloud


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Any:
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
