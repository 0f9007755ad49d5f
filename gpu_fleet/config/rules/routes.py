"""Routes: the listener rules that lead requests to services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.rules import each
from gpu_fleet.config.settings import ServiceSettings, StackSettings
from gpu_fleet.config.wording import quoted

MAX_VALUES, MAX_WILDCARDS, MAX_BALANCER_TARGET_GROUPS = 5, 6, 100
"""Limits of a rule, a rule, and a load balancer; AWS raises none of them:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""

_PATH = re.compile(r"/[A-Za-z0-9_\-.$/~\"'@:+&;*?]{0,127}")
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html#path-conditions"""

_HOST = re.compile(r"[A-Za-z0-9\-_.*?]*\.[A-Za-z*?]+")
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_HostHeaderConditionConfig.html"""


def path_problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check each path pattern."""
    for i, path in enumerate(service.paths):
        here = (*at, "paths", i)
        if not path.startswith("/"):
            yield PlanProblem(here, f"must be a path pattern that begins with / (got {quoted(path)})")
        elif _PATH.fullmatch(path) is None:
            yield PlanProblem(
                here,
                f"must be at most 128 letters, digits and _ - . $ / ~ \" ' @ : + & ;, with * and ? as wildcards "
                f"(got {quoted(path)})",
            )
        if path in service.paths[:i]:
            yield PlanProblem(here, f"must be given once (got {path} twice)")


def host_problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check each host name."""
    for i, host in enumerate(service.hosts):
        here = (*at, "hosts", i)
        if "/" in host or ":" in host:
            yield PlanProblem(here, f"must be a host's name alone, without scheme, port or path (got {quoted(host)})")
        elif _HOST.fullmatch(host) is None or len(host) > 128:
            yield PlanProblem(
                here,
                f"must be a host's name of at most 128 letters, digits and - . with letters after its last ., "
                f"* and ? as wildcards (got {quoted(host)})",
            )
        if host.lower() in (earlier.lower() for earlier in service.hosts[:i]):
            yield PlanProblem(here, f"must be given once (got {host} twice)")


def count_problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check a listener rule's number of values and wildcards, and its priority."""
    values = (*service.paths, *service.hosts)
    if len(values) > MAX_VALUES:
        yield PlanProblem(
            (*at, "paths"),
            f"must be at most {MAX_VALUES} together with hosts, the values of one listener rule (got {len(values)})",
        )
    wildcards = sum(value.count("*") + value.count("?") for value in values)
    if wildcards > MAX_WILDCARDS:
        yield PlanProblem(
            (*at, "paths"),
            f"must have at most {MAX_WILDCARDS} wildcards together with hosts, those of one listener rule "
            f"(got {wildcards})",
        )
    if values and service.priority is None:
        yield PlanProblem((*at, "priority"), "must be given where the service has paths or hosts")


def balancer_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check the load balancer's number of target groups; services without paths and hosts (training) have none."""
    groups = sum(
        len(each.pools(service))
        for _, service in each.services(settings)
        if getattr(service, "paths", ()) or getattr(service, "hosts", ())
    )
    if groups > MAX_BALANCER_TARGET_GROUPS:
        yield PlanProblem(
            ("services",),
            f"must have at most {MAX_BALANCER_TARGET_GROUPS} pools together, the target groups of one load balancer; "
            f"split them over several stacks (got {groups})",
        )


def priority_problems(earlier: str, name: str, settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that two rules have different priorities."""
    priority = settings.services[name].priority
    if priority is not None and priority == settings.services[earlier].priority:
        yield PlanProblem(("services", name, "priority"), f"must differ from that of {earlier} (got {priority})")


def shadow_problems(first: str, name: str, settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that service `first` does not take all requests that a path or host of service `name` matches."""
    earlier, later = settings.services[first], settings.services[name]
    if earlier.priority is None or later.priority is None or earlier.priority >= later.priority:
        return
    if not (earlier.paths or earlier.hosts) or not (later.paths or later.hosts):
        return
    earlier_hosts = tuple(map(str.lower, earlier.hosts))
    dead_hosts = [i for i, host in enumerate(later.hosts) if _covered(host.lower(), earlier_hosts)]
    dead_paths = [i for i, path in enumerate(later.paths) if _covered(path, earlier.paths)]
    all_hosts = not earlier_hosts or (bool(later.hosts) and len(dead_hosts) == len(later.hosts))
    all_paths = not earlier.paths or (bool(later.paths) and len(dead_paths) == len(later.paths))
    text = f"never gets a request: services.{first}, asked first by its priority {earlier.priority}, takes all of them"
    if all_hosts and later.paths:
        for i in dead_paths if earlier.paths else range(len(later.paths)):
            yield PlanProblem(("services", name, "paths", i), f"{text} (got {later.paths[i]})")
    elif all_paths and later.hosts:
        for i in dead_hosts if earlier_hosts else range(len(later.hosts)):
            yield PlanProblem(("services", name, "hosts", i), f"{text} (got {later.hosts[i]})")


def _covered(pattern: str, patterns: Sequence[str]) -> bool:
    return any(covers(broad, pattern) for broad in patterns)


@cache
def covers(broad: str, narrow: str) -> bool:
    """Whether `broad` matches everything that `narrow` matches: /v1/* covers /v1/chat* but not /v?/*."""
    if not broad:
        return not narrow
    if broad[0] == "*":
        return covers(broad[1:], narrow) or (bool(narrow) and covers(broad, narrow[1:]))
    if not narrow or narrow[0] == "*":
        # A star of the narrow pattern may match nothing, but it matches longer texts as well.
        return False
    return (broad[0] == "?" or broad[0] == narrow[0]) and covers(broad[1:], narrow[1:])
