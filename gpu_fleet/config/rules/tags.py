"""Tags: the keys and values that every AWS service of the stack accepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.naming import POOL_TAG, SERVICE_TAG, STACK_TAG
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.wording import quoted

MAX_TAGS, MAX_KEY, MAX_VALUE = 50, 128, 256
"""https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html#id_tags_naming_best_practices"""

PROGRAM_TAGS = (STACK_TAG, SERVICE_TAG, POOL_TAG, "Name")
"""Tags that the program adds to a pool's resources."""

_KEY = re.compile(r"[A-Za-z0-9+=._:@-]+")
"""Characters that instance metadata shows (letters, digits and + - = . , _ : @,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html) and that IAM accepts too (no comma,
https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html). Instances read their group's name there, and EC2
refuses to launch an instance with any other tag."""


def problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check each key and value, and their number."""
    seen: dict[str, str] = {}
    for key, value in settings.tags.items():
        at = ("tags", key)
        if _KEY.fullmatch(key) is None or key in {".", "..", "_index"}:
            yield PlanProblem(
                at,
                f"must be letters, digits and + - = . _ : @, which instances show in their metadata "
                f"(got {quoted(key)})",
            )
        if len(key) > MAX_KEY:
            yield PlanProblem(at, f"must be a key of at most {MAX_KEY} characters (got {len(key)})")
        if key.lower().startswith("aws:"):
            yield PlanProblem(at, f"must not begin with aws:, which AWS reserves (got {key})")
        if key.lower() in {tag.lower() for tag in PROGRAM_TAGS[:3]}:
            yield PlanProblem(at, f"must not be a tag that the program sets itself (got {key})")
        if key.lower() in seen:
            # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules_creating
            yield PlanProblem(
                at, f"must differ from {seen[key.lower()]} by more than case, which IAM ignores (got {key})"
            )
        seen.setdefault(key.lower(), key)
        if len(value) > MAX_VALUE:
            yield PlanProblem(at, f"must be at most {MAX_VALUE} characters (got {len(value)})")
        if not all(character in "_.:/=+-@" or unicodedata.category(character)[0] in "LNZ" for character in value):
            # https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html
            yield PlanProblem(at, f"must be letters, digits, spaces and _ . : / = + - @ (got {quoted(value)})")
    added = [tag for tag in PROGRAM_TAGS if tag not in settings.tags]
    if len(settings.tags) + len(added) > MAX_TAGS:
        yield PlanProblem(
            ("tags",),
            f"must be at most {MAX_TAGS - len(added)} tags: a resource has {MAX_TAGS}, and the program adds "
            f"{len(added)} (got {len(settings.tags)})",
        )
