"""What an edit of a stack's YAML does, made real by the engine: a row each of the table in docs/changes.md."""

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


def edited(stack: Any, change: Callable[[Config], object], **settings: object) -> None:
    """Put the edit into the stack's YAML, which else is `STACK` with these settings."""
    stack.file.write_text(STACK)
    stack.edit(lambda config: config.update({f"gpu-fleet:{key}": value for key, value in settings.items()}))
    stack.edit(change)


def moved(stack: Any) -> dict[str, int]:
    """Let the scaler move the weights of the chat service. Returns them by pool; none is 0."""
    pools = sorted(stack.weights("chat"))
    weights = dict(zip(pools, (70, 10, 20, 999, 1), strict=False))
    stack.weigh("chat", weights)
    return weights


def nothing(config: Config) -> None:
    """No edit."""


def services(config: Config) -> Config:
    return config["gpu-fleet:services"]


def pools(config: Config) -> Config:
    return services(config)["chat"]["pools"]


def allowed(config: Config) -> list[str]:
    return config["gpu-fleet:load_balancer"]["allowed_cidrs"]


def in_order(names: list[str]) -> Callable[[Config], None]:
    """The chat service's pools by these names; one that is new has the first one's settings."""

    def edit(config: Config) -> None:
        have = dict(pools(config))
        services(config)["chat"]["pools"] = {name: have.get(name, {**have["l4"], "min": 1}) for name in names}

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
    found = services(config)
    found["say"] = found.pop("talk")


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
AL2023 = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"

EDITS: list[tuple[str, Callable[[Config], object]]] = [
    ("nothing", nothing),
    ("add a pool first", in_order(["aaa", "h100", "l4", "l40s"])),
    ("add a pool in the middle", in_order(["h100", "mmm", "l4", "l40s"])),
    ("add a pool last", in_order(["h100", "l4", "l40s", "zzz"])),
    ("order the pools otherwise", in_order(["l40s", "h100", "l4"])),
    ("take the first pool away", in_order(["l4", "l40s"])),
    ("take the middle pool away", in_order(["h100", "l40s"])),
    ("take the last pool away", in_order(["h100", "l4"])),
    ("rename a pool", in_order(["fast", "l4", "l40s"])),
    ("take the new name back", nothing),
    ("swap two priorities", swap_priorities),
    ("rename a service, which keeps its priority", rename_service),
    ("change paths", lambda c: services(c)["chat"].update(paths=["/v1/*", "/v2/*"])),
    ("change the policy's routing strategy", lambda c: services(c)["chat"].update(policy="sticky")),
    ("put a zone in front", lambda c: c["gpu-fleet:network"].update(zones=[f"us-east-1{z}" for z in "abc"])),
    ("take the first zone away, in which nothing stands", nothing),
    ("order the zones otherwise", lambda c: c["gpu-fleet:network"]["zones"].reverse()),
    ("give a pool zones of its own", lambda c: pools(c)["h100"].update(zones=["us-east-1c"])),
    ("put an allowed range in front", lambda c: allowed(c).insert(0, "172.16.0.0/12")),
    ("take the first allowed range away", lambda c: allowed(c).pop(0)),
    ("turn the allowed ranges round", lambda c: allowed(c).reverse()),
    ("change instance types", lambda c: pools(c)["l4"].update(types=["g6.2xlarge", "g6.xlarge"])),
    ("change image and arguments", container(image="vllm/vllm-openai:v0.12.0", args=["--model", "m"])),
    ("change volume and AMI", every_pool(volume_gib=300, ami_parameter=AL2023)),
    ("change a tag", lambda c: c.update({"gpu-fleet:tags": {"team": "models"}})),
]


@pytest.mark.parametrize("change", [change for _, change in EDITS], ids=[name for name, _ in EDITS])
def test_an_edit_moves_no_weight_and_takes_no_instance_that_need_not_go(
    stack: Any, change: Callable[[Config], object]
) -> None:
    """Each begins where the one before has ended: from any edit to any other."""
    weights, before, rules = moved(stack), stack.instances(), stack.rules()
    edited(stack, change)
    stack.up()
    after = stack.instances()
    fewest = {f"{s}/{p}": pool["min"] for s, value in stack.services().items() for p, pool in value["pools"].items()}
    assert after.keys() == fewest.keys()
    assert {name: ids for name, ids in after.items() if name in before} == {
        name: ids for name, ids in before.items() if name in after
    }
    assert stack.weights("chat") == {pool: weights.get(pool, 0) for pool in stack.services()["chat"]["pools"]}
    assert stack.rules()["chat"]["RuleArn"] == rules["chat"]["RuleArn"]
    stack.await_instances(
        {name: stack.services()[name.split("/")[0]]["pools"][name.split("/")[1]]["min"] for name in after}
    )


