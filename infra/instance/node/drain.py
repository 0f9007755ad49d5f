"""The end of an instance: let it finish what it has in hand."""

import time

from . import container
from .gauges import in_hand
from .journal import report, say
from .node_settings import (
    ENGINE,
    HEARTBEAT_SECONDS,
    IDLE_SECONDS,
    MAX_DRAIN_SECONDS,
    POLL_SECONDS,
    TERMINATING_HOOK,
    TRAINING,
    UNKNOWN_SECONDS,
)


class Work:
    """What a draining engine still has in hand."""

    def __init__(self, instance):
        self._instance, self._unknown_since, self._told = instance, None, False

    def left(self, page, now):
        """Return whether work is left. An engine that does not answer counts as busy, for a while; one whose metrics
        we do not know, until the drain's limit.
        """
        known = self._seen(page)
        if known is not None:
            self._unknown_since = None
            return known
        if self._unknown_since is None:
            self._unknown_since = now
        if now - self._unknown_since < UNKNOWN_SECONDS:
            return True
        say(unknown_for_seconds=round(now - self._unknown_since), taken_for="idle")
        return False

    def _seen(self, page):
        """Return whether the engine is busy; None if it does not answer."""
        if TRAINING:
            return container.stands()
        if page is None:
            return False if container.stands() is False else None
        requests = in_hand(page, ENGINE)
        if requests is None and not self._told:
            self._told = True
            report(self._instance, unknown_metrics="/metrics has no count of requests that we know; taken for busy")
        return requests is None or requests > 0


def drain(hooks, stall, clock=time.monotonic, sleep=time.sleep):
    """Wait until the instance is idle, at most MAX_DRAIN_SECONDS, and stop the engine.

    Inference: the load balancer sends no more requests; nothing must run or wait for IDLE_SECONDS. Then the engine is
    stopped, since the load balancer waits for connections that it keeps open; a frozen engine is stopped at once.
    Training: SIGTERM tells the worker to finish its job and take no other, and its container ends by itself.
    """
    began = beaten = clock()
    work, idle_since = Work(hooks.instance), None
    if TRAINING:
        container.stop()
    while True:
        sleep(POLL_SECONDS)
        now, page = clock(), None if TRAINING else container.scrape()
        if work.left(page, now):
            idle_since = None
        elif idle_since is None:
            idle_since = now
        idle = idle_since is not None and (TRAINING or now - idle_since >= IDLE_SECONDS)
        frozen = stall.frozen_for(page, now) is not None
        if idle or frozen or now - began >= MAX_DRAIN_SECONDS:
            break
        if now - beaten >= HEARTBEAT_SECONDS:
            hooks.heartbeat(TERMINATING_HOOK)
            beaten = now
    say(drained=idle, seconds=round(now - began))
    if (idle or frozen) and not TRAINING:
        container.stop()
