"""The program as the engine sees it: its registrations, with the options that Pulumi's own mocks do not record."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import settings as pulumi_settings
from pulumi.runtime import stack as pulumi_stack

from gpu_fleet.config.stack_file import pulumi_config
from infra import package

ACCOUNT = "123456789012"
BASE_AMI = "ami-0123456789abcdef0"
"""What every parameter of AWS's AMIs holds."""
UUID, HEX = "11111111-2222-3333-4444-555555555555", "0123456789abcdef"
SECRET = "4dabf18193072939515e22adb298388d"  # marks a wrapped value:
# https://github.com/pulumi/pulumi/blob/master/sdk/python/lib/pulumi/runtime/rpc.py


@dataclass
class Registered:
    """One resource."""

    type: str
    name: str
    urn: str
    parent: str
    custom: bool
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    ignore_changes: list[str]
    depends_on: set[str]
    """URNs of the resources that its inputs and its options name."""
    deleted_with: str
    delete_timeout: str


@dataclass
class Run:
    """One run of the program."""

    resources: list[Registered] = field(default_factory=list)
    outputs_registered: set[str] = field(default_factory=set)
    exports: dict[str, Any] = field(default_factory=dict)

    def of(self, last: str) -> list[Registered]:
        """Return the resources whose type ends in `last`: of("Group") is every Auto Scaling group."""
        return [r for r in self.resources if r.type.rsplit(":", 1)[-1] == last]


class Cloud(pulumi.runtime.Mocks):
    """Answers as AWS would: a name with a random part, an ARN, an id. `before` is the last update, whose resources all
    exist; `rules` are the priority and weights of each service in AWS now.
    """

    def __init__(self, before: Run | None = None, rules: dict[str, tuple[int, list[int]]] | None = None) -> None:
        self.before, self.rules = before or Run(), rules or {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {"name": args.name, "outputs": self.before.exports, "secretOutputNames": []}
        module = args.typ.split(":")[1].split("/")[0]
        name = args.inputs.get("name") or f"{args.name}-0123abc"
        elb = f"arn:aws:elasticloadbalancing:us-east-1:{ACCOUNT}"
        arn = {
            "Group": f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:{UUID}:autoScalingGroupName/{name}",
            "TargetGroup": f"{elb}:targetgroup/{name}/{HEX}",
            "LoadBalancer": f"{elb}:loadbalancer/app/{name}/{HEX}",
            "ListenerRule": f"{elb}:listener-rule/app/{name}/{HEX}/{HEX}/{HEX}",
            "Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "Table": f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{name}",
            "LogGroup": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{name}",
            "Queue": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}",
            "LaunchTemplate": f"arn:aws:ec2:us-east-1:{ACCOUNT}:launch-template/lt-0123456789abcdef0",
            "Function": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}",
            "Bucket": f"arn:aws:s3:::{name}",
        }.get(args.typ.rsplit(":", 1)[-1], f"arn:aws:{module}:us-east-1:{ACCOUNT}:{name}")
        outputs = {
            "name": name,
            "arn": arn,
            "arnSuffix": arn.split(":", 5)[-1].removeprefix("loadbalancer/"),
            "url": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{name}",
            "latestVersion": 3,
            "dnsName": f"{name}.elb.amazonaws.com",
            "zoneId": "Z0",
        }
        return f"{name}-id", {**outputs, **args.inputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        if args.token == "aws:lb/getListenerRule:getListenerRule":
            rule = next(r.outputs for r in self.before.of("ListenerRule") if r.outputs["arn"] == args.args["arn"])
            priority, weights = self.rules[rule["tags"]["gpu-fleet:service"]]
            shares = rule["actions"][0]["forward"]["targetGroups"]
            current = [{"arn": s["arn"], "weight": weight} for s, weight in zip(shares, weights, strict=True)]
            return {"priority": priority, "actions": [{"type": "forward", "forwards": [{"targetGroups": current}]}]}
        return {
            "getPartition": {"partition": "aws"},
            "getRegion": {"region": "us-east-1", "name": "us-east-1"},
            "getCallerIdentity": {"accountId": ACCOUNT},
            "getParameter": {"insecureValue": BASE_AMI},
        }[args.token.rsplit(":", 1)[-1]]


class Recorder(pulumi_mocks.MockMonitor):
    """Records each request: `Mocks` alone does not get the options."""

    def __init__(self, run: Run, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.run = run

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name
        from pulumi.runtime import rpc

        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self.run.resources.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    urn=answer.urn,
                    parent=request.parent,
                    custom=request.custom,
                    inputs=_unwrap(rpc.deserialize_properties(request.object)),
                    outputs=_unwrap(rpc.deserialize_properties(answer.object)),
                    ignore_changes=list(request.ignoreChanges),
                    depends_on=set(request.dependencies),
                    deleted_with=request.deletedWith,
                    delete_timeout=request.customTimeouts.delete,
                )
            )
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the engine's name
        if "::pulumi:pulumi:Stack::" in request.urn:
            from pulumi.runtime import rpc

            self.run.exports.update(_unwrap(rpc.deserialize_properties(request.outputs)))
        self.run.outputs_registered.add(request.urn)
        return super().RegisterResourceOutputs(request)


