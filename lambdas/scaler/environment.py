"""The Lambda's settings, read once from its environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

SERVICES_PATH = "SERVICES_PATH"
STATE_TABLE = "STATE_TABLE"
STACK = "STACK"
QUOTAS = "QUOTAS"


class EnvironmentVariableError(ValueError):
    """A variable is missing or invalid; the message names it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The scaler's settings."""

    services_path: str
    """Path of the service parameters, without a slash at the end: `/gpu-fleet/prod/services`."""
    state_table: str
    stack: str
    """The dimension `stack` of the scaler's own metrics: `gpu-fleet-prod`."""
    vcpu_quotas: Mapping[str, int] = field(default_factory=dict)
    """The account's vCPU quotas by name; a service's own quotas override them."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Environment:
        """Read SERVICES_PATH, STATE_TABLE, STACK and, if set, QUOTAS: a JSON object of vCPUs by quota name.

        Raises EnvironmentVariableError.
        """
        path = _required(env, SERVICES_PATH).rstrip("/")
        if not path.startswith("/"):
            raise EnvironmentVariableError(f"{SERVICES_PATH}: must start with / (got {env[SERVICES_PATH]!r})")
        return cls(path, _required(env, STATE_TABLE), _required(env, STACK), _quotas(env.get(QUOTAS, "")))


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise EnvironmentVariableError(f"{name}: must be set in the function's environment")
    return value


def _quotas(text: str) -> Mapping[str, int]:
    if not text.strip():
        return {}
    try:
        quotas = json.loads(text)
    except json.JSONDecodeError as error:
        raise EnvironmentVariableError(f"{QUOTAS}: must be a JSON object ({error})") from error
    if not isinstance(quotas, dict):
        raise EnvironmentVariableError(f"{QUOTAS}: must be a JSON object (got {text!r})")
    for name, vcpus in quotas.items():
        if type(vcpus) is not int or vcpus < 0:
            raise EnvironmentVariableError(
                f"{QUOTAS}: {name}: must be a whole number of vCPUs, 0 or more (got {vcpus!r})"
            )
    return quotas
