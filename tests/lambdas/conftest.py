"""A small AWS in this process (moto) with services in it, and a switchboard that records calls and makes them fail."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

# Set before moto is imported: no catalogue of images, which costs a second per test, and no real credentials.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

import pytest
from moto import mock_aws
from moto.elbv2 import models as elbv2_models

from gpu_fleet.scaling.decision import Decision, PoolTarget, Reason, Signals, Step
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.state import State
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.environment import Environment
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.result import Result
from lambdas.scaler.serve import Decide, Runtime, serve
from lambdas.scaler.store import DynamoStateStore

NOW = datetime(2026, 3, 2, 10, 0, 20, tzinfo=UTC).timestamp()
"""On a Monday, 20 seconds into a minute."""
PATH = "/gpu-fleet/test/services"
TABLE = "gpu-fleet-test-state"
STACK = "gpu-fleet-test"
CLIENTS = ("autoscaling", "cloudwatch", "dynamodb", "ec2", "elbv2", "sqs", "ssm")

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Returns the answer to a call from its arguments; None leaves the call to moto."""


@dataclass
class Switchboard:
    """Records each call from a client to moto, and answers in moto's place on request."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    _arguments: dict[str, Any] = field(default_factory=dict)

    def watch(self, name: str, client: Any) -> None:
        def record(params: dict[str, Any], model: Any, **_: Any) -> None:
            self._arguments = dict(params)
            self.calls.append((f"{name}.{model.name}", dict(params)))

        def intercept(model: Any, **_: Any) -> tuple[Any, Mapping[str, Any]] | None:
            answer = self.answers.get(f"{name}.{model.name}")
            parsed = answer(self._arguments) if answer else None
            if parsed is None:
                return None
            status = 400 if "Error" in parsed else 200
            return SimpleNamespace(status_code=status, headers={}), {"ResponseMetadata": {}, **parsed}

        client.meta.events.register_first("before-parameter-build", record)
        client.meta.events.register_first("before-call", intercept)

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def writes(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the calls that write, with their arguments, except the state item's."""
        return [
            (operation.partition(".")[2], arguments)
            for operation, arguments in self.calls
            if not operation.partition(".")[2].startswith(("Describe", "Get")) and operation != "dynamodb.PutItem"
        ]

    @contextlib.contextmanager
    def answering(self, operation: str, answer: Answer) -> Iterator[None]:
        """Answer `operation` in moto's place."""
        before = self.answers.get(operation)
        self.answers[operation] = answer
        try:
            yield
        finally:
            if before is None:
                del self.answers[operation]
            else:
                self.answers[operation] = before

    @contextlib.contextmanager
    def failing(
        self, operation: str, code: str = "Throttling", message: str = "Rate exceeded", only: str = ""
    ) -> Iterator[None]:
        """Let `operation` fail; with `only`, just calls whose arguments contain that text."""

        def fail(arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
            return {"Error": {"Code": code, "Message": message}} if only in json.dumps(arguments, default=str) else None

        with self.answering(operation, fail):
            yield


@dataclass
class PoolResources:
    """The AWS names of a pool."""

    name: str
    group: str
    target_group_arn: str


class World:
    """The account: its resources, and short ways to read them and to change them without the scaler."""

    def __init__(self, clients: Clients, board: Switchboard) -> None:
        self.clients = clients
        self.board = board
        self.now = NOW
        self.environment = Environment(PATH, TABLE, STACK)
        self.book = InstanceBook()
        self.health: dict[str, tuple[str, str]] = {}
        self.pools: dict[str, dict[str, PoolResources]] = {}
        self.rules: dict[str, str] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[Result, ServiceParameter | None, Observation | None, State]] = []
        self._network()

    def _network(self) -> None:
        ec2, elbv2 = self.clients.ec2, self.clients.elbv2
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for i, zone in enumerate("ab")
        ]
        self.template = ec2.create_launch_template(
            LaunchTemplateName="node", LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "g6.xlarge"}
        )["LaunchTemplate"]["LaunchTemplateId"]
        balancer = elbv2.create_load_balancer(Name="fleet", Subnets=self.subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        self.load_balancer = balancer.rpartition("loadbalancer/")[2]
        self.listener = elbv2.create_listener(
            LoadBalancerArn=balancer,
            Port=80,
            Protocol="HTTP",
            DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
        )["Listeners"][0]["ListenerArn"]
        self.clients.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "service", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "service", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def stand(
        self,
        service: str = "chat",
        pools: Mapping[str, int] | None = None,
        *,
        weights: Mapping[str, int] | None = None,
        maximum: int = 10,
        spot: bool = False,
        policy: Mapping[str, Any] | None = None,
        queue_url: str | None = None,
    ) -> ServiceParameter:
        """Make a service whose pools hold these numbers of instances, and return its parameter."""
        pools = pools or {"l4": 2, "l40s": 1}
        training = (policy or {}).get("workload") == "training"
        resources = {name: self._pool(service, name, count, maximum, spot, training) for name, count in pools.items()}
        rule = None if training else self._rule(resources, weights or dict.fromkeys(pools, 100))
        self.pools[service] = resources
        self.rules[service] = rule or ""
        return self.put_parameter(
            service,
            {
                "service": {
                    "name": service,
                    "policy": {"model": "llama-3.1-8b", **(policy or {})},
                    "pools": [
                        {
                            "name": name,
                            "types": ["g6.xlarge", "g6.2xlarge"],
                            "min_instances": 0,
                            "max_instances": maximum,
                            "capacity": 20,
                            "throughput_rps": 2,
                            "on_demand_usd_per_hour": 0.8 * (i + 1),
                            "zones": ["us-east-1a", "us-east-1b"],
                        }
                        for i, name in enumerate(pools)
                    ],
                },
                "bindings": {
                    "load_balancer": None if training else self.load_balancer,
                    "listener_rule_arn": rule,
                    "queue_url": queue_url,
                    "pools": {
                        name: {"group": pool.group, "target_group_arn": pool.target_group_arn or None}
                        for name, pool in resources.items()
                    },
                },
            },
        )

    def put_parameter(self, service: str, parameter: Mapping[str, Any] | str) -> Any:
        """Write the service's parameter, or a broken one as text."""
        text = parameter if isinstance(parameter, str) else json.dumps(parameter)
        self.clients.ssm.put_parameter(Name=f"{PATH}/{service}", Value=text, Type="String", Overwrite=True)
        if isinstance(parameter, str):
            return None
        self.parameters[service] = dict(parameter)
        return ServiceParameter.model_validate_json(text)

    def _pool(self, service: str, name: str, count: int, maximum: int, spot: bool, training: bool) -> PoolResources:
        group, arn = f"{service}-{name}", ""
        if not training:
            arn = self.clients.elbv2.create_target_group(
                Name=group, Protocol="HTTP", Port=8000, VpcId=self.vpc, HealthCheckPath="/health"
            )["TargetGroups"][0]["TargetGroupArn"]
        self.clients.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=group,
            MinSize=0,
            MaxSize=maximum,
            DesiredCapacity=count,
            VPCZoneIdentifier=",".join(self.subnets),
            TargetGroupARNs=[arn] if arn else [],
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": self.template, "Version": "1"},
                    "Overrides": [{"InstanceType": "g6.xlarge"}, {"InstanceType": "g6.2xlarge"}],
                },
                "InstancesDistribution": {
                    "OnDemandBaseCapacity": 0,
                    "OnDemandPercentageAboveBaseCapacity": 0 if spot else 100,
                    "SpotAllocationStrategy": "price-capacity-optimized",
                },
            },
        )
        return PoolResources(name, group, arn)

    def _rule(self, pools: Mapping[str, PoolResources], weights: Mapping[str, int]) -> str:
        return self.clients.elbv2.create_rule(
            ListenerArn=self.listener,
            Priority=len(self.rules) + 1,
            Conditions=[{"Field": "path-pattern", "Values": [f"/v{len(self.rules) + 1}/*"]}],
            Actions=[
                {
                    "Type": "forward",
                    "ForwardConfig": {
                        "TargetGroups": [
                            {"TargetGroupArn": pool.target_group_arn, "Weight": weights[name]}
                            for name, pool in pools.items()
                        ],
                        "TargetGroupStickinessConfig": {"Enabled": False},
                    },
                }
            ],
        )["Rules"][0]["RuleArn"]

    # ---- read ---------------------------------------------------------------------------------------------------

    def group(self, pool: str, service: str = "chat") -> dict[str, Any]:
        name = self.pools[service][pool].group
        return self.clients.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][
            0
        ]

    def desired(self, service: str = "chat") -> dict[str, int]:
        return {pool: self.group(pool, service)["DesiredCapacity"] for pool in self.pools[service]}

    def ids(self, pool: str, service: str = "chat") -> list[str]:
        return [instance["InstanceId"] for instance in self.group(pool, service)["Instances"]]

    def rule_actions(self, service: str = "chat") -> list[dict[str, Any]]:
        return self.clients.elbv2.describe_rules(RuleArns=[self.rules[service]])["Rules"][0]["Actions"]

    def weights(self, service: str = "chat") -> dict[str, int]:
        groups = self.rule_actions(service)[0]["ForwardConfig"]["TargetGroups"]
        by_arn = {pool.target_group_arn: name for name, pool in self.pools[service].items()}
        return {by_arn[group["TargetGroupArn"]]: group["Weight"] for group in groups}

    # ---- change -------------------------------------------------------------------------------------------------

    def publish(self, metric: str, value: float, at: float, *, namespace: str = "GpuFleet", **dimensions: str) -> None:
        """Publish a data point whose period begins at `at`."""
        self.clients.cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": metric,
                    "Dimensions": [{"Name": name, "Value": value_} for name, value_ in dimensions.items()],
                    "Timestamp": datetime.fromtimestamp(at, UTC),
                    "Value": value,
                }
            ],
        )

    def publish_requests(
        self, pool: str, at: float, count: float | None, service: str = "chat", healthy: float | None = 1
    ) -> None:
        """Publish a minute's metrics as the load balancer does: the count unless it is zero, and the heartbeat."""
        arn = self.pools[service][pool].target_group_arn
        dimensions = {"TargetGroup": arn.rpartition(":")[2], "LoadBalancer": self.load_balancer}
        if count is not None:
            self.publish("RequestCount", count, at, namespace="AWS/ApplicationELB", **dimensions)
        if healthy is not None:
            self.publish("HealthyHostCount", healthy, at, namespace="AWS/ApplicationELB", **dimensions)

    def publish_refused(self, pool: str, at: float, count: float, service: str = "chat") -> None:
        """Publish how many of a minute's requests the pool's targets answered with 5XX."""
        arn = self.pools[service][pool].target_group_arn
        dimensions = {"TargetGroup": arn.rpartition(":")[2], "LoadBalancer": self.load_balancer}
        self.publish("HTTPCode_Target_5XX_Count", count, at, namespace="AWS/ApplicationELB", **dimensions)

    # ---- run ----------------------------------------------------------------------------------------------------

    def scaler(self, decide: Decide) -> Runtime:
        return Runtime(
            self.environment, self.clients, DynamoStateStore(self.clients.dynamodb, TABLE), self.book, decide
        )

    def run(self, decide: Decide, event: Any = None, remaining_seconds: float = 60.0) -> dict[str, Result]:
        """Run the scaler once at `now`. Afterwards the switchboard holds this run's calls only."""
        self.board.calls.clear()
        self.reports.clear()
        results = serve(
            self.scaler(decide),
            event or {},
            self.now,
            lambda: remaining_seconds,
            lambda *report: self.reports.append(report),
        )
        return {result.service: result for result in results}

    def observe(self, service: str = "chat", state: State | None = None) -> Observation:
        """Run the scaler, and return its observation of the service."""
        observations: list[Observation] = []

        def decide(modelled: Any, observation: Observation, stored: State, now: float) -> Decision:
            if modelled.name == service:
                observations.append(observation)
            return keep(modelled, observation, stored, now)

        scaler = self.scaler(decide)
        if state is not None:
            scaler.store.write(service, state, 0)
        self.run(decide)
        return observations[0]


