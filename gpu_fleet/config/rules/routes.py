"""Routes: the listener rules that lead requests to services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from gpu_fleet.config.document import shown
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.rules import each
from gpu_fleet.config.settings import ServiceSettings, StackSettings

MOST_VALUES, MOST_WILDCARDS, MOST_TARGET_GROUPS = 5, 6, 100
"""Of one rule, of one rule, of one load balancer; none can be raised:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""

_PATH = re.compile(r"/[A-Za-z0-9_\-.$/~\"'@:+&;*?]{0,127}")
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html#path-conditions"""

_HOST = re.compile(r"[A-Za-z0-9\-_.*?]*\.[A-Za-z*?]+")
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_HostHeaderConditionConfig.html"""

At = tuple[str | int, ...]


def path_problems(at: At, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Each path pattern."""
    for i, path in enumerate(service.paths):
        here = (*at, "paths", i)
        if not path.startswith("/"):
            yield PlanProblem(here, f"must be a path pattern that begins with / (got {shown(path)})")
        elif _PATH.fullmatch(path) is None:
            yield PlanProblem(
                here,
                f"must be at most 128 letters, digits and _ - . $ / ~ \" ' @ : + & ;, with * and ? as wildcards "
                f"(got {shown(path)})",
            )
        if path in service.paths[:i]:
            yield PlanProblem(here, f"must be given once (got {path} twice)")


def host_problems(at: At, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Each host name."""
    for i, host in enumerate(service.hosts):
        here = (*at, "hosts", i)
        if "/" in host or ":" in host:
            yield PlanProblem(here, f"must be a host's name alone, without scheme, port or path (got {shown(host)})")
        elif _HOST.fullmatch(host) is None or len(host) > 128:
            yield PlanProblem(
                here,
                f"must be a host's name of at most 128 letters, digits and - . with letters behind its last ., "
                f"* and ? as wildcards (got {shown(host)})",
            )
        if host.lower() in (earlier.lower() for earlier in service.hosts[:i]):
            yield PlanProblem(here, f"must be given once (got {host} twice)")


def count_problems(at: At, service: ServiceSettings) -> Iterator[PlanProblem]:
    """One rule takes so many values and wildcards, and needs a priority."""
    values = (*service.paths, *service.hosts)
    if len(values) > MOST_VALUES:
        yield PlanProblem(
            (*at, "paths"),
            f"must be at most {MOST_VALUES} together with hosts, the values of one listener rule (got {len(values)})",
        )
    wildcards = sum(value.count("*") + value.count("?") for value in values)
    if wildcards > MOST_WILDCARDS:
        yield PlanProblem(
            (*at, "paths"),
            f"must have at most {MOST_WILDCARDS} wildcards together with hosts, those of one listener rule "
            f"(got {wildcards})",
        )
    if values and service.priority is None:
        yield PlanProblem((*at, "priority"), "must be given where the service has paths or hosts")


def balancer_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """One load balancer takes so many target groups; services without paths and hosts (training) have none."""
    groups = sum(
        len(each.pools(service))
        for _, service in each.services(settings)
        if getattr(service, "paths", ()) or getattr(service, "hosts", ())
    )
    if groups > MOST_TARGET_GROUPS:
        yield PlanProblem(
            ("services",),
            f"must have at most {MOST_TARGET_GROUPS} pools together, the target groups of one load balancer; share "
            f"them out over stacks (got {groups})",
        )


def priority_problems(earlier: str, name: str, settings: StackSettings) -> Iterator[PlanProblem]:
    """No two rules have one priority."""
    priority = settings.services[name].priority
    if priority is not None and priority == settings.services[earlier].priority:
        yield PlanProblem(("services", name, "priority"), f"must differ from that of {earlier} (got {priority})")


def shadow_problems(first: str, name: str, settings: StackSettings) -> Iterator[PlanProblem]:
    """What another rule takes before it: `first` is asked first, and `name` gets what is left."""
    one, two = settings.services[first], settings.services[name]
    if one.priority is None or two.priority is None or one.priority >= two.priority:
        return
    if not (one.paths or one.hosts) or not (two.paths or two.hosts):
        return
    hosts = tuple(map(str.lower, one.hosts))
    dead_hosts = [i for i, host in enumerate(two.hosts) if _covered(host.lower(), hosts)]
    dead_paths = [i for i, path in enumerate(two.paths) if _covered(path, one.paths)]
    all_hosts = not hosts or (bool(two.hosts) and len(dead_hosts) == len(two.hosts))
    all_paths = not one.paths or (bool(two.paths) and len(dead_paths) == len(two.paths))
    said = f"never gets a request: services.{first}, asked first by its priority {one.priority}, takes all of them"
    if all_hosts and two.paths:
        for i in dead_paths if one.paths else range(len(two.paths)):
            yield PlanProblem(("services", name, "paths", i), f"{said} (got {two.paths[i]})")
    elif all_paths and two.hosts:
        for i in dead_hosts if hosts else range(len(two.hosts)):
            yield PlanProblem(("services", name, "hosts", i), f"{said} (got {two.hosts[i]})")


def _covered(pattern: str, by: Sequence[str]) -> bool:
    return any(covers(broad, pattern) for broad in by)


@cache
def covers(broad: str, narrow: str) -> bool:
    """Whether everything that `narrow` matches is matched by `broad` too: /v1/* covers /v1/chat*, not /v?/*."""
    if not broad:
        return not narrow
    if broad[0] == "*":
        return covers(broad[1:], narrow) or (bool(narrow) and covers(broad, narrow[1:]))
    if not narrow or narrow[0] == "*":
        # A star of the narrow pattern may also stand for nothing, but then for something longer as well.
        return False
    return (broad[0] == "?" or broad[0] == narrow[0]) and covers(broad[1:], narrow[1:])
