"""The boot script of an instance, rendered from the files in infra/instance. Pure: text in, text out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.policy import Policy, Slo, Workload

FOLDER = Path(__file__).parent / "instance"
LAUNCHING_HOOK = "model-answers"
TERMINATING_HOOK = "drained"

MAX_BYTES = 16384
"""Before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""

KEEP_ALIVE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"
"""Seconds: https://docs.vllm.ai/en/latest/configuration/env_vars.html"""

INFERENCE_STOP_SECONDS = 30
"""Between SIGTERM and SIGKILL. An instance for inference has drained before its container stops."""


@dataclass(frozen=True, slots=True)
class BootSettings:
    """Settings that user data hands to an instance."""

    region: str
    image: str
    log_group: str
    max_drain_seconds: int
    training: bool = False
    slo: Slo | None = None
    """Limits by which the instance counts its late requests."""
    args: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment variable -> ARN of the secret that holds its value."""
    port: int = 8000
    health_path: str = "/health"


def boot_settings(
    container: Container,
    policy: Policy,
    *,
    region: str,
    idle_timeout_seconds: int,
    log_group: str,
    queue_url: str | None = None,
) -> BootSettings:
    """Return the boot settings of a service's instances; `idle_timeout_seconds` is the load balancer's.

    The engine must keep a connection open longer than the load balancer does. Otherwise it closes connections that the
    load balancer is about to reuse, which gives a 502. vLLM's default of 5 s is far too short.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#http-502-issues
    """
    training = policy.workload is Workload.TRAINING
    defaults = {} if training else {KEEP_ALIVE: str(idle_timeout_seconds + 10)}
    return BootSettings(
        region=region,
        image=container.image,
        args=container.args,
        environment={**defaults, **container.environment, **({"QUEUE_URL": queue_url} if queue_url else {})},
        secrets=container.secrets,
        port=container.port,
        health_path=container.health_path,
        log_group=log_group,
        max_drain_seconds=int(policy.horizontal.busy_max_drain_seconds),
        training=training,
        slo=policy.slo,
    )


def render_user_data(boot: BootSettings) -> str:
    """Return the script.

    `infra.sizes` checks that EC2 accepts its length, `gpu_fleet.config.rules` that no value contains a line break.
    """
    registry = boot.image.partition("/")[0]
    values = {
        "NODE": _with_tabs(_without_comments((FOLDER / "node.py").read_text(encoding="utf-8"))),
        "AGENT": _agent_config(boot.region),
        "NODE_ENVIRONMENT": _environment_file(
            {
                "AWS_DEFAULT_REGION": boot.region,
                "AWS_RETRY_MODE": "standard",
                "PORT": str(boot.port),
                "HEALTH_PATH": boot.health_path,
                "WORKLOAD": "training" if boot.training else "inference",
                "MAX_DRAIN_SECONDS": str(boot.max_drain_seconds),
                "LAUNCHING_HOOK": LAUNCHING_HOOK,
                "TERMINATING_HOOK": TERMINATING_HOOK,
                **({"SLO": _limits(boot.slo)} if boot.slo else {}),
            }
        ),
        "CONTAINER_ENVIRONMENT": _environment_file(boot.environment),
        "SECRETS": "\n".join(f"add_secret {shlex.quote(k)} {shlex.quote(v)}" for k, v in sorted(boot.secrets.items())),
        "PORT": str(boot.port),
        "REGISTRY": shlex.quote(registry) if ".dkr.ecr." in registry else "''",
        "IMAGE": shlex.quote(boot.image),
        "ARGS": " ".join(shlex.quote(arg) for arg in boot.args),
        "LOG_GROUP": shlex.quote(boot.log_group),
        "REGION": shlex.quote(boot.region),
        # A training worker finishes its job after SIGTERM.
        "STOP_SECONDS": str(boot.max_drain_seconds if boot.training else INFERENCE_STOP_SECONDS),
    }
    script = _without_comments((FOLDER / "boot.sh").read_text(encoding="utf-8"))
    return re.sub(r"@([A-Z_]+)@", lambda placeholder: values[placeholder[1]], script)


def _limits(slo: Slo) -> str:
    """Return the limits as `node.py` reads them."""
    return f"{slo.ttft_seconds:g} {slo.ttft_seconds_per_1000_input_tokens:g} {slo.tpot_seconds:g}"


def _without_comments(text: str) -> str:
    """Return the text without its comment lines; the first line and every `#!` line stay."""
    first, *rest = text.rstrip("\n").split("\n")
    return "\n".join([first, *(line for line in rest if not line.lstrip().startswith("#") or line.startswith("#!"))])


def _with_tabs(text: str) -> str:
    """Return Python with a tab for each four spaces of indentation, which leaves a user 1 KB more for arguments."""
    return re.sub(r"^(?: {4})+", lambda spaces: "\t" * (len(spaces[0]) // 4), text, flags=re.MULTILINE)


def _agent_config(region: str) -> str:
    text = (FOLDER / "agent.json").read_text(encoding="utf-8").replace("@REGION@", region)
    return json.dumps(json.loads(text), separators=(",", ":"))


def _environment_file(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={value}" for key, value in sorted(values.items()))