def keep(service: Any, observation: Observation, state: State, now: float) -> Decision:
    """Decide to change nothing."""
    targets = {name: PoolTarget(pool.desired, pool.weight) for name, pool in observation.pools.items()}
    return decision(targets, now)


def decision(targets: Mapping[str, PoolTarget], now: float = NOW, **changes: Any) -> Decision:
    reasons = (Reason(Step.GUARD, "kept", "Nothing changes.", {"ready": 1.0}),)
    signals = Signals(0.5, 0.4, 0.6, 3.0, 4.0, 5.0, usd_per_hour=1.6)
    return Decision(**{"targets": targets, "reasons": reasons, "signals": signals, "state": State(at=now), **changes})


@pytest.fixture
def keeping() -> Decide:
    """`decide` that changes nothing."""
    return keep


@pytest.fixture
def deciding() -> Callable[..., Decide]:
    """`deciding(l4=PoolTarget(..))`: `decide` with these targets, whatever it observes. Other pools do not change."""

    def make(changes: Mapping[str, Any] | None = None, **targets: PoolTarget) -> Decide:
        def decide(service: Any, observation: Observation, state: State, now: float) -> Decision:
            unchanged = keep(service, observation, state, now).targets
            return decision({**unchanged, **targets}, now, **(changes or {}))

        return decide

    return make


@pytest.fixture(scope="session")
def _connected() -> tuple[Clients, Switchboard]:
    """One set of clients for all tests: they are slow to make and have no state."""
    board = Switchboard()
    with mock_aws():
        clients = Clients.connect()
    for name in CLIENTS:
        board.watch(name, getattr(clients, name))
    return clients, board


@pytest.fixture
def world(_connected: tuple[Clients, Switchboard], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account with a network, a load balancer and a state table."""
    clients, board = _connected
    board.calls.clear()
    board.answers.clear()
    with mock_aws():
        world = World(clients, board)
        original = elbv2_models.FakeTargetGroup.health_for

        def health_for(self: Any, target: Any, backend: Any) -> Any:
            status = original(self, target, backend)
            state, reason = world.health.get(target["Id"], ("", ""))
            if state:
                status.status, status.reason = state, reason
            return status

        monkeypatch.setattr(elbv2_models.FakeTargetGroup, "health_for", health_for)
        yield world
