"""What the program registers, for every shipped stack."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws
import pytest

from gpu_fleet.config import naming
from gpu_fleet.config.settings import DEFAULT_AMI_PARAMETER
from gpu_fleet.config.stack_file import pulumi_config
from gpu_fleet.scaling.policy import Policy, Workload
from infra.gpu_pool import owned_by_the_scaler
from infra.instance.node import boot_phases
from lambdas.scaler.bindings import parse
from lambdas.scaler.environment import Environment
from tests.infra.conftest import BASE_AMI

STACKS = ["local", "dev", "prod"]


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return request.param


def test_no_two_resources_have_one_urn(program: Any, stack: str) -> None:
    urns = Counter(r.urn for r in program(stack).resources)
    assert [urn for urn, count in urns.items() if count > 1] == []


def test_a_preview_shows_what_an_update_creates(program: Any, stack: str) -> None:
    """A resource created inside `apply` would be missing from the preview."""
    created = {r.urn for r in program(stack).resources}
    previewed = {r.urn for r in program(stack, preview=True).resources}
    assert previewed == created


def test_every_resource_but_the_guard_is_in_a_component(program: Any, stack: str) -> None:
    run = program(stack)
    components = {r.urn for r in run.resources if not r.custom}
    without_parent = [r.name for r in run.resources if r.custom and r.parent not in components]
    assert without_parent == [f"gpu-fleet-{stack}-protection"]


def test_every_component_registers_its_outputs(program: Any, stack: str) -> None:
    run = program(stack)
    assert {r.urn for r in run.resources if not r.custom} <= run.outputs_registered


def test_an_update_leaves_capacity_and_weights_to_the_scaler(
    program: Any, stack: str, pointed: Callable[[Any, str], list[Any]]
) -> None:
    run = program(stack)
    assert run.of("Group")
    for group in run.of("Group"):
        assert "desiredCapacity" in group.ignore_changes
        assert "desiredCapacity" not in group.inputs, "set at creation, it would be a replacement's first capacity"
        assert "mixedInstancesPolicy.instancesDistribution.onDemandBaseCapacity" in group.ignore_changes
        for path in group.ignore_changes:
            assert path == "desiredCapacity" or pointed(group.inputs, path), f"{path} matches nothing"


def test_an_update_declares_the_rules_current_weights_and_priority(program: Any) -> None:
    run = program("local", before=program("local"), rules={"chat": (503, [7, 993, 0])})
    (rule,) = run.of("ListenerRule")
    shares = rule.inputs["actions"][0]["forward"]["targetGroups"]
    assert [(s["arn"].split("/")[1].rsplit("-", 1)[0], s["weight"]) for s in shares] == [
        ("chat-l4", 7), ("chat-l40s", 993), ("chat-h100", 0),
    ]  # fmt: skip
    assert rule.inputs["priority"] == 503
    assert rule.ignore_changes == []


def test_unknown_weights_are_ignored(program: Any, pointed: Callable[[Any, str], list[Any]]) -> None:
    (rule,) = program("local").of("ListenerRule")
    (path,) = rule.ignore_changes
    assert len(pointed(rule.inputs, path)) == 3


def test_a_stack_exports_what_the_next_update_needs(program: Any, stack: str) -> None:
    run = program(stack)
    exported = run.exports["stands"]
    assert exported["region"] == "us-east-1"
    assert exported["vpc_id"] in {f"{vpc.name}-0123abc-id" for vpc in run.of("Vpc")}
    assert len(exported["subnets"]) * 2 == len(run.of("Subnet"))
    services = exported["services"].values()
    assert {arn for service in services for arn in service["target_groups"].values()} == {
        group.outputs["arn"] for group in run.of("TargetGroup")
    }
    assert {service["rule"] for service in services if service.get("rule")} == {
        rule.outputs["arn"] for rule in run.of("ListenerRule")
    }


def test_the_scaler_owns_types_only_if_it_changes_them_in_place() -> None:
    """Otherwise a change of `types` in the stack's YAML must reach the group."""
    overrides = "mixedInstancesPolicy.launchTemplate.overrides"
    in_place = Policy.model_validate({"model": "m", "vertical": {"method": "in_place"}})
    assert overrides in owned_by_the_scaler(in_place)
    assert overrides not in owned_by_the_scaler(Policy(model="m"))


def test_every_name_fits(program: Any, stack: str) -> None:
    limits = {
        "TargetGroup": naming.MAX_TARGET_GROUP_NAME,
        "LoadBalancer": naming.MAX_LOAD_BALANCER_NAME,
        "Role": naming.MAX_ROLE_NAME,
        "Function": naming.MAX_ROLE_NAME,
        "Schedule": naming.MAX_ROLE_NAME,
        "Queue": naming.MAX_QUEUE_NAME,
    }
    for resource in program(stack).resources:
        limit = limits.get(resource.type.rsplit(":", 1)[-1])
        if limit and resource.custom:
            name = resource.inputs.get("name") or resource.name + "-0123abc"
            assert len(name) <= limit, resource.urn


def test_target_groups_have_no_fixed_name(program: Any, stack: str) -> None:
    """AWS could not replace a target group with a fixed name while a rule refers to it."""
    assert all("name" not in group.inputs for group in program(stack).of("TargetGroup"))


def _takes_tags(token: str) -> bool:
    _, module, last = token.split(":")
    package = getattr(pulumi_aws, {"lambda": "lambda_"}.get(module.split("/")[0], module.split("/")[0]))
    return "tags" in inspect.signature(getattr(package, last)._internal_init).parameters


