"""A stack under the real Pulumi engine and AWS provider, against a moto server that refuses what AWS refuses.

The engine, its language host and the provider are those of engine-check, in a folder `shared/tools` beside the project
(or in that of GPU_FLEET_SHARED). Where they cannot run, these tests skip and say so.
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
    """Everything here needs the engine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


class Deployment:
    """One stack: its YAML, the engine that makes it, the cloud that it stands in."""

    def __init__(self, engine: Any, cloud: Any) -> None:
        self.engine, self.cloud = engine, cloud

    @property
    def file(self) -> Path:
        """The stack's YAML."""
        return Path(self.engine.project) / f"Pulumi.{self.engine.stack}.yaml"

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the stack's YAML; `change` is given what stands below `config`."""
        yaml = YAML()
        data = yaml.load(self.file.read_text())
        change(data["config"])
        with self.file.open("w") as out:
            yaml.dump(data, out)

    def services(self) -> dict[str, Any]:
        """The services as the stack's YAML has them."""
        return dict(YAML(typ="safe").load(self.file.read_text())["config"]["gpu-fleet:services"])

    # ---- what the engine does. Each returns engine-check's Steps: `changes`, `counts()`, `errors`, `code`.

    def preview(self, *, may_fail: bool = False) -> Any:
        """What an update would do."""
        return self._held(self.engine.preview("preview"), may_fail=may_fail)

    def up(self, *, may_fail: bool = False) -> Any:
        """Update the stack. An update that fails fails the test in the engine's own words, unless it may."""
        return self._held(self.engine.up("up"), may_fail=may_fail)

    def refresh(self, *, may_fail: bool = False) -> Any:
        """Read the stack back from the cloud."""
        return self._held(self.engine.refresh("refresh"), may_fail=may_fail)

    def destroy(self, *, may_fail: bool = False) -> Any:
        """Take the stack down."""
        return self._held(self.engine.destroy("destroy"), may_fail=may_fail)

    @staticmethod
    def _held(steps: Any, *, may_fail: bool) -> Any:
        if steps.code and not may_fail:
            pytest.fail("\n".join(steps.errors), pytrace=False)
        return steps

    # ---- what stands in the cloud

    def client(self, name: str) -> Any:
        """A boto3 client of the cloud."""
        return self.cloud.client(name)

    def rules(self) -> dict[str, dict[str, Any]]:
        """The listener rules, by service: as `describe_rules` tells them."""
        elb = self.client("elbv2")
        found = {}
        for balancer in elb.describe_load_balancers()["LoadBalancers"]:
            for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
                for rule in elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]:
                    if not rule["IsDefault"]:
                        found[self._tags(rule["RuleArn"])[SERVICE_TAG]] = rule
        return found

    def priorities(self) -> dict[str, int]:
        """Priority of each service's rule."""
        return {service: int(rule["Priority"]) for service, rule in self.rules().items()}

    def weights(self, service: str) -> dict[str, int]:
        """Weight of each pool in the service's rule."""
        return {self._tags(t["TargetGroupArn"])[POOL_TAG]: int(t["Weight"]) for t in self._shares(service)}

    def weigh(self, service: str, weights: dict[str, int]) -> None:
        """Move the weights as the scaler does: by ModifyRule."""
        actions = self.rules()[service]["Actions"]
        for action in actions:
            for one in action.get("ForwardConfig", {}).get("TargetGroups", []):
                one["Weight"] = weights[self._tags(one["TargetGroupArn"])[POOL_TAG]]
        self.client("elbv2").modify_rule(RuleArn=self.rules()[service]["RuleArn"], Actions=actions)

    def _shares(self, service: str) -> list[dict[str, Any]]:
        actions = self.rules()[service]["Actions"]
        return [one for action in actions for one in action.get("ForwardConfig", {}).get("TargetGroups", [])]

    def _tags(self, arn: str) -> dict[str, str]:
        told = self.client("elbv2").describe_tags(ResourceArns=[arn])["TagDescriptions"]
        return {tag["Key"]: tag["Value"] for tag in told[0]["Tags"]}

    def groups(self) -> dict[str, dict[str, Any]]:
        """The Auto Scaling groups, by "service/pool": as `describe_auto_scaling_groups` tells them."""
        found = {}
        for group in self.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
            tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
            found[f"{tags[SERVICE_TAG]}/{tags[POOL_TAG]}"] = group
        return found

    def instances(self) -> dict[str, list[str]]:
        """Ids of the instances, by "service/pool"."""
        return {name: sorted(i["InstanceId"] for i in group["Instances"]) for name, group in self.groups().items()}

    def await_instances(self, wanted: dict[str, int], seconds: float = 60.0) -> None:
        """Wait until each "service/pool" has so many instances in service. Fails the test after `seconds`."""
        until = time.monotonic() + seconds
        while (have := self._in_service()) != wanted:
            if time.monotonic() > until:
                pytest.fail(f"in service after {seconds} s: {have}, not {wanted}", pytrace=False)
            time.sleep(0.5)

    def _in_service(self) -> dict[str, int]:
        return {
            name: sum(instance["LifecycleState"] == "InService" for instance in group["Instances"])
            for name, group in self.groups().items()
        }

    def left(self) -> dict[str, int]:
        """How much still stands in the cloud, by kind; empty when nothing does."""
        return dict(self.cloud.left())


