"""What an edit of a stack's YAML does under the engine: one test for each row of the table in docs/changes.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ruamel.yaml import YAML

STACK = """
config:
  aws:region: us-east-1
  gpu-fleet:network: {cidr: 10.0.0.0/16, zones: [us-east-1b, us-east-1c], nat: one}
  gpu-fleet:load_balancer: {allowed_cidrs: [10.0.0.0/8, 192.168.0.0/16]}
  gpu-fleet:observability: {backstop: false, dashboard: false}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v0.11.0", args: [--model, RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8]}
      pools:
        h100: {types: [p5.4xlarge], min: 1, max: 2}
        l4: {types: [g6.xlarge, g6.2xlarge], min: 1, max: 3}
        l40s: {types: [g6e.xlarge], min: 0, max: 2}
    talk:
      policy: chat
      paths: ["/talk/*"]
      priority: 200
      container: {image: "vllm/vllm-openai:v0.11.0", args: [--model, RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8]}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 3}
"""
Config = dict[str, Any]


@pytest.fixture(scope="module")
def stack(lasting_ground: Any) -> Any:
    stack = lasting_ground.deploy(STACK, cloud=lasting_ground.cloud(given=(CERTIFICATE,)))
    policies = stack.file.parent / "policies"
    (policies / "sticky.yaml").write_text((policies / "chat.yaml").read_text() + "\nrouting: {strategy: sticky}\n")
    stack.up()
    return stack


def write_edit(stack: Any, change: Callable[[Config], object], **settings: object) -> None:
    """Reset the stack's YAML to `STACK` with these settings, and apply the edit to it."""
    stack.file.write_text(STACK)
    stack.edit(lambda config: config.update({f"gpu-fleet:{key}": value for key, value in settings.items()}))
    stack.edit(change)


def move_weights(stack: Any) -> dict[str, int]:
    """Move the weights of the chat service as the scaler does, and return them by pool; none is 0."""
    pools = sorted(stack.weights("chat"))
    weights = dict(zip(pools, (70, 10, 20, 999, 1), strict=False))
    stack.set_weights("chat", weights)
    return weights


def no_edit(config: Config) -> None:
    """No edit."""


def services(config: Config) -> Config:
    return config["gpu-fleet:services"]


def pools(config: Config) -> Config:
    return services(config)["chat"]["pools"]


def allowed_cidrs(config: Config) -> list[str]:
    return config["gpu-fleet:load_balancer"]["allowed_cidrs"]


def in_order(names: list[str]) -> Callable[[Config], None]:
    """Give the chat service the pools of these names; a new one gets the settings of `l4`."""

    def edit(config: Config) -> None:
        current = dict(pools(config))
        services(config)["chat"]["pools"] = {name: current.get(name, {**current["l4"], "min": 1}) for name in names}

    return edit


def container(**values: Any) -> Callable[[Config], None]:
    return lambda config: services(config)["chat"]["container"].update(values)


def every_pool(**values: Any) -> Callable[[Config], None]:
    def edit(config: Config) -> None:
        for pool in pools(config).values():
            pool.update(values)

    return edit


def swap_priorities(config: Config) -> None:
    chat, talk = services(config)["chat"], services(config)["talk"]
    chat["priority"], talk["priority"] = talk["priority"], chat["priority"]


def rename_service(config: Config) -> None:
    by_name = services(config)
    by_name["say"] = by_name.pop("talk")


def make_sticky(config: Config) -> None:
    """Set the policy, and remove the pool that may be empty: sticky clients of an empty pool would get 503."""
    services(config)["chat"]["policy"] = "sticky"
    del pools(config)["l40s"]


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
AL2023 = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"