def test_everything_that_takes_tags_names_its_stack(program: Any, stack: str) -> None:
    untagged = []
    for resource in program(stack).resources:
        if not resource.custom or not _takes_tags(resource.type):
            continue
        tags = resource.inputs.get("tags", {})
        if resource.type.endswith(":Group"):
            tags = {tag["key"]: tag["value"] for tag in tags if tag["propagateAtLaunch"]}
        if resource.type.endswith(":LaunchTemplate"):
            tags = resource.inputs["tagSpecifications"][0]["tags"]
        if tags.get(naming.STACK_TAG) != f"gpu-fleet-{stack}":
            untagged.append(resource.urn)
    assert untagged == []


def test_a_container_uses_the_instances_role_only_if_the_stack_says_so(program: Any, root: Path) -> None:
    """A hop limit of 1 ends at the instance, 2 in the container."""
    settings = json.loads(pulumi_config(root, "local")["gpu-fleet:services"])
    settings["chat"]["container"]["uses_instance_role"] = True
    run = program("local", **{"gpu-fleet:services": json.dumps(settings)})
    assert {t.inputs["metadataOptions"]["httpPutResponseHopLimit"] for t in run.of("LaunchTemplate")} == {2}


def test_instances_are_closed(program: Any, stack: str) -> None:
    for template in program(stack).of("LaunchTemplate"):
        inputs = template.inputs
        assert inputs["metadataOptions"]["httpTokens"] == "required"
        uses_role = stack == "local" or "fine-tuning" in template.name  # streams its weights, or trains
        assert inputs["metadataOptions"]["httpPutResponseHopLimit"] == (2 if uses_role else 1)
        assert inputs["networkInterfaces"][0]["associatePublicIpAddress"] == "false"
        assert inputs["blockDeviceMappings"][0]["ebs"]["encrypted"] == "true"
        assert inputs["blockDeviceMappings"][0]["ebs"]["volumeType"] == "gp3"
        assert inputs["imageId"].startswith("resolve:ssm:/aws/service/deeplearning/")
        assert "keyName" not in inputs
        assert inputs["iamInstanceProfile"]["arn"]


def test_the_boot_script_is_the_pools_own(program: Any) -> None:
    for template in program("prod").of("LaunchTemplate"):
        script = gzip.decompress(base64.b64decode(template.inputs["userData"])).decode()
        service = "fine-tuning" if "fine-tuning" in template.name else "chat"
        assert f"awslogs-group=/gpu-fleet/prod/{service} " in script
        assert ("QUEUE_URL=https://sqs" in script) == (service == "fine-tuning")
        assert f"WORKLOAD={'training' if service == 'fine-tuning' else 'inference'}" in script


def test_the_engine_keeps_connections_longer_than_the_load_balancer(program: Any, root: Path, stack: str) -> None:
    """An engine that closes a connection just reused causes a 502. A user's own value wins."""
    run = program(stack)
    (balancer,) = [b for b in run.of("LoadBalancer") if b.custom]
    for template in run.of("LaunchTemplate"):
        keep_alive = re.search(
            r"^VLLM_HTTP_TIMEOUT_KEEP_ALIVE=(\d+)$",
            gzip.decompress(base64.b64decode(template.inputs["userData"])).decode(),
            re.MULTILINE,
        )
        if "fine-tuning" in template.name:
            assert keep_alive is None
        else:
            assert keep_alive is not None
            assert int(keep_alive[1]) > balancer.inputs["idleTimeout"]
    services = json.loads(pulumi_config(root, "dev")["gpu-fleet:services"])
    services["chat"]["container"]["environment"] = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "7"}
    (template,) = program("dev", **{"gpu-fleet:services": json.dumps(services)}).of("LaunchTemplate")
    assert "VLLM_HTTP_TIMEOUT_KEEP_ALIVE=7\n" in gzip.decompress(base64.b64decode(template.inputs["userData"])).decode()


def test_launches_and_ends_wait_for_their_hooks(program: Any, stack: str) -> None:
    run = program(stack)
    for group in run.of("Group"):
        at_creation = {h["lifecycleTransition"]: h for h in group.inputs["initialLifecycleHooks"]}
        later = {h.inputs["lifecycleTransition"]: h.inputs for h in run.of("LifecycleHook") if h.parent == group.parent}
        assert set(at_creation) == set(later) == {
            "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING",
        }  # fmt: skip
        for transition, hook in later.items():
            assert hook["name"] == at_creation[transition]["name"]
            assert hook["heartbeatTimeout"] == at_creation[transition]["heartbeatTimeout"]
            assert naming.MIN_HOOK_SECONDS <= hook["heartbeatTimeout"] <= naming.MAX_HOOK_SECONDS
        assert later["autoscaling:EC2_INSTANCE_LAUNCHING"]["defaultResult"] == "ABANDON"
        assert group.inputs["suspendedProcesses"] == ["AZRebalance"]
        assert group.inputs["waitForCapacityTimeout"] == "0"


