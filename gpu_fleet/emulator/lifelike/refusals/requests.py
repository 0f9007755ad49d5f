"""What a request may say, as AWS's own service models state it: lengths, ranges, patterns, sizes of lists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

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
    moto="takes a value of any length and any character for most parameters",
    aws=(
        "each service's model states the length, range and pattern of its parameters, and a request beyond them is "
        "refused before anything is done; a role's name, for one, has at most 64 characters"
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
"""What each service calls such a request. EC2's and SQS's models state next to nothing."""

_READS = ("Describe", "Get", "List", "Query", "Scan", "BatchGet", "Filter")
_OFTEN = ("PutMetricData", "PutLogEvents")


class RequestError(ServiceException):
    """What a service answers to a request that its model does not allow."""


def mend(patches: Patches) -> None:
    """Hold each request that changes something against its model before moto sees it."""

    def call_action(self: Any) -> Any:
        code = ERROR_CODES.get(self.boto3_service_name)
        action = self._get_action() if code else None
        if code and action and changes_something(action):
            request = parsed(self, action)
            wrong = list(_complaints(*request, "")) if request else []
            if wrong:
                several = "s" if len(wrong) > 1 else ""
                text = f"{len(wrong)} validation error{several} detected: {'; '.join(wrong)}"
                return refused(self, RequestError(code, text))
        return moto_call(self)

    moto_call = patches.put(BaseResponse, "call_action", call_action)


def parsed(response: Any, action: str) -> tuple[StructureShape, dict[str, Any]] | None:
    """A request's model and what it says; None for an operation that the model does not know or that takes nothing."""
    service = get_service_model(response.boto3_service_name)
    if action not in service.operation_names:
        return None
    operation = service.operation_model(action)
    if operation.input_shape is None:
        return None
    request = response.normalized_request
    parser = PROTOCOL_PARSERS[determine_request_protocol(service, request.content_type)](operation, map_type=dict)
    given = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": response.uri_match,
        }
    )
    return operation.input_shape, given


def changes_something(action: str) -> bool:
    """Whether what stands may be another afterwards. Measurements and log lines come too often to be read twice."""
    return not action.startswith(_READS) and action not in _OFTEN


def refused(response: Any, error: ServiceException) -> tuple[int, dict[str, Any], Any]:
    """The answer that refuses a request."""
    status, headers, body = response.serialized(ActionResult(error))
    return status, {**headers, "status": status}, body


def _complaints(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What the model does not allow in `value`, in AWS's words."""
    if value is None:
        return
    match shape:
        case StructureShape() if isinstance(value, dict):
            for name, member in shape.members.items():
                inner = f"{name[:1].lower()}{name[1:]}"
                yield from _complaints(member, value.get(name), f"{path}.{inner}" if path else inner)
        case ListShape() if isinstance(value, list):
            yield from _size(shape, len(value), value, path)
            for place, one in enumerate(value, 1):
                yield from _complaints(shape.member, one, f"{path}.{place}.member")
        case MapShape() if isinstance(value, dict):
            yield from _size(shape, len(value), value, path)
            for key, one in value.items():
                yield from _complaints(shape.key, key, f"{path}.key")
                yield from _complaints(shape.value, one, f"{path}.{key}.member")
        case _ if shape.type_name == "string" and isinstance(value, str):
            yield from _size(shape, len(value), value, path)
            pattern = shape.metadata.get("pattern")
            if pattern and not _compiled(pattern).fullmatch(value):
                yield _said(value, path, f"satisfy regular expression pattern: {pattern}")
        case _ if shape.type_name in ("integer", "long", "float", "double"):
            low, high = shape.metadata.get("min"), shape.metadata.get("max")
            if low is not None and float(value) < low:
                yield _said(value, path, f"have value greater than or equal to {low}")
            if high is not None and float(value) > high:
                yield _said(value, path, f"have value less than or equal to {high}")


def _size(shape: Shape, size: int, value: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _said(value, path, f"have length greater than or equal to {low}")
    if high is not None and size > high:
        yield _said(value, path, f"have length less than or equal to {high}")


def _said(value: Any, path: str, must: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {must}"


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    """Java's expression, which counts in UTF-16 and says one character beyond 16 bits as two."""
    return regex.compile(pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"))
