"""The life of an instance, from its launching hook to its terminating one."""

import subprocess
import time

from . import container, imds
from .gauges import in_hand
from .journal import report, say
from .node_settings import (
    ENGINE,
    HEARTBEAT_SECONDS,
    LAUNCHING_HOOK,
    MAX_DRAIN_SECONDS,
    POLL_SECONDS,
    TERMINATING_HOOK,
    TRAINING,
)


def _hook(action, name, group, instance):
    where = ["--lifecycle-hook-name", name, "--auto-scaling-group-name", group, "--instance-id", instance]
    extra = ["--lifecycle-action-result", "CONTINUE"] if action == "complete-lifecycle-action" else []
    done = subprocess.run(
        ["aws", "autoscaling", action, *where, *extra], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        say(failed=action, error=done.stderr.strip()[-500:])
    return done.returncode == 0


class Busy:
    """Whether the engine has something in hand. One that does not answer, or whose metrics we do not know, is busy."""

    def __init__(self, instance):
        self._instance, self._told = instance, False

    def now(self):
        """Return whether it has."""
        if TRAINING:
            return container.stands()
        page = container.scrape()
        if page is None:
            return container.stands() is not False
        requests = in_hand(page, ENGINE)
        if requests is None and not self._told:
            self._told = True
            report(self._instance, unknown_metrics="/metrics has no count of requests that we know; taken for busy")
        return requests is None or requests > 0


def _drain(beat, busy):
    """Wait until the instance is idle in two counts, at most MAX_DRAIN_SECONDS."""
    end = time.monotonic() + MAX_DRAIN_SECONDS
    if TRAINING:
        container.stop()
    idle, last = 0, time.monotonic()
    while time.monotonic() < end and idle < 2:
        time.sleep(POLL_SECONDS)
        idle = 0 if busy.now() else idle + 1
        if time.monotonic() - last >= HEARTBEAT_SECONDS:
            beat()
            last = time.monotonic()
    say(drained=idle >= 2)


def run():
    """Complete the launching hook once the model answers; drain on the terminating hook."""
    group, instance = imds.identity()
    tries = 0
    while True:
        if imds.leaving():
            _drain(
                lambda: _hook("record-lifecycle-action-heartbeat", TERMINATING_HOOK, group, instance), Busy(instance)
            )
            _hook("complete-lifecycle-action", TERMINATING_HOOK, group, instance)
            return
        if tries < 10 and container.healthy():
            tries = 10 if _hook("complete-lifecycle-action", LAUNCHING_HOOK, group, instance) else tries + 1
        time.sleep(POLL_SECONDS)