def _unwrap(value: Any) -> Any:
    """Return the value without the wrapping of secrets (the engine hides a parameter's value in its display)."""
    if isinstance(value, dict):
        return _unwrap(value["value"]) if SECRET in value else {k: _unwrap(v) for k, v in value.items()}
    return [_unwrap(v) for v in value] if isinstance(value, list) else value


Program = Callable[..., Run]


@pytest.fixture(scope="session")
def program(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Return a function that runs the unmodified program of a stack, and caches each run:
    `program("local", preview=True)`.

    `before` is the last update, `rules` are its listener rules as the scaler has left them.
    """
    archive = tmp_path_factory.mktemp("package") / "scaler.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("lambdas/__init__.py", "")
    cache: dict[tuple[str, bool, str], Run] = {}

    def run(
        stack: str,
        *,
        preview: bool = False,
        before: Run | None = None,
        rules: dict[str, tuple[int, list[int]]] | None = None,
        **changes: Any,
    ) -> Run:
        key = (stack, preview, repr((id(before), rules, sorted(changes.items()))))
        if key not in cache:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(package, "build", lambda _root: archive)
                config = {**pulumi_config(root, stack), **changes}
                cache[key] = _run(root, config, stack, Cloud(before, rules), preview=preview)
        return cache[key]

    return run


@pytest.fixture(scope="session")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Return a function that runs the unmodified program with any configuration: `built(config, "dev", "my-fleet")`."""
    archive = tmp_path_factory.mktemp("package") / "scaler.zip"
    archive.touch()

    def run(config: dict[str, str], stack: str, project: str) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(package, "build", lambda _root: archive)
            return _run(root, config, stack, Cloud(), preview=False, project=project)

    return run


def _run(
    root: Path, config: dict[str, str], stack: str, cloud: Cloud, *, preview: bool, project: str = "gpu-fleet"
) -> Run:
    """Run the program. `config` holds the values of the stack's file, objects as JSON."""
    run, path, folder = Run(), list(sys.path), Path.cwd()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_all_config(config)
    pulumi.runtime.set_mocks(cloud, project=project, stack=stack, preview=preview, monitor=Recorder(run, cloud))
    pulumi_settings.ROOT.set(None)  # set by the last run
    os.chdir(root / "infra")
    try:
        loop.run_until_complete(
            pulumi_stack.run_in_stack(lambda: runpy.run_path(str(root / "infra/__main__.py"), run_name="__main__"))
        )
    finally:
        os.chdir(folder)
        sys.path[:] = path
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())
    return run


def values_at(inputs: Any, path: str) -> list[Any]:
    """Return the values that a path of ignore_changes matches; empty for a misspelt path."""
    matches = [inputs]
    for part in re.findall(r"\[\*\]|[^.\[\]]+", path):
        step: list[Any] = []
        for value in matches:
            if part == "[*]" and isinstance(value, list):
                step += value
            elif isinstance(value, dict) and part in value:
                step.append(value[part])
        matches = step
    return matches


@pytest.fixture(scope="session")
def pointed() -> Callable[[Any, str], list[Any]]:
    """`values_at`."""
    return values_at