EDITS: list[tuple[str, Callable[[Config], object]]] = [
    ("no edit", no_edit),
    ("add a pool first", in_order(["aaa", "h100", "l4", "l40s"])),
    ("add a pool in the middle", in_order(["h100", "mmm", "l4", "l40s"])),
    ("add a pool last", in_order(["h100", "l4", "l40s", "zzz"])),
    ("reorder the pools", in_order(["l40s", "h100", "l4"])),
    ("remove the first pool", in_order(["l4", "l40s"])),
    ("remove the middle pool", in_order(["h100", "l40s"])),
    ("remove the last pool", in_order(["h100", "l4"])),
    ("rename a pool", in_order(["fast", "l4", "l40s"])),
    ("undo the rename", no_edit),
    ("swap two priorities", swap_priorities),
    ("rename a service, which keeps its priority", rename_service),
    ("change paths", lambda c: services(c)["chat"].update(paths=["/v1/*", "/v2/*"])),
    ("change the policy's routing strategy", make_sticky),
    ("add a zone in front", lambda c: c["gpu-fleet:network"].update(zones=[f"us-east-1{z}" for z in "abc"])),
    ("remove the first zone, which has no instances", no_edit),
    ("reorder the zones", lambda c: c["gpu-fleet:network"]["zones"].reverse()),
    ("give a pool zones of its own", lambda c: pools(c)["h100"].update(zones=["us-east-1c"])),
    ("add an allowed range in front", lambda c: allowed_cidrs(c).insert(0, "172.16.0.0/12")),
    ("remove the first allowed range", lambda c: allowed_cidrs(c).pop(0)),
    ("reverse the allowed ranges", lambda c: allowed_cidrs(c).reverse()),
    ("change instance types", lambda c: pools(c)["l4"].update(types=["g6.2xlarge", "g6.xlarge"])),
    ("change image and arguments", container(image="vllm/vllm-openai:v0.12.0", args=["--model", "m"])),
    ("change volume and AMI", every_pool(volume_gib=300, ami_parameter=AL2023)),
    ("change a tag", lambda c: c.update({"gpu-fleet:tags": {"team": "models"}})),
]


@pytest.mark.parametrize("change", [change for _, change in EDITS], ids=[name for name, _ in EDITS])
def test_an_edit_moves_no_weight_and_ends_no_instance_needlessly(
    stack: Any, change: Callable[[Config], object]
) -> None:
    """Each edit starts from the result of the one before."""
    weights, before, rules = move_weights(stack), stack.instances(), stack.rules()
    write_edit(stack, change)
    stack.up()
    after = stack.instances()
    minimums = {f"{s}/{p}": pool["min"] for s, value in stack.services().items() for p, pool in value["pools"].items()}
    assert after.keys() == minimums.keys()
    assert {name: ids for name, ids in after.items() if name in before} == {
        name: ids for name, ids in before.items() if name in after
    }
    assert stack.weights("chat") == {pool: weights.get(pool, 0) for pool in stack.services()["chat"]["pools"]}
    assert stack.rules()["chat"]["RuleArn"] == rules["chat"]["RuleArn"]
    stack.await_instances(
        {name: stack.services()[name.split("/")[0]]["pools"][name.split("/")[1]]["min"] for name in after}
    )


def test_a_new_service_takes_the_priority_of_a_removed_one(stack: Any) -> None:
    write_edit(stack, no_edit)
    stack.up()

    def edit(config: Config) -> None:
        removed = services(config).pop("talk")
        services(config)["say"] = {**removed, "paths": ["/say/*"]}

    write_edit(stack, edit)
    stack.up()
    assert set(stack.priorities()) == {"chat", "say"}
    assert stack.priorities()["say"] // 5 == 200
    assert changes(stack.up()) == []


def changes(steps: Any) -> list[Any]:
    """Return what an update changed, without what it only refreshed."""
    return [change for change in steps.changes if not change[0].startswith("refresh")]


def test_a_certificate_moves_the_rules_to_https_with_their_weights(stack: Any) -> None:
    write_edit(stack, no_edit)
    stack.up()
    weights, before = move_weights(stack), stack.instances()
    for change in (lambda c: c["gpu-fleet:load_balancer"].update(certificate_arn=CERTIFICATE), no_edit):
        write_edit(stack, change)
        stack.up()
        assert stack.weights("chat") == weights
        assert stack.instances() == before