class Ground:
    """Makes clouds and stacks; everything is taken away when it closes."""

    def __init__(self, pulumi: Path, check: Any, root: Path, work: Path) -> None:
        self._pulumi, self._check, self._root, self._work = pulumi, check, root, work
        self._open = contextlib.ExitStack()
        self._made = 0

    def cloud(self, *, given: tuple[str, ...] = (), **settings: Any) -> Any:
        """A moto server; `settings` are serve.Settings. `given` are ARNs of certificates and web ACLs that are there.

        Its `changes()` tell what became of its instances.
        """
        folder = self._folder("cloud")
        how = serve.Settings(**{"changes": str(folder / "changes.jsonl"), **settings})
        with pytest.MonkeyPatch.context() as patch:
            for name, value in how.environment.items():
                patch.setenv(name, value)
            made = self._check.Cloud(how.region, list(given), folder / "moto.log")
        self._open.callback(made.stop)
        made.changes = lambda: [json.loads(line) for line in Path(how.changes).read_text().splitlines()]
        return made

    def deploy(self, text: str, *, stack: str = "test", cloud: Any = None, project: str = "") -> Deployment:
        """A stack with this YAML, not yet up, in a cloud of its own or beside others in `cloud`.

        The program is the one that is committed. `project` gives the project another name.
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
        self._made += 1
        folder = self._work / f"{self._made}-{what}"
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Stop the clouds and take the copies away."""
        self._open.close()
        shutil.rmtree(self._work, ignore_errors=True)


@pytest.fixture(scope="session")
def engine_check() -> Any:
    """engine-check as a module; skips where it cannot run, and says why."""
    if not serve.ENGINE_CHECK.is_file():
        pytest.skip("needs engine-check (a folder `shared/tools` beside the project, or in GPU_FLEET_SHARED)")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") and not os.environ.get("PULUMI_BIN"):
        pytest.skip("needs the Pulumi CLI, which is packed for Linux on x86_64 (PULUMI_BIN names another one's folder)")
    return serve.load_engine_check()


@pytest.fixture
def ground(engine_check: Any, root: Path, tmp_path: Path) -> Iterator[Ground]:
    """Clouds and stacks for one test."""
    yield from _ground(engine_check, root, tmp_path)


@pytest.fixture(scope="module")
def lasting_ground(engine_check: Any, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Clouds and stacks for all tests of a module, which must leave them as they found them."""
    yield from _ground(engine_check, root, tmp_path_factory.mktemp("engine"))


def _ground(check: Any, root: Path, work: Path) -> Iterator[Ground]:
    pulumi = check.found_engine(root)
    if pulumi is None:
        pytest.skip("needs the Pulumi CLI: neither in PULUMI_BIN nor beside engine-check")
    with contextlib.closing(Ground(pulumi, check, root, work)) as ground:
        yield ground
