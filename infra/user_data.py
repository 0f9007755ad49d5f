"""The first boot's script, from the files in infra/instance. Pure: text in, text out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra import naming

FOLDER = Path(__file__).parent / "instance"
LAUNCHING_HOOK = "model-answers"
TERMINATING_HOOK = "drained"


@dataclass(frozen=True, slots=True)
class Boot:
    """What an instance of a pool is told."""

    region: str
    image: str
    log_group: str
    max_drain_seconds: int
    training: bool = False
    args: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment variable -> ARN of the secret that holds its value."""
    port: int = 8000
    health_path: str = "/health"


def user_data(boot: Boot) -> str:
    """The script. Raises ValueError where it would be longer than EC2 takes, or a value would end a line."""
    for arg in boot.args:
        if "\n" in arg:
            raise ValueError(f"container.args: must each be one line (got {arg!r})")
    registry = boot.image.partition("/")[0]
    values = {
        "NODE": _code((FOLDER / "node.py").read_text(encoding="utf-8")),
        "AGENT": _agent(boot.region),
        "NODE_ENVIRONMENT": _lines(
            {
                "AWS_DEFAULT_REGION": boot.region,
                "AWS_RETRY_MODE": "standard",
                "PORT": str(boot.port),
                "HEALTH_PATH": boot.health_path,
                "WORKLOAD": "training" if boot.training else "inference",
                "MAX_DRAIN_SECONDS": str(boot.max_drain_seconds),
                "LAUNCHING_HOOK": LAUNCHING_HOOK,
                "TERMINATING_HOOK": TERMINATING_HOOK,
            }
        ),
        "CONTAINER_ENVIRONMENT": _lines(boot.environment),
        "SECRETS": "\n".join(f"add_secret {shlex.quote(k)} {shlex.quote(v)}" for k, v in sorted(boot.secrets.items())),
        "PORT": str(boot.port),
        "REGISTRY": shlex.quote(registry) if ".dkr.ecr." in registry else "''",
        "IMAGE": shlex.quote(boot.image),
        "ARGS": " ".join(shlex.quote(arg) for arg in boot.args),
        "LOG_GROUP": shlex.quote(boot.log_group),
        "REGION": shlex.quote(boot.region),
        # Inference has drained before it is stopped; a training worker finishes its job after SIGTERM.
        "STOP_SECONDS": str(boot.max_drain_seconds if boot.training else 30),
    }
    text = re.sub(r"@([A-Z_]+)@", lambda m: values[m[1]], _code((FOLDER / "boot.sh").read_text(encoding="utf-8")))
    size = len(text.encode())
    if size > naming.MAX_USER_DATA_BYTES:
        raise ValueError(
            f"container: its args and environment make the boot script longer than EC2 takes: at most "
            f"{naming.MAX_USER_DATA_BYTES} bytes (got {size})"
        )
    return text


def _code(text: str) -> str:
    """The text without lines that are comments alone; its first line stays."""
    first, *rest = text.rstrip("\n").split("\n")
    return "\n".join([first, *(line for line in rest if not line.lstrip().startswith("#") or line.startswith("#!"))])


def _agent(region: str) -> str:
    text = (FOLDER / "agent.json").read_text(encoding="utf-8").replace("@REGION@", region)
    return json.dumps(json.loads(text), separators=(",", ":"))


def _lines(values: Mapping[str, str]) -> str:
    for key, value in values.items():
        if "\n" in value:
            raise ValueError(f"container.environment.{key}: must be one line (got {value!r})")
    return "\n".join(f"{key}={value}" for key, value in sorted(values.items()))
