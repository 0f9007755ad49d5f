"""A stack under the real Pulumi engine and AWS provider, against a moto server that refuses what AWS refuses.

The engine, its language host and the provider are those of engine-check, in a folder `shared/tools` beside the project
(or in the folder GPU_FLEET_SHARED). If they cannot run, these tests skip and say why.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parent))
import serve

SERVICE_TAG, POOL_TAG = "gpu-fleet:service", "gpu-fleet:pool"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as a test that needs the engine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


class Deployment:
    """One stack: its YAML, its engine and its cloud."""

    def __init__(self, engine: Any, cloud: Any) -> None:
        self.engine, self.cloud = engine, cloud

    @property
    def file(self) -> Path:
        """The stack's YAML."""
        return Path(self.engine.project) / f"Pulumi.{self.engine.stack}.yaml"

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the stack's YAML; `change` gets the value of `config`."""
        yaml = YAML()
        data = yaml.load(self.file.read_text())
        change(data["config"])
        with self.file.open("w") as out:
            yaml.dump(data, out)

    def services(self) -> dict[str, Any]:
        """Return the services in the stack's YAML."""
        return dict(YAML(typ="safe").load(self.file.read_text())["config"]["gpu-fleet:services"])

    # ---- the engine's operations. Each returns engine-check's Steps: `changes`, `counts()`, `errors`, `code`.

    def preview(self, *, may_fail: bool = False) -> Any:
        """Preview an update."""
        return self._checked(self.engine.preview("preview"), may_fail=may_fail)

    def up(self, *, may_fail: bool = False) -> Any:
        """Update the stack. A failed update fails the test with the engine's errors, unless `may_fail`."""
        return self._checked(self.engine.up("up"), may_fail=may_fail)

    def refresh(self, *, may_fail: bool = False) -> Any:
        """Read the stack back from the cloud."""
        return self._checked(self.engine.refresh("refresh"), may_fail=may_fail)

    def destroy(self, *, may_fail: bool = False) -> Any:
        """Destroy the stack."""
        return self._checked(self.engine.destroy("destroy"), may_fail=may_fail)

    @staticmethod
    def _checked(steps: Any, *, may_fail: bool) -> Any:
        if steps.code and not may_fail:
            pytest.fail("\n".join(steps.errors), pytrace=False)
        return steps

    # ---- what the cloud has

    def client(self, name: str) -> Any:
        """Return a boto3 client of the cloud."""
        return self.cloud.client(name)

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the listener rules as `describe_rules` does, by service."""
        elb = self.client("elbv2")
        by_service = {}
        for balancer in elb.describe_load_balancers()["LoadBalancers"]:
            for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
                for rule in elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]:
                    if not rule["IsDefault"]:
                        by_service[self._tags(rule["RuleArn"])[SERVICE_TAG]] = rule
        return by_service

    def priorities(self) -> dict[str, int]:
        """Return the priority of each service's rule."""
        return {service: int(rule["Priority"]) for service, rule in self.rules().items()}

    def weights(self, service: str) -> dict[str, int]:
        """Return the weight of each pool in the service's rule."""
        return {self._tags(t["TargetGroupArn"])[POOL_TAG]: int(t["Weight"]) for t in self._targets(service)}

    def set_weights(self, service: str, weights: dict[str, int]) -> None:
        """Set the weights as the scaler does, by ModifyRule."""
        actions = self.rules()[service]["Actions"]
        for action in actions:
            for target in action.get("ForwardConfig", {}).get("TargetGroups", []):
                target["Weight"] = weights[self._tags(target["TargetGroupArn"])[POOL_TAG]]
        self.client("elbv2").modify_rule(RuleArn=self.rules()[service]["RuleArn"], Actions=actions)

    def _targets(self, service: str) -> list[dict[str, Any]]:
        actions = self.rules()[service]["Actions"]
        return [target for action in actions for target in action.get("ForwardConfig", {}).get("TargetGroups", [])]

    def _tags(self, arn: str) -> dict[str, str]:
        described = self.client("elbv2").describe_tags(ResourceArns=[arn])["TagDescriptions"]
        return {tag["Key"]: tag["Value"] for tag in described[0]["Tags"]}

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return the Auto Scaling groups as `describe_auto_scaling_groups` does, by "service/pool"."""
        by_pool = {}
        for group in self.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
            tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
            by_pool[f"{tags[SERVICE_TAG]}/{tags[POOL_TAG]}"] = group
        return by_pool

    def instances(self) -> dict[str, list[str]]:
        """Return the ids of the instances, by "service/pool"."""
        return {name: sorted(i["InstanceId"] for i in group["Instances"]) for name, group in self.groups().items()}

    def await_instances(self, expected: dict[str, int], seconds: float = 60.0) -> None:
        """Wait until each "service/pool" has the expected number of instances in service. Fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while (actual := self._in_service()) != expected:
            if time.monotonic() > deadline:
                pytest.fail(f"in service after {seconds} s: {actual}, not {expected}", pytrace=False)
            time.sleep(0.5)

    def _in_service(self) -> dict[str, int]:
        return {
            name: sum(instance["LifecycleState"] == "InService" for instance in group["Instances"])
            for name, group in self.groups().items()
        }

    def left(self) -> dict[str, int]:
        """Return the number of resources left in the cloud, by type; empty if there are none."""
        return dict(self.cloud.left())


