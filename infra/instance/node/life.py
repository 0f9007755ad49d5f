"""The life of an instance, from its launching hook to its terminating one."""

import time

from . import container, imds
from .drain import drain
from .journal import report
from .launch import LaunchWatch, abandon
from .lifecycle_hooks import Hooks
from .node_settings import POLL_SECONDS, SCRAPE_SECONDS, TERMINATING_HOOK, TRAINING
from .stall import Stall


def run(clock=time.monotonic, sleep=time.sleep):
    """Bring the instance into service, watch it, and drain it when its group ends it."""
    hooks = Hooks(*imds.identity())
    launch, watch = LaunchWatch(hooks), Watch(hooks)
    while True:
        if imds.leaving():
            if launch.over or container.healthy():
                drain(hooks, watch.stall)
            hooks.complete_until_accepted(TERMINATING_HOOK, "CONTINUE")
            return
        hopeless = launch.turn(clock())
        if hopeless:
            abandon(hooks, hopeless)
            return
        if launch.over:
            watch.turn(clock())
        sleep(POLL_SECONDS)


class Watch:
    """Finds the engine frozen while it serves. A training worker's jobs are its own."""

    def __init__(self, hooks):
        self.hooks, self.stall, self._next = hooks, Stall(), 0.0
        self._reported = self._accepted = False

    def turn(self, now):
        """Look, if it is time to."""
        if TRAINING or self._accepted or now < self._next:
            return
        self._next = now + SCRAPE_SECONDS
        frozen_for = self.stall.frozen_for(container.scrape(), now)
        if frozen_for is None:
            return
        if not self._reported:
            self._reported = True
            why = "the engine holds requests, and none of its counters has moved for %.0f s" % frozen_for
            report(self.hooks.instance, unhealthy=why)
        self._accepted = self.hooks.mark_unhealthy()
