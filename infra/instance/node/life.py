"""The life of an instance, from its launching hook to its terminating one."""

import time

from . import container, imds
from .drain import drain
from .lifecycle_hooks import DONE, Hooks
from .node_settings import LAUNCHING_HOOK, POLL_SECONDS, TERMINATING_HOOK


def run(clock=time.monotonic, sleep=time.sleep):
    """Complete the launching hook once the model answers, and drain the instance when its group ends it."""
    hooks, tries = Hooks(*imds.identity()), 0
    while True:
        if imds.leaving():
            drain(hooks, clock, sleep)
            hooks.complete_until_accepted(TERMINATING_HOOK, "CONTINUE")
            return
        if tries < 10 and container.healthy():
            tries = 10 if hooks.complete(LAUNCHING_HOOK, "CONTINUE") == DONE else tries + 1
        sleep(POLL_SECONDS)
