"""Lambda functions: their policy, their environment, and the concurrency that an account must keep."""

from __future__ import annotations

import json
from typing import Any

from moto.awslambda import models, policy
from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="limits of functions",
    moto="takes names, policies, environments and timeouts of any size, a statement's id twice, and any reservation",
    aws=(
        "a function's name has 64 characters, its policy 20480 bytes and a statement's id once, its environment 4096 "
        "bytes, its timeout 900 seconds; reserved concurrency leaves 100 of the account's unreserved, of which a new "
        "account has 10 in all"
    ),
    source=(
        "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html "
        "https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html "
        "https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html "
        "https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionConcurrency.html "
        "https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html"
    ),
)

POLICY_BYTES, ENVIRONMENT_BYTES, UNRESERVED = 20_480, 4096, 100
NAME_CHARACTERS, TIMEOUT_SECONDS = 64, 900
"""The service's model, which `requests` holds, states neither."""
CONCURRENT_EXECUTIONS = 1000
"""What an account has by default; a new one has fewer, often 10."""


class _ConflictError(LambdaClientError):
    code = 409


def mend(patches: Patches, concurrent_executions: int = CONCURRENT_EXECUTIONS) -> None:
    """Check before moto acts. `concurrent_executions` are the account's."""

    def add_statement(self: Any, raw: str, qualifier: str | None = None) -> Any:
        sid = json.loads(raw).get("StatementId")
        if any(statement.get("Sid") == sid for statement in self.statements):
            raise _ConflictError(
                "ResourceConflictException",
                f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the "
                "existing statement.",
            )
        before = list(self.statements)
        answer = moto_add(self, raw, qualifier)
        size = len(json.dumps(self.get_policy()["Policy"], separators=(",", ":")).encode())
        if size > POLICY_BYTES:
            self.statements = before
            raise LambdaClientError(
                "PolicyLengthExceededException",
                f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES}).",
            )
        return answer

    def create_function(self: Any, spec: dict[str, Any]) -> Any:
        name = spec["FunctionName"].rsplit(":", 1)[-1]
        if len(name) > NAME_CHARACTERS:
            raise _too_much(name, "functionName", f"length less than or equal to {NAME_CHARACTERS}")
        _check_settings(spec)
        return moto_create(self, spec)

    def update_function_configuration(self: Any, function_name: str, qualifier: str, body: dict[str, Any]) -> Any:
        _check_settings(body)
        return moto_update(self, function_name, qualifier, body)

    def put_function_concurrency(self: Any, function_name: str, reserved_concurrency: str) -> str:
        others = [f for f in self.list_functions() if f.function_name != function_name and f.reserved_concurrency]
        left = concurrent_executions - int(reserved_concurrency) - sum(int(f.reserved_concurrency) for f in others)
        least = min(UNRESERVED, concurrent_executions)
        if left < least:
            raise InvalidParameterValueException(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{least}]."
            )
        return moto_reserve(self, function_name, reserved_concurrency)

    backend = models.LambdaBackend
    moto_add = patches.put(policy.Policy, "add_statement", add_statement)
    moto_create = patches.put(backend, "create_function", create_function)
    moto_update = patches.put(backend, "update_function_configuration", update_function_configuration)
    moto_reserve = patches.put(backend, "put_function_concurrency", put_function_concurrency)


def _too_much(value: Any, path: str, must: str) -> LambdaClientError:
    return LambdaClientError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: Member must have "
        f"{must}",
    )


def _check_settings(spec: dict[str, Any]) -> None:
    if int(spec.get("Timeout") or 0) > TIMEOUT_SECONDS:
        raise _too_much(spec["Timeout"], "timeout", f"value less than or equal to {TIMEOUT_SECONDS}")
    variables = (spec.get("Environment") or {}).get("Variables") or {}
    size = len(json.dumps(variables, separators=(",", ":")).encode())
    if size > ENVIRONMENT_BYTES:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the {ENVIRONMENT_BYTES // 1024}KB limit. String measured: {json.dumps(variables)}"
        )
