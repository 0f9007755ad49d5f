"""Tags: what each AWS service of the stack takes of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from gpu_fleet.config.document import shown
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.naming import POOL_TAG, SERVICE_TAG, STACK_TAG
from gpu_fleet.config.settings import StackSettings

MOST, MOST_KEY, MOST_VALUE = 50, 128, 256
"""https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html#id_tags_naming_best_practices"""

OWN = (STACK_TAG, SERVICE_TAG, POOL_TAG, "Name")
"""What the program adds to a pool's resources."""

_KEY = re.compile(r"[A-Za-z0-9+=._:@-]+")
"""What instance metadata shows (letters, digits and + - = . , _ : @,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html) and IAM takes too (no comma,
https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html). Instances read their group's name there, and EC2
refuses to launch one with another tag."""


def problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Each key and value, and all together."""
    seen: dict[str, str] = {}
    for key, value in settings.tags.items():
        at = ("tags", key)
        if _KEY.fullmatch(key) is None or key in {".", "..", "_index"}:
            yield PlanProblem(
                at,
                f"must be letters, digits and + - = . _ : @, which instances show in their metadata (got {shown(key)})",
            )
        if len(key) > MOST_KEY:
            yield PlanProblem(at, f"must be a key of at most {MOST_KEY} characters (got {len(key)})")
        if key.lower().startswith("aws:"):
            yield PlanProblem(at, f"must not begin with aws:, which is AWS's own (got {key})")
        if key.lower() in {own.lower() for own in OWN[:3]}:
            yield PlanProblem(at, f"must not be a tag that the program sets itself (got {key})")
        if key.lower() in seen:
            # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules_creating
            yield PlanProblem(
                at, f"must differ from {seen[key.lower()]} by more than case, which IAM does not tell apart (got {key})"
            )
        seen.setdefault(key.lower(), key)
        if len(value) > MOST_VALUE:
            yield PlanProblem(at, f"must be at most {MOST_VALUE} characters (got {len(value)})")
        if not all(character in "_.:/=+-@" or unicodedata.category(character)[0] in "LNZ" for character in value):
            # https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html
            yield PlanProblem(at, f"must be letters, digits, spaces and _ . : / = + - @ (got {shown(value)})")
    added = [own for own in OWN if own not in settings.tags]
    if len(settings.tags) + len(added) > MOST:
        yield PlanProblem(
            ("tags",),
            f"must be at most {MOST - len(added)} tags: a resource has {MOST}, and the program adds {len(added)} "
            f"(got {len(settings.tags)})",
        )
