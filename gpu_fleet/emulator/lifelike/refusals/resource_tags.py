"""Tags of EC2, Elastic Load Balancing and Auto Scaling: their number, length, and keys reserved for AWS."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from moto.core.responses import BaseResponse

from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.refusals.requests import RequestError, changes_something, parse_request, refusal

DIFFERENCE = Difference(
    name="tags",
    moto="accepts tags of any number and length, a key twice, and keys that begin with aws:",
    aws=(
        "a resource has at most 50 tags; a key has at most 128 characters, is unique and does not begin with aws:, a "
        "value has at most 256"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-tags.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html"
    ),
)

MAX_TAGS, KEY_CHARACTERS, VALUE_CHARACTERS = 50, 128, 256


class _Codes(NamedTuple):
    """A service's error codes."""

    too_many: str
    duplicate: str
    invalid: str


_SERVICES = {
    "ec2": _Codes("TagLimitExceeded", "InvalidParameterValue", "InvalidParameterValue"),
    "elbv2": _Codes("TooManyTags", "DuplicateTagKeys", "ValidationError"),
    "autoscaling": _Codes("ValidationError", "ValidationError", "ValidationError"),
}
"""Services whose models do not state these limits; `requests` checks the others."""


def patch_moto(patches: Patches) -> None:
    """Check tags before moto acts."""
    patches.wrap(BaseResponse, "call_action", call_action)


def call_action(moto: Any, response: Any) -> Any:
    """Any request that sets tags."""
    codes = _SERVICES.get(response.boto3_service_name)
    action = response._get_action() if codes else None
    if codes and action and changes_something(action) and not action.startswith(("Delete", "Remove")):
        request = parse_request(response, action)
        for tags in _tag_lists(request.parameters) if request else ():
            error = _check(tags, codes)
            if error:
                return refusal(response, error)
    return moto(response)


def _tag_lists(parameters: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the tags of each resource that the request tags now or, by a launch template, later."""
    template = parameters.get("LaunchTemplateData") or {}
    specifications = [*(parameters.get("TagSpecifications") or []), *(template.get("TagSpecifications") or [])]
    return [parameters.get("Tags") or [], *(specification.get("Tags") or [] for specification in specifications)]


def _check(tags: list[dict[str, Any]], codes: _Codes) -> RequestError | None:
    if len(tags) > MAX_TAGS:
        return RequestError(codes.too_many, "The maximum number of Tags for a resource has been reached.")
    # A group's tag also names its resource; a TagSpecification covers a single resource.
    counts = Counter((tag.get("ResourceId"), tag["Key"]) for tag in tags)
    for (_, key), count in counts.items():
        if count > 1:
            return RequestError(codes.duplicate, f"Duplicate tag key '{key}' specified.")
    for tag in tags:
        key, value = tag["Key"], tag.get("Value") or ""
        if key.lower().startswith("aws:"):
            return RequestError(codes.invalid, "Tag keys starting with 'aws:' are reserved for internal use")
        if not 1 <= len(key) <= KEY_CHARACTERS:
            return RequestError(codes.invalid, f"Tag key exceeds the maximum length of {KEY_CHARACTERS} characters")
        if len(value) > VALUE_CHARACTERS:
            return RequestError(codes.invalid, f"Tag value exceeds the maximum length of {VALUE_CHARACTERS} characters")
    return None
