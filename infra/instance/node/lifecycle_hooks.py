"""The group's lifecycle hooks, completed and kept open by the AWS CLI.

AWS refuses an action that is not active, with the same words before it begins and after its end: a terminating hook
begins only when the load balancer has let go of the instance.
https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
"""

import itertools
import subprocess
import time

from .journal import say
from .node_settings import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS

DONE, INACTIVE, GONE, FAILED = "done", "inactive", "gone", "failed"
"""Accepted; not begun or over; the group does not exist any more; anything else."""


def pauses():
    """Yield the seconds to wait after each try: doubling, up to the longest."""
    for tries in itertools.count():
        yield min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(tries, 16))


class Hooks:
    """The hooks of one instance."""

    def __init__(self, group, instance):
        self.group, self.instance, self._last = group, instance, ""

    def complete(self, hook, result):
        """Try once to complete a hook with CONTINUE or ABANDON; return one of the four answers."""
        return self._call("complete-lifecycle-action", hook, "--lifecycle-action-result", result)

    def complete_until_accepted(self, hook, result, sleep=time.sleep):
        """Complete a hook, however long AWS takes to begin it. If it never does, the instance ends meanwhile."""
        for pause in pauses():
            if self.complete(hook, result) in (DONE, GONE):
                return
            sleep(pause)

    def heartbeat(self, hook):
        """Restart the hook's timeout; return one of the four answers."""
        return self._call("record-lifecycle-action-heartbeat", hook)

    def mark_unhealthy(self):
        """Let the group replace the instance; return whether AWS accepted it."""
        return self._aws("set-instance-health", "--instance-id", self.instance, "--health-status", "Unhealthy") == DONE

    def _call(self, action, hook, *more):
        where = ["--auto-scaling-group-name", self.group, "--instance-id", self.instance]
        return self._aws(action, "--lifecycle-hook-name", hook, *where, *more)

    def _aws(self, *words):
        try:
            done = subprocess.run(
                ["aws", "autoscaling", *words], capture_output=True, text=True, timeout=120, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return self._failed(FAILED, words, str(error))
        if done.returncode == 0:
            self._last = ""
            return DONE
        error = done.stderr.strip()[-500:]
        if "No active Lifecycle Action" in error:
            return self._failed(INACTIVE, words, error)
        return self._failed(GONE if "AutoScalingGroup name not found" in error else FAILED, words, error)

    def _failed(self, answer, words, error):
        """Say an error once, not at each try."""
        if error != self._last:
            say(failed=" ".join(words), error=error)
            self._last = error
        return answer