def test_instances_drain_before_what_they_need_is_deleted(program: Any, stack: str) -> None:
    """AWS deletes hooks with their group, and rule, rights and way out after it; the timeout covers the drain."""
    run = program(stack)
    for group in run.of("Group"):
        hooks = [hook for hook in run.of("LifecycleHook") if hook.parent == group.parent]
        assert len(hooks) == 2
        assert {hook.deleted_with for hook in hooks} == {group.urn}
        needed = {urn.split("::")[2].rpartition(":")[2] for urn in group.depends_on}
        assert needed >= {"RolePolicy", "Route", "RouteTableAssociation", "VpcEndpoint"}
        training = "fine-tuning" in group.name
        assert ("ListenerRule" in needed) is not training
        drain_seconds = 21600 if training else 900
        assert int(group.delete_timeout.removesuffix("s")) >= drain_seconds + min(drain_seconds, 3600)


def test_the_load_balancer_waits_for_the_internet_gateway(program: Any, stack: str) -> None:
    (balancer,) = [b for b in program(stack).of("LoadBalancer") if b.custom]
    needed = {urn.split("::")[2].rpartition(":")[2] for urn in balancer.depends_on}
    assert needed >= {"InternetGateway", "Route"}


def test_the_destroy_guard_depends_on_everything(program: Any, stack: str) -> None:
    run = program(stack)
    (guard,) = [t for t in run.of("Table") if t.name.endswith("-protection")]
    assert guard.depends_on >= {r.urn for r in run.resources if r.custom and r is not guard}
    assert guard.inputs["deletionProtectionEnabled"] is (stack == "prod")


def test_a_pool_launches_in_its_own_zones(program: Any, root: Path) -> None:
    services = json.loads(pulumi_config(root, "local")["gpu-fleet:services"])
    services["chat"]["pools"]["h100"]["zones"] = ["us-east-1b"]
    run = program("local", **{"gpu-fleet:services": json.dumps(services)})
    subnets = {g.name.rpartition("-")[2]: g.inputs["vpcZoneIdentifiers"] for g in run.of("Group")}
    assert subnets["h100"] == ["gpu-fleet-local-private-b-0123abc-id"]
    assert subnets["l4"] == ["gpu-fleet-local-private-a-0123abc-id", "gpu-fleet-local-private-b-0123abc-id"]
    (parameter,) = run.of("Parameter")
    pools = parse("chat", parameter.inputs["value"]).service.pools
    assert {pool.name: pool.zones for pool in pools}["h100"] == ("us-east-1b",)


def test_the_scaler_can_read_its_parameters(program: Any, stack: str) -> None:
    for parameter in program(stack).of("Parameter"):
        name = parameter.inputs["name"]
        assert name.startswith(f"/gpu-fleet/{stack}/services/")
        read = parse(name.rpartition("/")[2], parameter.inputs["value"])
        training = read.service.policy.workload is Workload.TRAINING
        assert (read.bindings.queue_url is not None) == training
        assert (read.bindings.listener_rule_arn is None) == training
        assert read.bindings.load_balancer is not None
        assert read.bindings.load_balancer.startswith("app/")
        for pool in read.bindings.pools.values():
            assert training or pool.target_group.startswith("targetgroup/")
        assert parameter.inputs["tier"] == "Intelligent-Tiering"


def test_only_training_nodes_are_protected_from_scale_in(program: Any) -> None:
    for group in program("prod").of("Group"):
        assert group.inputs["protectFromScaleIn"] is ("fine-tuning" in group.name)
        assert bool(group.inputs["targetGroupArns"]) is ("fine-tuning" not in group.name)


def test_the_scaler_runs_each_minute_on_arm(program: Any, stack: str) -> None:
    run = program(stack)
    (function,), (schedule,) = run.of("Function"), run.of("Schedule")
    assert "reservedConcurrentExecutions" not in function.inputs, "a new account has no concurrency to reserve"
    assert function.inputs["architectures"] == ["arm64"]
    assert function.inputs["runtime"] == "python3.13"
    assert function.inputs["handler"] == "lambdas.scaler.handler.handle"
    (table,) = [t for t in run.of("Table") if t.name.endswith("-scaler-state")]
    assert function.inputs["environment"]["variables"] == {
        "SERVICES_PATH": f"/gpu-fleet/{stack}/services",
        "STATE_TABLE": f"{table.name}-0123abc",
        "STACK": f"gpu-fleet-{stack}",
    }
    assert schedule.inputs["scheduleExpression"] == "rate(1 minute)"
    assert schedule.inputs["target"]["arn"].endswith(":function:" + function.inputs["name"])


def test_concurrency_is_reserved_if_the_stack_says_so(program: Any) -> None:
    (function,) = program("local", **{"gpu-fleet:scaler": '{"reserved_concurrency": 1}'}).of("Function")
    assert function.inputs["reservedConcurrentExecutions"] == 1


def test_the_functions_environment_is_complete(program: Any, stack: str) -> None:
    (function,) = program(stack).of("Function")
    Environment.from_env(function.inputs["environment"]["variables"])


def test_a_burst_runs_the_scaler_within_seconds(program: Any, stack: str) -> None:
    run = program(stack)
    alarms = [a for a in run.of("MetricAlarm") if a.name.endswith("-burst")]
    inference = [g for g in run.of("Group") if "fine-tuning" not in g.name]
    assert len(alarms) == len(inference)
    (permission,) = [p for p in run.of("Permission") if p.name.endswith("-burst")]
    assert permission.inputs["principal"] == "lambda.alarms.cloudwatch.amazonaws.com"
    assert permission.inputs["sourceAccount"] == "123456789012"
    for alarm in alarms:
        arn = f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{alarm.inputs['name']}"
        assert fnmatchcase(arn, permission.inputs["sourceArn"])
        assert (alarm.inputs["namespace"], alarm.inputs["metricName"]) == ("GpuFleet", "requests_waiting")
        assert list(alarm.inputs["dimensions"]) == ["AutoScalingGroupName"]
        assert alarm.inputs["period"] == 10
        assert alarm.inputs["alarmActions"][0].endswith("function:gpu-fleet-" + stack + "-scaler")
    assert len({alarm.inputs["name"] for alarm in alarms}) == len(alarms)