def test_a_new_service_takes_the_priority_of_one_that_goes(stack: Any) -> None:
    edited(stack, nothing)
    stack.up()

    def edit(config: Config) -> None:
        gone = services(config).pop("talk")
        services(config)["say"] = {**gone, "paths": ["/say/*"]}

    edited(stack, edit)
    stack.up()
    assert set(stack.priorities()) == {"chat", "say"}
    assert stack.priorities()["say"] // 5 == 200
    assert changes(stack.up()) == []


def changes(steps: Any) -> list[Any]:
    """What an update has changed, without what it has only read anew."""
    return [change for change in steps.changes if not change[0].startswith("refresh")]


def test_a_certificate_takes_the_rules_to_https_with_their_weights(stack: Any) -> None:
    edited(stack, nothing)
    stack.up()
    weights, before = moved(stack), stack.instances()
    for change in (lambda c: c["gpu-fleet:load_balancer"].update(certificate_arn=CERTIFICATE), nothing):
        edited(stack, change)
        stack.up()
        assert stack.weights("chat") == weights
        assert stack.instances() == before


def test_a_part_of_the_stack_is_updated_alone(stack: Any) -> None:
    edited(stack, container(image="vllm/vllm-openai:v0.13.0"))
    weights = moved(stack)
    urn = "urn:pulumi:test::gpu-fleet::gpu-fleet:index:Service::gpu-fleet-test-chat"
    words = ("--refresh=false", "--target", urn, "--target-dependents", "--yes", "--skip-preview")
    done = stack.engine.run("up", "--stack", "test", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.weights("chat") == weights


def test_another_region_is_refused(stack: Any) -> None:
    def edit(config: Config) -> None:
        config["aws:region"] = "eu-west-1"
        config["gpu-fleet:network"]["zones"] = ["eu-west-1a", "eu-west-1b"]

    edited(stack, edit)
    errors = "\n".join(stack.preview(may_fail=True).errors)
    assert "aws:region: must stay us-east-1 while this stack serves (got eu-west-1)" in errors


def test_a_zone_stays_while_instances_stand_there(stack: Any) -> None:
    """AWS deletes no subnet that an instance uses; without AZRebalance the group does not move it."""
    occupied = min(i["AvailabilityZone"] for group in stack.groups().values() for i in group["Instances"])
    others = {"us-east-1a", "us-east-1b", "us-east-1c"} - {occupied}
    edited(stack, lambda c: c["gpu-fleet:network"].update(zones=sorted(others)))
    errors = "\n".join(stack.preview(may_fail=True).errors)
    assert f"gpu-fleet:network.zones: must keep {occupied} while instances stand there (got " in errors


def test_what_would_interrupt_is_refused_line_by_line_and_made_whole_where_it_is_allowed(stack: Any) -> None:
    """The last one with this stack, since another VPC and another load balancer take minutes each way."""

    def edit(config: Config) -> None:
        config["gpu-fleet:load_balancer"]["internal"] = True
        config["gpu-fleet:network"]["cidr"] = "10.9.0.0/16"
        services(config)["chat"]["container"].update(port=9000, health_path="/ready")
        talk = services(config)["talk"]
        del talk["paths"], talk["priority"]
        talk.update(policy="training", pools={"l4": {"types": ["g6e.2xlarge"], "min": 0, "max": 2}})

    edited(stack, nothing)
    stack.up()
    edited(stack, edit)
    errors = "\n".join(stack.preview(may_fail=True).errors)
    for key in (
        "load_balancer.internal", "network.cidr", "services.chat.container.port", "services.chat.container.health_path",
        "services.talk.policy",
    ):  # fmt: skip
        assert f": gpu-fleet:{key}: must stay " in errors
    assert "Traceback" not in errors
    weights = moved(stack)
    edited(stack, edit, allow_disruption=True)
    stack.up()
    assert stack.weights("chat") == weights
    assert changes(stack.up()) == []


def test_two_stacks_whose_names_run_together_stand_side_by_side(ground: Any) -> None:
    """Stack dev with service a-chat and stack dev-a with service chat shared the name of a log group."""
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
    """A stack of one service and one pool, small and without NAT gateway."""
    config = YAML(typ="safe").load(STACK)["config"]
    chat = services(config)["chat"]
    chat["pools"] = {"l4": chat["pools"]["l4"]}
    config["gpu-fleet:services"] = {"chat": chat}
    config.update(settings)
    return {"config": config}


def test_a_protected_stack_is_refused_before_anything_is_gone(ground: Any) -> None:
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


def test_what_serves_drains_before_it_goes(ground: Any) -> None:
    """Ten minutes of a provider's own patience were too short, and hooks that went first drained nothing."""
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
    for gone in (h100, l4):
        at = {change["change"]: change["at"] for change in cloud.changes() if change["instance_id"] == gone}
        assert at["gone"] - at["draining"] >= 800, at
