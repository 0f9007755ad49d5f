"""The resource policy of a Lambda function: moto stores it and never applies it."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any


def may_invoke(client: Any, function_arn: str, principal: str, source_arn: str) -> bool:
    """Return whether the function's policy lets this AWS service invoke it on behalf of this resource.

    `client` is a Lambda client. Sources match as patterns with * and ?:
    https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
    """
    try:
        policy = json.loads(client.get_policy(FunctionName=function_arn)["Policy"])
    except client.exceptions.ResourceNotFoundException:
        return False
    return any(_allows(statement, principal, source_arn) for statement in policy["Statement"])


def _allows(statement: dict[str, Any], principal: str, source_arn: str) -> bool:
    context = {"aws:sourcearn": source_arn, "aws:sourceaccount": source_arn.split(":")[4]}
    return (
        statement["Effect"] == "Allow"
        and statement["Action"] == "lambda:InvokeFunction"
        and statement["Principal"] == {"Service": principal}
        and all(
            fnmatchcase(context[key.lower()], pattern)
            for keys in statement.get("Condition", {}).values()
            for key, pattern in keys.items()
        )
    )
