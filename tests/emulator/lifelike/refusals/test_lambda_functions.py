from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.emulator.lifelike.difference import Patches
from gpu_fleet.emulator.lifelike.refusals import lambda_functions


def allow(account: Any, function: str, statement: str, alarm: str = "alarm") -> None:
    account.functions.add_permission(
        FunctionName=function,
        StatementId=statement,
        Action="lambda:InvokeFunction",
        Principal="lambda.alarms.cloudwatch.amazonaws.com",
        SourceArn=f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{alarm}",
    )


def test_a_policy_has_20480_bytes(account: Any, refused: Any) -> None:
    function = account.function()
    with refused("PolicyLengthExceededException", r"bigger than the limit \(20480\)"):
        for number in range(60):
            allow(account, function, f"statement-{number}", "x" * 100)
    policy = account.functions.get_policy(FunctionName=function)["Policy"]
    assert 19_000 < len(policy) < 24_000
    allow(account, account.function(), "statement")


def test_a_statement_id_is_unique(account: Any, refused: Any) -> None:
    function = account.function()
    allow(account, function, "one")
    with refused("ResourceConflictException", "already exists"):
        allow(account, function, "one")
    allow(account, function, "two")


def test_an_environment_has_4_kilobytes(account: Any, refused: Any) -> None:
    def environment(size: int) -> dict[str, Any]:
        return {"Variables": {"TEXT": "x" * (size - len('{"TEXT":""}'))}}

    with refused("InvalidParameterValueException", "4KB"):
        account.function(Environment=environment(4097))
    function = account.function(Environment=environment(4096))
    with refused("InvalidParameterValueException", "4KB"):
        account.functions.update_function_configuration(FunctionName=function, Environment=environment(4097))


@pytest.mark.parametrize(("account_has", "most"), [(1000, 900), (110, 10), (10, 0)])
def test_reserved_concurrency_leaves_100_to_the_account(
    account: Any, refused: Any, account_has: int, most: int
) -> None:
    function, other = account.function(), account.function()
    with Patches() as patches:
        lambda_functions.patch_moto(patches, account_has)
        with refused("InvalidParameterValueException", "UnreservedConcurrentExecution"):
            account.functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=most + 1)
        account.functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=most)
        with refused("InvalidParameterValueException"):
            account.functions.put_function_concurrency(FunctionName=other, ReservedConcurrentExecutions=1)


def test_a_functions_name_is_unique(account: Any, refused: Any) -> None:
    account.function(FunctionName="one")
    with refused("ResourceConflictException"):
        account.function(FunctionName="one")


@pytest.mark.parametrize("wrong", [{"FunctionName": "x" * 65}, {"Timeout": 901}])
def test_a_name_has_64_characters_and_a_run_15_minutes(account: Any, refused: Any, wrong: dict[str, Any]) -> None:
    with refused("ValidationException", "less than or equal to"):
        account.function(**wrong)
    function = account.function(FunctionName="x" * 64, Timeout=900)
    with refused("ValidationException"):
        account.functions.update_function_configuration(FunctionName=function, Timeout=901)