def test_a_part_of_the_stack_is_updated_alone(stack: Any) -> None:
    write_edit(stack, container(image="vllm/vllm-openai:v0.13.0"))
    weights = move_weights(stack)
    urn = "urn:pulumi:test::gpu-fleet::gpu-fleet:index:Service::gpu-fleet-test-chat"
    options = ("--refresh=false", "--target", urn, "--target-dependents", "--yes", "--skip-preview")
    done = stack.engine.run("up", "--stack", "test", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.weights("chat") == weights


def test_another_region_is_refused(stack: Any) -> None:
    def edit(config: Config) -> None:
        config["aws:region"] = "eu-west-1"
        config["gpu-fleet:network"]["zones"] = ["eu-west-1a", "eu-west-1b"]

    write_edit(stack, edit)
    errors = "\n".join(stack.preview(may_fail=True).errors)
    assert "aws:region: must stay us-east-1 while this stack serves (got eu-west-1)" in errors


def test_a_zone_with_instances_cannot_be_removed(stack: Any) -> None:
    """AWS deletes no subnet in use by an instance; without AZRebalance the group does not move the instance."""
    occupied = min(i["AvailabilityZone"] for group in stack.groups().values() for i in group["Instances"])
    others = {"us-east-1a", "us-east-1b", "us-east-1c"} - {occupied}
    write_edit(stack, lambda c: c["gpu-fleet:network"].update(zones=sorted(others)))
    errors = "\n".join(stack.preview(may_fail=True).errors)
    assert f"gpu-fleet:network.zones: must keep {occupied} while it has instances (got " in errors


def test_disruptive_edits_are_refused_line_by_line_and_applied_if_allowed(stack: Any) -> None:
    """The last test of this stack: another VPC and another load balancer take minutes each way."""

    def edit(config: Config) -> None:
        config["gpu-fleet:load_balancer"]["internal"] = True
        config["gpu-fleet:network"]["cidr"] = "10.9.0.0/16"
        services(config)["chat"]["container"].update(port=9000, health_path="/ready")
        talk = services(config)["talk"]
        del talk["paths"], talk["priority"]
        talk.update(policy="training", pools={"l4": {"types": ["g6e.2xlarge"], "min": 0, "max": 2}})

    write_edit(stack, no_edit)
    stack.up()
    write_edit(stack, edit)
    errors = "\n".join(stack.preview(may_fail=True).errors)
    for key in (
        "load_balancer.internal", "network.cidr", "services.chat.container.port", "services.chat.container.health_path",
        "services.talk.policy",
    ):  # fmt: skip
        assert f": gpu-fleet:{key}: must stay " in errors
    assert "Traceback" not in errors
    weights = move_weights(stack)
    write_edit(stack, edit, allow_disruption=True)
    stack.up()
    assert stack.weights("chat") == weights
    assert changes(stack.up()) == []


def test_two_stacks_whose_names_join_to_one_do_not_collide(ground: Any) -> None:
    """Stack dev with service a-chat and stack dev-a with service chat once shared the name of a log group."""
    text = json.dumps(_small())
    cloud = ground.cloud()
    first = ground.deploy(text.replace('"chat":', '"a-chat":'), stack="dev", cloud=cloud)
    second = ground.deploy(text, stack="dev-a", cloud=cloud)
    first.up()
    second.up()
    second.destroy()
    assert changes(first.up()) == []
    first.destroy()
    assert first.left() == {}


def _small(**settings: Any) -> dict[str, Any]:
    """Return a stack of one service with one pool."""
    config = YAML(typ="safe").load(STACK)["config"]
    chat = services(config)["chat"]
    chat["pools"] = {"l4": chat["pools"]["l4"]}
    config["gpu-fleet:services"] = {"chat": chat}
    config.update(settings)
    return {"config": config}


def test_destroying_a_protected_stack_deletes_nothing(ground: Any) -> None:
    protected = _small()
    for key in ("load_balancer", "scaler"):
        protected["config"].setdefault(f"gpu-fleet:{key}", {})["deletion_protection"] = True
    stack = ground.deploy(json.dumps(protected))
    stack.up()
    for key in ("load_balancer", "scaler"):
        before = stack.left()
        assert stack.destroy(may_fail=True).code
        assert stack.left() == before
        assert changes(stack.up()) == []
        stack.edit(lambda config, key=key: config[f"gpu-fleet:{key}"].update(deletion_protection=False))
        stack.up()
    stack.destroy()
    assert stack.left() == {}


def test_instances_drain_before_they_end(ground: Any) -> None:
    """The provider's default timeout of ten minutes was too short, and hooks deleted first drained nothing."""
    cloud = ground.cloud(drain_seconds=800.0, pace=40.0)
    text = _small()
    pools(text["config"])["h100"] = {"types": ["p5.4xlarge"], "min": 1, "max": 2}
    stack = ground.deploy(json.dumps(text), cloud=cloud)
    stack.up()
    stack.await_instances({"chat/l4": 1, "chat/h100": 1})
    (l4,), (h100,) = stack.instances()["chat/l4"], stack.instances()["chat/h100"]
    stack.edit(lambda config: pools(config).pop("h100"))
    stack.up()
    stack.destroy()
    assert stack.left() == {}
    for instance in (h100, l4):
        at = {change["change"]: change["at"] for change in cloud.changes() if change["instance_id"] == instance}
        assert at["gone"] - at["draining"] >= 800, at
