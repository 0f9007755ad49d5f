"""Tags of EC2, Elastic Load Balancing and Auto Scaling: how many, how long, and which are AWS's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from moto.core.responses import BaseResponse

from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.refusals.requests import RequestError, changes_something, parsed, refused

DIFFERENCE = Difference(
    name="tags",
    moto="takes tags of any number and length, a key twice, and keys that begin with aws:",
    aws=(
        "a resource has at most 50 tags; a key has 128 characters, is there once and does not begin with aws:, a value "
        "has 256"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-tags.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html"
    ),
)

MOST_TAGS, KEY_CHARACTERS, VALUE_CHARACTERS = 50, 128, 256

_SERVICES = {
    "ec2": {"many": "TagLimitExceeded", "twice": "InvalidParameterValue", "other": "InvalidParameterValue"},
    "elbv2": {"many": "TooManyTags", "twice": "DuplicateTagKeys", "other": "ValidationError"},
    "autoscaling": {"many": "ValidationError", "twice": "ValidationError", "other": "ValidationError"},
}
"""Error codes; the services whose models state all of this are held by `requests`."""


def mend(patches: Patches) -> None:
    """Check before moto acts."""

    def call_action(self: Any) -> Any:
        codes = _SERVICES.get(self.boto3_service_name)
        action = self._get_action() if codes else None
        if codes and action and changes_something(action) and not action.startswith(("Delete", "Remove")):
            request = parsed(self, action)
            for tags in _tags(request[1]) if request else ():
                wrong = _wrong(tags)
                if wrong:
                    return refused(self, RequestError(codes[wrong[0]], wrong[1]))
        return moto_call(self)

    moto_call = patches.put(BaseResponse, "call_action", call_action)


def _tags(given: dict[str, Any]) -> Sequence[list[dict[str, Any]]]:
    """The tags of each thing that the request tags, of what a launch template will tag too."""
    template = given.get("LaunchTemplateData") or {}
    specifications = [*(given.get("TagSpecifications") or []), *(template.get("TagSpecifications") or [])]
    return [given.get("Tags") or [], *(one.get("Tags") or [] for one in specifications)]


def _wrong(tags: list[dict[str, Any]]) -> tuple[str, str] | None:
    if len(tags) > MOST_TAGS:
        return "many", "The maximum number of Tags for a resource has been reached."
    # A group's tag is named by its resource too: TagSpecifications hold one resource each.
    counts = Counter((tag.get("ResourceId"), tag["Key"]) for tag in tags)
    for (_, key), count in counts.items():
        if count > 1:
            return "twice", f"Duplicate tag key '{key}' specified."
    for tag in tags:
        key, value = tag["Key"], tag.get("Value") or ""
        if key.lower().startswith("aws:"):
            return "other", "Tag keys starting with 'aws:' are reserved for internal use"
        if not 1 <= len(key) <= KEY_CHARACTERS:
            return "other", f"Tag key exceeds the maximum length of {KEY_CHARACTERS} characters"
        if len(value) > VALUE_CHARACTERS:
            return "other", f"Tag value exceeds the maximum length of {VALUE_CHARACTERS} characters"
    return None
