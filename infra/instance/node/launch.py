"""The way into service: keep the launching hook open while the engine makes progress, and complete it."""

import os
import time

from . import boot_phases, container
from .boot_progress import BootProgress, look
from .journal import report, say
from .lifecycle_hooks import DONE, GONE, INACTIVE, pauses
from .node_settings import HEARTBEAT_SECONDS, LAUNCHING_HOOK, STATE_FOLDER

MOST_REFUSALS = 40
"""A hook that is refused so often is over: completed by hand, or the record that we completed it is lost."""

_RECORD = os.path.join(STATE_FOLDER, "launched")


def abandon(hooks, why):
    """Give the launch up: the group ends this instance and launches another."""
    report(hooks.instance, abandoned=why)
    container.stop()
    hooks.complete_until_accepted(LAUNCHING_HOOK, "ABANDON")


class LaunchWatch:
    """The launch of this instance. One that a reboot interrupts goes on; one that is over stays so."""

    def __init__(self, hooks):
        self.hooks = hooks
        self.over = os.path.exists(_RECORD)
        """Whether the launching hook is over, and the instance in service."""
        self._progress, self._beaten, self._next, self._refusals = None, 0.0, 0.0, 0
        self._pauses = pauses()
        self._answered_at = None

    def turn(self, now):
        """Do what is due. Returns why the launch is hopeless, or None."""
        if self.over or now < self._next:
            return None
        if container.healthy():
            self._answered_at = self._answered_at or time.time()
            self._complete(now)
            return None
        if self._progress is None:
            self._progress, self._beaten = BootProgress(look(), now), now
        why = self._progress.hopeless(look(), now)
        if not why and now - self._beaten >= HEARTBEAT_SECONDS:
            self.hooks.heartbeat(LAUNCHING_HOOK)
            self._beaten = now
        return why

    def _complete(self, now):
        answer = self.hooks.complete(LAUNCHING_HOOK, "CONTINUE")
        self._refusals += answer == INACTIVE
        self._next = now + next(self._pauses)
        if answer in (DONE, GONE) or self._refusals >= MOST_REFUSALS:
            self.over = True
            self._record()
        if answer == DONE:
            boot_phases.publish(self.hooks.group, self.hooks.instance, self._answered_at)

    def _record(self):
        try:
            os.makedirs(STATE_FOLDER, exist_ok=True)
            with open(_RECORD, "w"):
                pass
        except OSError as error:
            say(failed="record that the launch is over", error=str(error))
