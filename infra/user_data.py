"""User data of an instance: its boot script, rendered from the files in infra/instance, compressed."""

from __future__ import annotations

import io
import json
import re
import shlex
import struct
import tokenize
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from gpu_fleet.config import naming
from gpu_fleet.config.engines import ENGINES, ServingEngine, of_image
from gpu_fleet.config.model_weights import CONTAINER_PATH, WeightsPlace, served
from gpu_fleet.config.settings import BootOptions, Container, WeightsLoad
from gpu_fleet.scaling.policy import Policy, Slo, Workload

FOLDER = Path(__file__).parent / "instance"
LAUNCHING_HOOK = "model-answers"
TERMINATING_HOOK = "drained"

MAX_BYTES = 16384
"""Before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""

INFERENCE_STOP_SECONDS = 30
"""Between SIGTERM and SIGKILL. An instance for inference has drained before its container stops."""

UNIT_STOP_SECONDS = 15
"""What systemd waits longer than Docker does, so that Docker ends the container."""


@dataclass(frozen=True, slots=True)
class BootSettings:
    """Settings that user data hands to an instance."""

    region: str
    image: str
    """As the user names it, which tells the engine."""
    log_group: str
    max_drain_seconds: int
    launch_timeout_seconds: int = 1200
    training: bool = False
    slo: Slo | None = None
    """Limits by which the instance counts its late requests."""
    args: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment variable -> ARN of the secret that holds its value."""
    port: int = 8000
    health_path: str = "/health"
    copied_weights: str = ""
    """URI of the folder in S3 that the instance copies to its disk; empty: none."""
    instance_store: bool = True
    """Whether images, weights and compiled kernels go to the instance store where there is one."""
    baked_ami: bool = False
    """Whether the AMI brings the image, which then stays on the root volume."""
    pulled_image: str = ""
    """The same image in a cache of its registry; empty: it is pulled by its own name."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the stack has for the instances of a service."""

    region: str
    log_group: str
    idle_timeout_seconds: int
    """Of the load balancer."""
    queue_url: str | None = None
    """For training only."""
    weights: WeightsPlace | None = None
    """Where the weights are in S3; None: the engine loads them from where its arguments say."""
    pulled_image: str = ""
    """The container's image in a cache of its registry; empty: it is pulled by its own name."""


def boot_settings(container: Container, boot: BootOptions, policy: Policy, around: Surroundings) -> BootSettings:
    """Return the boot settings of a service's instances.

    The engine must keep a connection open longer than the load balancer does. Otherwise it closes connections that the
    load balancer is about to reuse, which gives a 502. vLLM's default of 5 s is far too short.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#http-502-issues
    """
    training = policy.workload is Workload.TRAINING
    stream = boot.weights is not None and boot.weights.load is WeightsLoad.STREAM
    uri = around.weights.uri if around.weights else ""
    if boot.weights is not None:
        container = served(container, boot.weights, uri)
    defaults = (
        {} if training else dict.fromkeys(_keep_alive_variables(container.image), str(around.idle_timeout_seconds + 10))
    )
    if stream:
        # The engine's own reader of S3 asks the environment for the region.
        defaults |= dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), around.region)
    return BootSettings(
        region=around.region,
        image=container.image,
        instance_store=boot.instance_store,
        baked_ami=boot.baked_ami,
        copied_weights="" if stream else uri,
        pulled_image=around.pulled_image,
        args=container.args,
        environment={
            **defaults,
            **container.environment,
            **({"QUEUE_URL": around.queue_url} if around.queue_url else {}),
        },
        secrets=container.secrets,
        port=container.port,
        health_path=container.health_path,
        log_group=around.log_group,
        max_drain_seconds=int(policy.horizontal.busy_max_drain_seconds),
        launch_timeout_seconds=naming.hook_seconds(policy.horizontal.launch_timeout_seconds),
        training=training,
        slo=policy.slo,
    )


def _keep_alive_variables(image: str) -> list[str]:
    """Return the variables that an engine of this image reads; those of all engines for an image that we do not know.

    An engine ignores another's.
    """
    known = of_image(image)
    engines = (known,) if known else ENGINES
    return [engine.keep_alive_variable for engine in engines if engine.keep_alive_variable]


def render_user_data(boot: BootSettings) -> bytes:
    """Return the boot script, compressed: cloud-init, which Amazon Linux and Ubuntu run, unpacks it.

    The bytes depend on nothing but the script and the build of zlib; with another build, an update makes a new version
    of the launch template, which replaces no instance. `infra.sizes` checks that EC2 accepts their number.
    https://docs.cloud-init.io/en/latest/explanation/format/index.html (gzip compressed content)
    https://docs.aws.amazon.com/linux/al2023/ug/cloud-init.html
    """
    script = render_script(boot).encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    # No name, no time, no operating system: https://www.rfc-editor.org/rfc/rfc1952
    header = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255])
    end = struct.pack("<LL", zlib.crc32(script), len(script))
    return header + packer.compress(script) + packer.flush() + end


