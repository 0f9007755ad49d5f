"""The option by which an engine bounds its queue, known from the container's image.

An engine ends at an option that it does not know, so only images whose tag tells a version that has it count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.profile import Speed
from gpu_fleet.scaling.queue_limit import max_queued_requests, max_queued_tokens
from gpu_fleet.scaling.service import Alternative, Pool


class QueueOption(StrEnum):
    """An engine's option; what is over gets 503."""

    VLLM = "--max-num-queued-tokens"
    """Prompt tokens of the requests that have no first token yet, over all copies of the model. From 0.29:
    https://github.com/vllm-project/vllm/pull/49445"""
    SGLANG = "--max-queued-requests"
    """Requests that wait, for each copy. Merged in July 2025 (https://github.com/sgl-project/sglang/pull/7565), so in
    every 0.5."""


_FIRST = {
    "vllm/vllm-openai": (QueueOption.VLLM, (0, 29)),
    "lmsysorg/sglang": (QueueOption.SGLANG, (0, 5)),
}
_TAG = re.compile(r"v(\d+)(?:\.(\d+))?(?:\D.*)?")


def queue_option(image: str) -> QueueOption | None:
    """Return the option of an image's engine; None where the image does not tell that its engine has one."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    version = _TAG.fullmatch(tag)
    for repository, (option, first) in _FIRST.items():
        # Also behind a registry of one's own, such as a pull-through cache.
        if version and f"/{name}".endswith(f"/{repository}") and (int(version[1]), int(version[2] or 0)) >= first:
            return option
    return None


def has_argument(args: Sequence[str], option: QueueOption) -> bool:
    """Return whether the user has set the option, by any spelling that argparse takes for it."""
    spellings = (option, option.replace("-", "_").replace("__", "--", 1))
    return any(arg.partition("=")[0] in spellings for arg in args)


def as_served(policy: Policy, image: str) -> Policy:
    """Return the policy as this image can keep it: an engine without such an option refuses nothing."""
    if not policy.overload.refuse or queue_option(image) is not None:
        return policy
    return policy.model_copy(update={"overload": policy.overload.model_copy(update={"refuse": False})})


def bounded(container: Container, policy: Policy, pool: Pool) -> Container:
    """Return the container of the pool's instances, with its engine's queue bounded unless the user has done so.

    All types of a pool boot alike. Where they change in place, the fastest counts: the others let requests wait longer,
    and none refuses what it would serve in time.
    """
    option = queue_option(container.image)
    if option is None or has_argument(container.args, option):
        return container
    bounds = [_bound(option, policy, kind, kind.speed) for kind in pool.kinds if kind.speed is not None]
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return container
    return container.model_copy(update={"args": (*container.args, option.value, str(max(known)))})


def _bound(option: QueueOption, policy: Policy, kind: Alternative, speed: Speed) -> int | None:
    if option is QueueOption.SGLANG:
        return max_queued_requests(policy, speed)
    tokens = max_queued_tokens(policy, speed)
    return None if tokens is None else tokens * kind.copies
