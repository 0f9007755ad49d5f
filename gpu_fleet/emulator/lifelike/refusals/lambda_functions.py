"""Lambda functions: limits of their policy, environment and timeout, and the account's unreserved concurrency."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from moto.awslambda import models, policy
from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="limits of functions",
    moto=(
        "accepts names, policies, environments and timeouts of any size, a statement's id twice, and any reservation"
    ),
    aws=(
        "a function's name has at most 64 characters, its policy 20480 bytes and each statement id once, its "
        "environment 4096 bytes, its timeout 900 seconds; reserved concurrency leaves 100 of the account's "
        "unreserved; a new account has 10 in all"
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
"""The service's model, which `requests` checks, states neither."""
CONCURRENT_EXECUTIONS = 1000
"""An account's default quota; a new one has fewer, often 10."""


class _ConflictError(LambdaClientError):
    code = 409


def patch_moto(patches: Patches, concurrent_executions: int = CONCURRENT_EXECUTIONS) -> None:
    """Check requests before moto acts. `concurrent_executions` is the account's quota."""
    backend = models.LambdaBackend
    patches.wrap(policy.Policy, "add_statement", add_statement)
    patches.wrap(backend, "create_function", create_function)
    patches.wrap(backend, "update_function_configuration", update_function_configuration)
    patches.wrap(backend, "put_function_concurrency", partial(put_function_concurrency, concurrent_executions))


def add_statement(moto: Any, function_policy: Any, raw: str, qualifier: str | None = None) -> Any:
    """AddPermission with a new statement id, as long as the policy stays within its size."""
    sid = json.loads(raw).get("StatementId")
    if any(statement.get("Sid") == sid for statement in function_policy.statements):
        raise _ConflictError(
            "ResourceConflictException",
            f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the "
            "existing statement.",
        )
    before = list(function_policy.statements)
    answer = moto(function_policy, raw, qualifier)
    size = len(json.dumps(function_policy.get_policy()["Policy"], separators=(",", ":")).encode())
    if size > POLICY_BYTES:
        function_policy.statements = before
        raise LambdaClientError(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES}).",
        )
    return answer


def create_function(moto: Any, backend: Any, spec: dict[str, Any]) -> Any:
    """CreateFunction with a valid name and settings."""
    name = spec["FunctionName"].rsplit(":", 1)[-1]
    if len(name) > NAME_CHARACTERS:
        raise _constraint_error(name, "functionName", f"length less than or equal to {NAME_CHARACTERS}")
    _check_settings(spec)
    return moto(backend, spec)


def update_function_configuration(
    moto: Any, backend: Any, function_name: str, qualifier: str, body: dict[str, Any]
) -> Any:
    """UpdateFunctionConfiguration with valid settings."""
    _check_settings(body)
    return moto(backend, function_name, qualifier, body)


def put_function_concurrency(
    concurrent_executions: int, moto: Any, backend: Any, function_name: str, reserved_concurrency: str
) -> str:
    """PutFunctionConcurrency that leaves the account its unreserved minimum."""
    others = [f for f in backend.list_functions() if f.function_name != function_name and f.reserved_concurrency]
    unreserved = concurrent_executions - int(reserved_concurrency) - sum(int(f.reserved_concurrency) for f in others)
    minimum = min(UNRESERVED, concurrent_executions)
    if unreserved < minimum:
        raise InvalidParameterValueException(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{minimum}]."
        )
    return moto(backend, function_name, reserved_concurrency)


def _constraint_error(value: Any, path: str, constraint: str) -> LambdaClientError:
    return LambdaClientError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: Member must have "
        f"{constraint}",
    )


def _check_settings(spec: dict[str, Any]) -> None:
    if int(spec.get("Timeout") or 0) > TIMEOUT_SECONDS:
        raise _constraint_error(spec["Timeout"], "timeout", f"value less than or equal to {TIMEOUT_SECONDS}")
    variables = (spec.get("Environment") or {}).get("Variables") or {}
    size = len(json.dumps(variables, separators=(",", ":")).encode())
    if size > ENVIRONMENT_BYTES:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the {ENVIRONMENT_BYTES // 1024}KB limit. String measured: {json.dumps(variables)}"
        )