class Ground:
    """Creates clouds and stacks, and removes everything when it closes."""

    def __init__(self, pulumi: Path, check: Any, root: Path, work: Path) -> None:
        self._pulumi, self._check, self._root, self._work = pulumi, check, root, work
        self._open = contextlib.ExitStack()
        self._folders = 0

    def cloud(self, *, given: tuple[str, ...] = (), **settings: Any) -> Any:
        """Start a moto server; `settings` are serve.Settings, `given` ARNs of existing certificates and web ACLs.

        Its `changes()` returns the changes of its instances.
        """
        folder = self._folder("cloud")
        values = serve.Settings(**{"changes": str(folder / "changes.jsonl"), **settings})
        with pytest.MonkeyPatch.context() as patch:
            for name, value in values.environment.items():
                patch.setenv(name, value)
            cloud = self._check.Cloud(values.region, list(given), folder / "moto.log")
        self._open.callback(cloud.stop)
        cloud.changes = lambda: [json.loads(line) for line in Path(values.changes).read_text().splitlines()]
        return cloud

    def deploy(self, text: str, *, stack: str = "test", cloud: Any = None, project: str = "") -> Deployment:
        """Create a stack with this YAML, not yet up, in a cloud of its own or in `cloud`.

        The program is the committed one. `project` renames the project.
        """
        folder = self._folder(stack)
        place = self._check.copied(self._root, folder / "project")
        if project:
            described = (place / "Pulumi.yaml").read_text().replace("name: gpu-fleet\n", f"name: {project}\n")
            (place / "Pulumi.yaml").write_text(described)
        (place / f"Pulumi.{stack}.yaml").write_text(text)
        engine = self._check.Engine(self._pulumi, folder, place, stack, cloud or self.cloud())
        engine.init()
        return Deployment(engine, engine.cloud)

    def _folder(self, what: str) -> Path:
        self._folders += 1
        folder = self._work / f"{self._folders}-{what}"
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Stop the clouds and delete the copies."""
        self._open.close()
        shutil.rmtree(self._work, ignore_errors=True)


@pytest.fixture(scope="session")
def engine_check() -> Any:
    """Return engine-check as a module; skip if it cannot run, and say why."""
    if not serve.ENGINE_CHECK.is_file():
        pytest.skip("needs engine-check (a folder `shared/tools` beside the project, or in GPU_FLEET_SHARED)")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") and not os.environ.get("PULUMI_BIN"):
        pytest.skip("needs the Pulumi CLI, packaged for Linux on x86_64 (or PULUMI_BIN with the folder of another)")
    return serve.load_engine_check()


@pytest.fixture
def ground(engine_check: Any, root: Path, tmp_path: Path) -> Iterator[Ground]:
    """Clouds and stacks for one test."""
    yield from _ground(engine_check, root, tmp_path)


@pytest.fixture(scope="module")
def lasting_ground(engine_check: Any, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Clouds and stacks for all tests of a module, which must restore them."""
    yield from _ground(engine_check, root, tmp_path_factory.mktemp("engine"))


def _ground(check: Any, root: Path, work: Path) -> Iterator[Ground]:
    pulumi = check.found_engine(root)
    if pulumi is None:
        pytest.skip("needs the Pulumi CLI: neither in PULUMI_BIN nor beside engine-check")
    with contextlib.closing(Ground(pulumi, check, root, work)) as ground:
        yield ground
