"""Constraints of AWS's own service models: lengths, ranges, patterns, sizes of lists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import regex
from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.core.exceptions import ServiceException
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import get_service_model

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="constraints of requests",
    moto="accepts a value of any length and any character for most parameters",
    aws=(
        "each service's model states the length, range and pattern of its parameters, and a request that violates them "
        "is refused before anything is done; a role's name, for example, has at most 64 characters"
    ),
    source=(
        "https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html "
        "https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html "
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"
    ),
)

ERROR_CODES = {
    "autoscaling": "ValidationError",
    "cloudwatch": "ValidationError",
    "elbv2": "ValidationError",
    "iam": "ValidationError",
    "dynamodb": "ValidationException",
    "events": "ValidationException",
    "lambda": "ValidationException",
    "logs": "InvalidParameterException",
    "scheduler": "ValidationException",
    "ssm": "ValidationException",
}
"""Each service's error code for such a request. EC2's and SQS's models state next to nothing."""

_READING_PREFIXES = ("Describe", "Get", "List", "Query", "Scan", "BatchGet", "Filter")
_TOO_FREQUENT = ("PutMetricData", "PutLogEvents")


class RequestError(ServiceException):
    """A service's answer to a request that its model does not allow."""


class ParsedRequest(NamedTuple):
    """A request's model and parameters."""

    model: StructureShape
    parameters: dict[str, Any]


def patch_moto(patches: Patches) -> None:
    """Check every request that changes something against its model before moto sees it."""
    patches.wrap(BaseResponse, "call_action", call_action)


def call_action(moto: Any, response: Any) -> Any:
    """Any request of these services."""
    code = ERROR_CODES.get(response.boto3_service_name)
    action = response._get_action() if code else None
    if code and action and changes_something(action):
        request = parse_request(response, action)
        violations = list(_violations(request.model, request.parameters, "")) if request else []
        if violations:
            plural = "s" if len(violations) > 1 else ""
            message = f"{len(violations)} validation error{plural} detected: {'; '.join(violations)}"
            return refusal(response, RequestError(code, message))
    return moto(response)


def parse_request(response: Any, action: str) -> ParsedRequest | None:
    """Parse a request by its model; None for an operation that the model lacks or that has no parameters."""
    service = get_service_model(response.boto3_service_name)
    if action not in service.operation_names:
        return None
    operation = service.operation_model(action)
    if operation.input_shape is None:
        return None
    request = response.normalized_request
    parser = PROTOCOL_PARSERS[determine_request_protocol(service, request.content_type)](operation, map_type=dict)
    parameters = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": response.uri_match,
        }
    )
    return ParsedRequest(operation.input_shape, parameters)


def changes_something(action: str) -> bool:
    """Return whether the action changes resources. Measurements and log lines are too frequent to be parsed twice."""
    return not action.startswith(_READING_PREFIXES) and action not in _TOO_FREQUENT


def refusal(response: Any, error: ServiceException) -> tuple[int, dict[str, Any], Any]:
    """Return the response that refuses a request."""
    status, headers, body = response.serialized(ActionResult(error))
    return status, {**headers, "status": status}, body


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Yield the model's constraints that `value` violates, in AWS's words."""
    if value is None:
        return
    match shape:
        case StructureShape() if isinstance(value, dict):
            for name, member in shape.members.items():
                inner = f"{name[:1].lower()}{name[1:]}"
                yield from _violations(member, value.get(name), f"{path}.{inner}" if path else inner)
        case ListShape() if isinstance(value, list):
            yield from _size_violations(shape, len(value), value, path)
            for index, item in enumerate(value, 1):
                yield from _violations(shape.member, item, f"{path}.{index}.member")
        case MapShape() if isinstance(value, dict):
            yield from _size_violations(shape, len(value), value, path)
            for key, item in value.items():
                yield from _violations(shape.key, key, f"{path}.key")
                yield from _violations(shape.value, item, f"{path}.{key}.member")
        case _ if shape.type_name == "string" and isinstance(value, str):
            yield from _size_violations(shape, len(value), value, path)
            pattern = shape.metadata.get("pattern")
            if pattern and not _compiled(pattern).fullmatch(value):
                yield _message(value, path, f"satisfy regular expression pattern: {pattern}")
        case _ if shape.type_name in ("integer", "long", "float", "double"):
            yield from _range_violations(shape, float(value), value, path, "value")


def _size_violations(shape: Shape, size: int, value: Any, path: str) -> Iterator[str]:
    yield from _range_violations(shape, size, value, path, "length")


def _range_violations(shape: Shape, number: float, value: Any, path: str, quantity: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and number < low:
        yield _message(value, path, f"have {quantity} greater than or equal to {low}")
    if high is not None and number > high:
        yield _message(value, path, f"have {quantity} less than or equal to {high}")


def _message(value: Any, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    """Compile a Java expression, which counts in UTF-16 and writes a character beyond 16 bits as two."""
    return regex.compile(pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"))