def test_no_alarm_of_another_stack_runs_the_scaler(program: Any) -> None:
    """Stack `dev-a` with service `chat` beside stack `dev` with service `a-chat`."""
    (permission,) = [p for p in program("dev").of("Permission") if p.name.endswith("-burst")]
    for name in ("gpu-fleet_dev-a_chat_l4_burst", "gpu-fleet-dev_a_chat_l4_burst", "gpu-fleet_prod_chat_l4_burst"):
        assert not fnmatchcase(
            f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{name}", permission.inputs["sourceArn"]
        )


def test_notices_of_spot_instances_reach_the_scaler(program: Any) -> None:
    run = program("prod")
    (rule,), (target,), (function,) = run.of("EventRule"), run.of("EventTarget"), run.of("Function")
    assert json.loads(rule.inputs["eventPattern"]) == {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"],
    }
    arn = f"arn:aws:cloudwatch:us-east-1:123456789012:{rule.name}-0123abc"
    assert target.inputs["rule"] == f"{rule.name}-0123abc"
    assert target.inputs["arn"].endswith(f"function:{function.inputs['name']}")
    assert target.inputs["retryPolicy"]["maximumEventAgeInSeconds"] < 120, "after two minutes the instance is gone"
    (permission,) = [p for p in run.of("Permission") if p.inputs["principal"] == "events.amazonaws.com"]
    assert permission.inputs["sourceArn"] == arn
    # EventBridge itself, as the rule, puts undelivered events into the queue.
    (queue_policy,) = run.of("QueuePolicy")
    (statement,) = json.loads(queue_policy.inputs["policy"])["Statement"]
    assert statement["Resource"] == target.inputs["deadLetterConfig"]["arn"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": arn}}


@pytest.mark.parametrize("stack", ["local", "dev"])
def test_a_stack_without_spot_gets_no_notices(program: Any, stack: str) -> None:
    assert program(stack).of("EventRule") == program(stack).of("QueuePolicy") == []


def test_a_silent_scaler_raises_an_alarm(program: Any, stack: str) -> None:
    (alarm,) = [a for a in program(stack).of("MetricAlarm") if a.name.endswith("-scaler-silent")]
    assert (alarm.inputs["namespace"], alarm.inputs["metricName"]) == ("AWS/Lambda", "Invocations")
    assert alarm.inputs["period"] * alarm.inputs["evaluationPeriods"] == 180


def test_silence_is_missing_data_so_that_the_first_deploy_does_not_ring(program: Any) -> None:
    """An alarm starts in INSUFFICIENT_DATA and acts when its state changes; only this one acts on that state."""
    for alarm in program("prod").of("MetricAlarm"):
        silent = alarm.name.endswith("-scaler-silent")
        assert (alarm.inputs["treatMissingData"] == "missing") == silent
        topic = ["arn:aws:sns:us-east-1:123456789012:gpu-fleet-alarms"]
        assert alarm.inputs.get("insufficientDataActions", []) == (topic if silent else [])


def test_each_failing_service_raises_an_alarm(program: Any, stack: str) -> None:
    """A service of the stack by its own alarm, any other by the stack's."""
    alarms = {a.name: a.inputs for a in program(stack).of("MetricAlarm")}
    of_stack = alarms[f"gpu-fleet-{stack}-scaler-failed-services"]
    own = alarms[f"gpu-fleet-{stack}-chat-errors"]
    for alarm, metric in ((of_stack, "failed_services"), (own, "errors")):
        assert (alarm["namespace"], alarm["metricName"]) == ("GpuFleet/Scaler", metric)
        assert alarm["dimensions"]["stack"] == f"gpu-fleet-{stack}"
        assert alarm["treatMissingData"] == "notBreaching", "another alarm reports silence"
    assert list(of_stack["dimensions"]) == ["stack"]
    assert own["dimensions"]["service"] == "chat"
    assert (of_stack["datapointsToAlarm"], of_stack["evaluationPeriods"]) == (2, 3)


def test_a_service_without_a_ready_instance_raises_an_alarm(program: Any, stack: str) -> None:
    """Longer than a launch may take, so that a service that wakes does not."""
    run = program(stack)
    services = {
        t.inputs["tags"]["gpu-fleet:service"] for t in run.of("LogGroup") if "gpu-fleet:service" in t.inputs["tags"]
    }
    alarms = [a.inputs for a in run.of("MetricAlarm") if a.name.endswith("-unserved")]
    assert len(alarms) == len({a["dimensions"]["service"] for a in alarms} & services) == len(services) > 0
    for alarm in alarms:
        assert (alarm["namespace"], alarm["metricName"], alarm["statistic"]) == (
            "GpuFleet/Scaler",
            "unserved",
            "Minimum",
        )
        assert alarm["period"] * alarm["datapointsToAlarm"] > 1200
        assert alarm["evaluationPeriods"] > alarm["datapointsToAlarm"]


def test_the_backstop_only_adds(program: Any) -> None:
    policies = program("prod").of("Policy")
    steps = [p for p in policies if p.type == "aws:autoscaling/policy:Policy"]
    assert len(steps) == 3
    for policy in steps:
        assert policy.inputs["policyType"] == "StepScaling"
        assert all(step["scalingAdjustment"] > 0 for step in policy.inputs["stepAdjustments"])
        assert policy.inputs["stepAdjustments"][0]["metricIntervalLowerBound"] == "0"
    assert not [p for p in program("dev").of("Policy") if p.type == "aws:autoscaling/policy:Policy"]


def test_alarms_of_prod_notify_its_topic(program: Any) -> None:
    for alarm in program("prod").of("MetricAlarm"):
        if not alarm.name.endswith(("-burst", "-backstop")):
            assert alarm.inputs["alarmActions"] == ["arn:aws:sns:us-east-1:123456789012:gpu-fleet-alarms"]


def test_prod_uses_tls_and_redirects_http(program: Any) -> None:
    run = program("prod")
    listeners = {listener.inputs["port"]: listener.inputs for listener in run.of("Listener")}
    assert listeners[80]["defaultActions"][0]["redirect"]["protocol"] == "HTTPS"
    assert listeners[443]["sslPolicy"].startswith("ELBSecurityPolicy-TLS13")
    assert listeners[443]["defaultActions"][0]["fixedResponse"]["statusCode"] == "404"
    (balancer,) = [b for b in run.of("LoadBalancer") if b.custom]
    assert balancer.inputs["dropInvalidHeaderFields"] is True
    assert balancer.inputs["enableDeletionProtection"] is True
    assert balancer.inputs["accessLogs"]["enabled"] is True
    assert len(run.of("WebAclAssociation")) == 1
    (block,) = run.of("BucketPublicAccessBlock")
    assert all(block.inputs[k] for k in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls"))
    assert len(run.of("Table")) == 2
    (table,) = [t for t in run.of("Table") if t.name.endswith("-scaler-state")]
    assert table.inputs["deletionProtectionEnabled"] is True
    assert table.inputs["pointInTimeRecovery"]["enabled"] is True


def test_every_service_has_a_dashboard_of_whole_metrics(program: Any, stack: str) -> None:
    run = program(stack)
    assert len(run.of("Dashboard")) == len(run.of("Parameter"))
    for board in run.of("Dashboard"):
        widgets = json.loads(board.inputs["dashboardBody"])["widgets"]
        positions = {(w["x"], w["y"]) for w in widgets}
        assert len(positions) == len(widgets) > 8
        for widget in widgets:
            for metric in widget["properties"]["metrics"]:
                assert all(part is not None for part in metric)


def test_each_pools_engine_gets_the_bounds_of_its_own_queue(root: Path, built: Any) -> None:
    """The stack's vLLM has the options: requests and tokens, more for a faster type; a training worker gets nothing."""
    run = built(pulumi_config(root, "prod"), "prod", "gpu-fleet")
    sent = [base64.b64decode(template.inputs["userData"]) for template in run.of("LaunchTemplate")]
    scripts = [gzip.decompress(one).decode() for one in sent]
    (parameter,) = [one.inputs["value"] for one in run.of("Parameter") if '"name":"chat"' in one.inputs["value"]]
    found = [re.findall(r"--max-num-queued-reqs (\d+) --max-num-queued-tokens (\d+)", script) for script in scripts]
    pools = json.loads(parameter)["service"]["pools"]
    assert len([bound for bound in found if bound]) >= len(pools)
    assert all(len(bound) <= 1 for bound in found)
    trained = [script for script in scripts if "WORKLOAD=training" in script]
    assert trained
    assert not [script for script in trained if "-queued-" in script]
    bounds = sorted({(int(requests), int(tokens)) for one in found for requests, tokens in one})
    assert bounds[0][0] > 10
    assert bounds[0][1] > 1000
    assert len(bounds) == len({tuple(pool["types"]) for pool in pools})


def test_the_dashboard_shows_what_targets_refused_beside_all_requests(program: Any) -> None:
    shown = [
        Counter(metric[1] for metric in widget["properties"]["metrics"])
        for board in program("prod").of("Dashboard")
        for widget in json.loads(board.inputs["dashboardBody"])["widgets"]
        if widget["properties"]["title"] == "Requests a minute, and those refused"
    ]
    serving = [names for names in shown if names]
    assert serving
    assert all(names["RequestCount"] == names["HTTPCode_Target_5XX_Count"] > 0 for names in serving)


def test_the_dashboard_shows_the_share_of_missed_requests_of_each_pool_that_serves(program: Any) -> None:
    """Sum over sum: the mean of the instances' shares would count an idle instance like a busy one.

    A refused request has missed the SLO, though no instance has judged it.
    """
    shown: dict[str, list[Any]] = {}
    run = program("prod")
    for board in run.of("Dashboard"):
        for widget in json.loads(board.inputs["dashboardBody"])["widgets"]:
            if widget["properties"]["title"] == "Requests that missed the SLO (%)":
                shown[board.name] = widget["properties"]["metrics"]
    served = {board: [m[0]["label"] for m in metrics if "expression" in m[0]] for board, metrics in shown.items()}
    assert served
    for board, metrics in shown.items():
        assert len(metrics) == 4 * len(served[board]) == 4 * len(set(served[board]))
        for late, judged, refused, share in zip(*(metrics[k::4] for k in range(4)), strict=True):
            assert (late[1], judged[1], refused[1]) == (
                "late_requests", "judged_requests", "HTTPCode_Target_5XX_Count"
            )  # fmt: skip
            assert late[2:4] == judged[2:4]
            assert late[-1]["stat"] == judged[-1]["stat"] == refused[-1]["stat"] == "Sum"
            late_id, judged_id, refused_id = (metric[-1]["id"] for metric in (late, judged, refused))
            both = f"100 * SUM([{late_id}, {refused_id}]) / SUM([{judged_id}, {refused_id}])"
            assert share[0]["expression"] == f"IF({judged_id} >= 0, {both})"


def test_an_existing_network_is_used_and_nothing_is_created(program: Any) -> None:
    existing = {
        "vpc_id": "vpc-0a1b2c3d4e5f67890",
        "public_subnet_ids": ["subnet-0a1b2c3d4e5f67890", "subnet-0a1b2c3d4e5f67891"],
        "private_subnet_ids": ["subnet-0a1b2c3d4e5f67892"],
    }
    run = program("dev", **{"gpu-fleet:network": json.dumps(existing)})
    assert not run.of("Vpc")
    assert not run.of("Subnet")
    assert not run.of("NatGateway")
    assert all(g.inputs["vpcZoneIdentifiers"] == existing["private_subnet_ids"] for g in run.of("Group"))
    assert all(t.inputs["vpcId"] == existing["vpc_id"] for t in run.of("TargetGroup"))


@pytest.mark.parametrize(("nat", "gateways", "endpoints"), [("one", 1, 1), ("per_zone", 2, 1), ("none", 0, 11)])
def test_the_stack_chooses_the_way_out(program: Any, nat: str, gateways: int, endpoints: int) -> None:
    network = {"zones": ["us-east-1a", "us-east-1b"], "nat": nat}
    run = program("dev", **{"gpu-fleet:network": json.dumps(network)})
    assert len(run.of("NatGateway")) == gateways
    assert len(run.of("VpcEndpoint")) == endpoints
    private_routes = [r for r in run.of("Route") if "private" in r.name]
    assert len(private_routes) == gateways
    public = {s.inputs["cidrBlock"] for s in run.of("Subnet") if "-public-" in s.name}
    assert len(public) == 2


def test_the_longest_names_fit_and_differ(program: Any, root: Path) -> None:
    services = json.loads(pulumi_config(root, "dev")["gpu-fleet:services"])
    pool = next(iter(services["chat"]["pools"].values()))
    long = {
        "transcription-meet-a": {
            **services["chat"],
            "priority": 1,
            "pools": {"a" * 19 + "1": pool, "a" * 19 + "2": pool},
        },
        "transcription-meet-b": {
            **services["chat"],
            "paths": ["/v2/*"],
            "priority": 2,
            "pools": {"a" * 19 + "1": pool},
        },
    }
    run = program("dev", **{"gpu-fleet:services": json.dumps(long)})
    names = [g.name for g in run.of("TargetGroup")]
    assert len(names) == 3 == len(set(names))
    assert all(len(name) + naming.RANDOM_SUFFIX <= naming.MAX_TARGET_GROUP_NAME for name in names)
    for role in (r for r in run.of("Role")):
        assert len(role.name) + naming.RANDOM_SUFFIX <= naming.MAX_ROLE_NAME


def test_a_wrong_stack_file_creates_nothing(program: Any) -> None:
    with pytest.raises(Exception, match=r"gpu-fleet:load_balancer\.idle_timeout_seconds"):
        program("dev", **{"gpu-fleet:load_balancer": json.dumps({"idle_timeout_seconds": 5000})})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gpu-fleet:services", "hello", "gpu-fleet:services: must be a mapping of keys to values (got hello)"),
        ("aws:region", "", "aws:region: is missing"),
        ("gpu-fleet:tags", '{"a b": "c"}', "gpu-fleet:tags.a b: must be letters, digits"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(program: Any, key: str, value: str, message: str) -> None:
    """The engine prints only a RunError's text."""
    with pytest.raises(pulumi.RunError) as caught:
        program("dev", **{key: value})
    assert str(caught.value).splitlines()[-1].startswith(f"Pulumi.dev.yaml: {message}")


CACHED = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def boot_scripts(run: Any) -> dict[str, str]:
    return {t.name: gzip.decompress(base64.b64decode(t.inputs["userData"])).decode() for t in run.of("LaunchTemplate")}


def test_instances_pull_an_image_through_the_stacks_cache(program: Any) -> None:
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/docker-hub-AbCdEf"
    run = program("prod", **{"gpu-fleet:image_caches": json.dumps({"docker.io": {"credentials_arn": secret}})})
    (rule,) = run.of("PullThroughCacheRule")
    assert rule.inputs == {
        "ecrRepositoryPrefix": "gpu-fleet-prod/docker-hub",
        "upstreamRegistryUrl": "registry-1.docker.io",
        "credentialArn": secret,
    }
    scripts = boot_scripts(run)
    chat = [script for name, script in scripts.items() if "-chat-" in name]
    assert all(f"docker pull {CACHED}/gpu-fleet-prod/docker-hub/vllm/vllm-openai:v0.29.0" in each for each in chat)
    assert f"docker pull {CACHED}/fine-tuning:1.0.0" in scripts["gpu-fleet-prod-fine-tuning-l40s"]
    assert all(rule.urn in group.depends_on for group in run.of("Group"))


def test_an_existing_cache_is_used_and_not_made(program: Any) -> None:
    run = program("local", **{"gpu-fleet:image_caches": '{"docker.io": {"existing_prefix": "hub"}}'})
    assert run.of("PullThroughCacheRule") == []
    assert all(f"docker pull {CACHED}/hub/vllm/vllm-openai:v0.29.0" in each for each in boot_scripts(run).values())


def test_without_a_cache_an_image_is_pulled_by_its_own_name(program: Any) -> None:
    assert all("docker pull vllm/vllm-openai:v0.29.0" in each for each in boot_scripts(program("dev")).values())


def with_boot(root: Path, **boot: Any) -> dict[str, str]:
    services = json.loads(pulumi_config(root, "local")["gpu-fleet:services"])
    services["chat"]["boot"] = boot
    return {"gpu-fleet:services": json.dumps(services)}


def test_volumes_have_the_rates_of_the_stacks_file(program: Any, root: Path) -> None:
    def rates(run: Any) -> set[tuple[int, int]]:
        devices = [t.inputs["blockDeviceMappings"][0]["ebs"] for t in run.of("LaunchTemplate")]
        return {(ebs["iops"], ebs["throughput"]) for ebs in devices}

    assert rates(program("local")) == {(3000, 125)}
    fast = with_boot(root, volume_iops=6000, volume_throughput_mib_per_second=1000)
    assert rates(program("local", **fast)) == {(6000, 1000)}


@pytest.mark.parametrize(("instance_store", "use"), [(True, "store"), (False, "volume")])
def test_the_disks_use_is_that_of_the_stacks_file(program: Any, root: Path, instance_store: bool, use: str) -> None:
    scripts = boot_scripts(program("local", **with_boot(root, instance_store=instance_store)))
    assert all(f"ExecStart=/opt/gpu-fleet/disk.sh {use}\n" in script for script in scripts.values())


def baked(root: Path, **boot: Any) -> dict[str, str]:
    settings = json.loads(with_boot(root, baked_ami=True, **boot)["gpu-fleet:services"])
    settings["chat"]["pools"]["l4"]["volume_gib"] = 120
    return {"gpu-fleet:services": json.dumps(settings)}


def test_without_a_baked_ami_nothing_is_built(program: Any) -> None:
    run = program("local")
    assert [r for r in run.resources if ":imagebuilder/" in r.type] == []
    assert run.exports["baked_ami_pipelines"] == {}


def test_pools_launch_the_newest_baked_ami(program: Any, root: Path) -> None:
    run = program("local", **baked(root))
    (target,) = run.of("DistributionConfiguration")[0].inputs["distributions"]
    assert target["region"] == "us-east-1"
    name = "/imagebuilder/gpu-fleet/local/chat"
    assert target["ssmParameterConfigurations"] == [{"parameterName": name, "dataType": "aws:ec2:image"}]
    assert {t.inputs["imageId"] for t in run.of("LaunchTemplate")} == {f"resolve:ssm:{name}"}
    # The name tells no more which root device the AMI has.
    assert {t.inputs["blockDeviceMappings"][0]["deviceName"] for t in run.of("LaunchTemplate")} == {"/dev/sda1"}


def test_until_the_first_build_the_parameter_holds_the_base_ami(
    program: Any, root: Path, pointed: Callable[[Any, str], list[Any]]
) -> None:
    run = program("local", **baked(root))
    (parameter,) = [p for p in run.of("Parameter") if p.inputs["name"].startswith("/imagebuilder/")]
    assert (parameter.inputs["value"], parameter.inputs["dataType"]) == (BASE_AMI, "aws:ec2:image")
    assert parameter.ignore_changes == ["value"], "an update would take the newest AMI back"
    assert pointed(parameter.inputs, "value")
    assert all(parameter.urn in template.depends_on for template in run.of("LaunchTemplate"))


def test_the_recipe_builds_on_the_pools_ami_within_the_smallest_volume(program: Any, root: Path) -> None:
    run = program("local", **baked(root))
    (recipe,), (component,) = run.of("ImageRecipe"), run.of("Component")
    assert recipe.inputs["parentImage"] == f"ssm:{DEFAULT_AMI_PARAMETER}"
    assert [each["componentArn"] for each in recipe.inputs["components"]] == [component.outputs["arn"]]
    (device,) = recipe.inputs["blockDeviceMappings"]
    assert (device["deviceName"], device["ebs"]["volumeSize"]) == ("/dev/sda1", 120)


def test_the_instance_that_builds_has_the_services_way_out_and_its_own_rights(program: Any, root: Path) -> None:
    run = program("local", **baked(root))
    (where,), (pipeline,) = run.of("InfrastructureConfiguration"), run.of("ImagePipeline")
    (policy,) = [p for p in run.of("RolePolicy") if p.name == "gpu-fleet-local-chat-baked"]
    (group,) = [g for g in run.of("SecurityGroup") if g.name == "gpu-fleet-local-chat-instance"]
    assert where.inputs["securityGroupIds"] == [f"{group.name}-0123abc-id"]
    assert where.inputs["instanceMetadataOptions"] == {"httpTokens": "required", "httpPutResponseHopLimit": 1}
    assert where.inputs["terminateInstanceOnFailure"] is True
    assert policy.urn in where.depends_on
    way_out = {route.urn for route in run.of("Route") if "-private-" in route.name}
    assert way_out
    assert way_out <= pipeline.depends_on
    assert run.exports["baked_ami_pipelines"] == {"chat": pipeline.outputs["arn"]}


def test_the_component_pulls_the_image_that_instances_pull(program: Any, root: Path) -> None:
    (component,) = program("local", **baked(root)).of("Component")
    image = f"{CACHED}/docker-hub/vllm/vllm-openai:v0.29.0"
    build, test = json.loads(component.inputs["data"])["phases"]
    (step,) = build["steps"]
    (script,) = step["inputs"]["commands"]
    assert f"docker pull --quiet {image}" in script
    assert f"docker login --username AWS --password-stdin {CACHED}" in script
    assert test["steps"][0]["inputs"]["commands"] == [f"docker image inspect {image}"]


def test_a_scaler_that_changes_types_may_read_the_baked_amis_parameter(program: Any, root: Path) -> None:
    services = json.loads(pulumi_config(root, "vertical")["gpu-fleet:services"])
    (name,) = services
    services[name]["boot"] = {**services[name].get("boot", {}), "baked_ami": True}
    run = program("vertical", **{"gpu-fleet:services": json.dumps(services)})
    policies = [r.inputs["policy"] for r in run.resources if r.type == "aws:iam/policy:Policy"]
    statements = [statement for text in policies for statement in json.loads(text)["Statement"]]
    (read,) = [s for s in statements if "ssm:GetParameters" in s["Action"]]
    parameter = f"parameter/imagebuilder/gpu-fleet/vertical/{name}"
    assert read["Resource"] == [f"arn:aws:ssm:us-east-1:123456789012:{parameter}"]


def test_a_baked_image_is_not_hidden_by_the_instance_store(program: Any, root: Path) -> None:
    for store, use in ((True, "model"), (False, "volume")):
        scripts = boot_scripts(program("local", **baked(root, instance_store=store)))
        assert all(f"ExecStart=/opt/gpu-fleet/disk.sh {use}\n" in script for script in scripts.values())


def chat_with(root: Path, weights: dict[str, str]) -> dict[str, str]:
    return with_boot(root, weights=weights)


def test_weights_lie_in_the_stacks_bucket_and_the_role_reads_its_own_folder(program: Any, root: Path) -> None:
    run = program("local", **chat_with(root, {}))
    (bucket,) = run.of("Bucket")
    assert bucket.inputs["bucket"] == "gpu-fleet-local-weights-123456789012"
    assert {r.type.rsplit(":", 1)[-1] for r in run.resources if r.name == "gpu-fleet-local-weights"} >= {
        "BucketPublicAccessBlock",
        "BucketPolicy",
        "BucketLifecycleConfiguration",
    }
    assert run.exports["weights_bucket"] == "gpu-fleet-local-weights-123456789012"
    (policy,) = [p for p in run.of("RolePolicy") if p.name == "gpu-fleet-local-chat-instance"]
    arn = "arn:aws:s3:::gpu-fleet-local-weights-123456789012"
    granted = {s["Sid"]: s for s in json.loads(policy.inputs["policy"])["Statement"]}
    assert granted["ReadWeights"]["Resource"] == [f"{arn}/chat/*"]
    assert granted["ListWeights"]["Resource"] == [arn]
    assert granted["ListWeights"]["Condition"] == {"StringLike": {"s3:prefix": "chat/*"}}
    for template in run.of("LaunchTemplate"):
        assert template.inputs["metadataOptions"]["httpPutResponseHopLimit"] == 1
    for script in boot_scripts(run).values():
        assert "s3://gpu-fleet-local-weights-123456789012/chat/ /opt/models/weights" in script
        assert "--model /weights --max-model-len 16384" in script
        assert "--served-model-name RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8" in script


def test_weights_of_a_given_bucket_are_streamed_by_the_containers_role(program: Any, root: Path) -> None:
    run = program("local", **chat_with(root, {"bucket": "mine", "prefix": "llama/8b", "load": "stream"}))
    assert run.of("Bucket") == []
    for template in run.of("LaunchTemplate"):
        assert template.inputs["metadataOptions"]["httpPutResponseHopLimit"] == 2
    for script in boot_scripts(run).values():
        assert "--model s3://mine/llama/8b/ " in script
        assert "--load-format runai_streamer" in script
        assert "\nAWS_REGION=us-east-1\n" in script
        assert "s3 sync" not in script


def test_the_dashboard_shows_the_boots_of_each_pool_by_phase(program: Any) -> None:
    run = program("prod")
    pools = [pool for one in run.of("Parameter") if '"service"' in one.inputs["value"]
             for pool in json.loads(one.inputs["value"])["bindings"]["pools"].values()]  # fmt: skip
    charts = [
        widget["properties"]
        for board in run.of("Dashboard")
        for widget in json.loads(board.inputs["dashboardBody"])["widgets"]
        if widget["properties"]["title"].startswith("Boot of ")
    ]
    assert len(charts) == len(pools) > 1
    for chart in charts:
        *timed, whole = chart["metrics"]
        assert chart["stacked"]
        assert [metric[5] for metric in timed] == list(boot_phases.PHASES)
        assert {(metric[0], metric[1]) for metric in timed} == {(boot_phases.NAMESPACE, boot_phases.METRIC)}
        assert whole[:2] == ["GpuFleet/Scaler", "boot_seconds"]
