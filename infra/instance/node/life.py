"""The life of an instance, from its launching hook to its terminating one."""

import time

from . import container, imds
from .drain import drain
from .launch import LaunchWatch, abandon
from .lifecycle_hooks import Hooks
from .node_settings import POLL_SECONDS, TERMINATING_HOOK


def run(clock=time.monotonic, sleep=time.sleep):
    """Bring the instance into service, and drain it when its group ends it."""
    hooks = Hooks(*imds.identity())
    launch = LaunchWatch(hooks)
    while True:
        if imds.leaving():
            if launch.over or container.healthy():
                drain(hooks)
            hooks.complete_until_accepted(TERMINATING_HOOK, "CONTINUE")
            return
        hopeless = launch.turn(clock())
        if hopeless:
            abandon(hooks, hopeless)
            return
        sleep(POLL_SECONDS)