def render_script(boot: BootSettings) -> str:
    """Return the boot script. `gpu_fleet.config.rules` checks that no value contains a line break."""
    stop_seconds = boot.max_drain_seconds if boot.training else INFERENCE_STOP_SECONDS
    image, engine = boot.pulled_image or boot.image, of_image(boot.image)
    registry = image.partition("/")[0]
    values = {
        "NODE": "\n\n".join(_node_files()),
        "AGENT": _agent_config(boot.region),
        "NODE_ENVIRONMENT": _environment_file(
            {
                "AWS_DEFAULT_REGION": boot.region,
                "AWS_RETRY_MODE": "standard",
                "PORT": str(boot.port),
                "HEALTH_PATH": boot.health_path,
                "WORKLOAD": "training" if boot.training else "inference",
                "MAX_DRAIN_SECONDS": str(boot.max_drain_seconds),
                "LAUNCH_TIMEOUT_SECONDS": str(boot.launch_timeout_seconds),
                "LOG_GROUP": boot.log_group,
                **_engine_environment(engine),
                "LAUNCHING_HOOK": LAUNCHING_HOOK,
                "TERMINATING_HOOK": TERMINATING_HOOK,
                **({"SLO": _limits(boot.slo)} if boot.slo else {}),
            }
        ),
        "CONTAINER_ENVIRONMENT": _environment_file(boot.environment),
        "DISK": _without_comments((FOLDER / "disk.sh").read_text(encoding="utf-8")).rstrip("\n"),
        "DISK_USE": _disk_use(boot),
        "SECRETS": "\n".join(f"add_secret {shlex.quote(k)} {shlex.quote(v)}" for k, v in sorted(boot.secrets.items())),
        "PORT": str(boot.port),
        "REGISTRY": shlex.quote(registry) if ".dkr.ecr." in registry else "''",
        "WEIGHTS": "",
        "WEIGHTS_URI": shlex.quote(boot.copied_weights),
        "WANT_WEIGHTS": "Wants=gpu-fleet-weights.service\n" if boot.copied_weights else "",
        "AWAIT_WEIGHTS": "ExecStartPre=/usr/bin/systemctl start gpu-fleet-weights\n" if boot.copied_weights else "",
        "MOUNT_WEIGHTS": f"--volume /opt/models/weights:{CONTAINER_PATH}:ro " if boot.copied_weights else "",
        "PUBLISH_METRICS": _publish_metrics(engine),
        "IMAGE": shlex.quote(image),
        "ARGS": " ".join(shlex.quote(arg) for arg in boot.args),
        "LOG_GROUP": shlex.quote(boot.log_group),
        "REGION": shlex.quote(boot.region),
        # A training worker finishes its job after SIGTERM.
        "STOP_SECONDS": str(stop_seconds),
        "UNIT_STOP_SECONDS": str(stop_seconds + UNIT_STOP_SECONDS),
    }
    script = _without_comments((FOLDER / "boot.sh").read_text(encoding="utf-8"))
    if boot.copied_weights:
        part = _without_comments((FOLDER / "weights.sh").read_text(encoding="utf-8"))
        script = script.replace("@WEIGHTS@", part)
    return re.sub(r"@([A-Z_]+)@", lambda placeholder: values[placeholder[1]], script)


def _disk_use(boot: BootSettings) -> str:
    """Return what disk.sh puts on the instance store."""
    if not boot.instance_store:
        return "volume"
    return "model" if boot.baked_ami else "store"


def _engine_environment(engine: ServingEngine | None) -> dict[str, str]:
    """Return what the image tells of its engine."""
    if engine is None:
        return {}
    port = {"METRICS_PORT": str(engine.metrics_port)} if engine.metrics_port else {}
    return {"ENGINE": engine.name, **port}


def _publish_metrics(engine: ServingEngine | None) -> str:
    """Return the option by which the instance alone reaches the engine's port of metrics, if it has one."""
    return f"--publish 127.0.0.1:{engine.metrics_port}:{engine.metrics_port} " if engine and engine.metrics_port else ""


@cache
def _node_files() -> tuple[str, ...]:
    """Return the commands that write the node's program."""
    return tuple(
        f"cat > /opt/gpu-fleet/node/{path.name} <<'GPU_FLEET_END'\n{bare_python(path.read_text(encoding='utf-8'))}"
        "\nGPU_FLEET_END"
        for path in sorted((FOLDER / "node").glob("*.py"))
    )


_STATEMENT_BEGINS = {tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}
"""What stands before the first token of a statement."""


def bare_python(text: str) -> str:
    """Return a program without its docstrings, comment lines and empty lines: a user needs their room for arguments."""
    lines, drop = text.rstrip("\n").split("\n"), set()
    tokens, before = list(tokenize.generate_tokens(io.StringIO(text).readline)), tokenize.NEWLINE
    for token, after in pairwise(tokens):
        if token.type in (tokenize.COMMENT, tokenize.NL) and not token.line[: token.start[1]].strip():
            drop.add(token.start[0])
        elif token.type == tokenize.STRING and before in _STATEMENT_BEGINS and after.type == tokenize.NEWLINE:
            drop.update(range(token.start[0], token.end[0] + 1))
        before = token.type
    return "\n".join(line for i, line in enumerate(lines, 1) if i not in drop)


def _limits(slo: Slo) -> str:
    """Return the limits as the node reads them."""
    return f"{slo.ttft_seconds:g} {slo.ttft_seconds_per_1000_input_tokens:g} {slo.tpot_seconds:g}"


def _without_comments(text: str) -> str:
    """Return the text without its comment lines; the first line and every `#!` line stay."""
    first, *rest = text.rstrip("\n").split("\n")
    return "\n".join([first, *(line for line in rest if not line.lstrip().startswith("#") or line.startswith("#!"))])


def _agent_config(region: str) -> str:
    text = (FOLDER / "agent.json").read_text(encoding="utf-8").replace("@REGION@", region)
    return json.dumps(json.loads(text), separators=(",", ":"))


def _environment_file(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={value}" for key, value in sorted(values.items()))
