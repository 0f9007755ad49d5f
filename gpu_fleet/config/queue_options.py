"""The options by which an engine bounds its queue, set from the policy unless the user has set them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gpu_fleet.config.engines import QueueOption, queue_options
from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.policy import Overload, Policy
from gpu_fleet.scaling.queue_limit import UNLIMITED, QueueLimit, queue_limit
from gpu_fleet.scaling.service import Alternative, Pool

_COUNTED = {
    QueueOption.VLLM_REQUESTS: "requests",
    QueueOption.VLLM_TOKENS: "prompt_tokens",
    QueueOption.SGLANG_WAITING: "waiting",
}
"""The field of `QueueLimit` that an option sets."""


def has_argument(args: Sequence[str], option: QueueOption) -> bool:
    """Return whether the user has set the option, by any spelling that argparse takes for it."""
    spellings = (option, option.replace("-", "_").replace("__", "--", 1))
    return any(arg.partition("=")[0] in spellings for arg in args)


def as_served(policy: Policy, image: str) -> Policy:
    """Return the policy as this image can keep it: an engine without such an option refuses nothing."""
    if not policy.overload.refuse or queue_options(image):
        return policy
    return policy.model_copy(update={"overload": Overload(refuse=False)})


def counted(limit: QueueLimit, options: Iterable[QueueOption]) -> QueueLimit:
    """Return the limit as an engine keeps it that has these options: what it does not count is without limit."""
    fields = [_COUNTED[option] for option in options]
    return replace(UNLIMITED, **{field: getattr(limit, field) for field in fields})


def bounded(container: Container, policy: Policy, pool: Pool) -> Container:
    """Return the container of the pool's instances, with its engine's queue bounded unless the user has done so.

    Who sets one of an engine's options sets them all. All types of a pool boot alike. Where they change in place, the
    fastest counts: the others let requests wait longer, and none refuses what it would serve in time.
    """
    options = queue_options(container.image)
    if any(has_argument(container.args, option) for option in options):
        return container
    bounds = {option: _bound(option, policy, pool) for option in options}
    args = [word for option, bound in bounds.items() if bound is not None for word in (option.value, str(bound))]
    return container.model_copy(update={"args": (*container.args, *args)}) if args else container


def _bound(option: QueueOption, policy: Policy, pool: Pool) -> int | None:
    """Return the option's value for the pool's instances; None for no bound."""
    bounds = [_bound_of(option, policy, kind) for kind in pool.kinds]
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def _bound_of(option: QueueOption, policy: Policy, kind: Alternative) -> int | None:
    if kind.speed is None:
        return None
    bound = getattr(queue_limit(policy, kind.speed), _COUNTED[option])
    per_copy = option is QueueOption.SGLANG_WAITING
    return None if bound is None else bound * (1 if per_copy else kind.copies)
