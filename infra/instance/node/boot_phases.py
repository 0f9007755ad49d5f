"""How long each phase of this instance's boot took: it is published once, when the group takes the instance in.

The phases follow one another from the launch to the engine's first answer, so their sum is the time in between. What
comes after it, until the load balancer sends requests, the instance cannot know.
"""

from __future__ import annotations

import json
import os
import subprocess

from . import container, imds
from .engine_metrics import named
from .journal import report, say
from .node_settings import ENGINE, STATE_FOLDER

NAMESPACE, METRIC = "GpuFleet", "boot_seconds"

PHASES = ("running", "agent", "image", "weights", "engine")
"""By the end of each: the kernel starts; the boot script has installed everything, the CloudWatch agent last; the image
is pulled; the weights are loaded; the engine answers its health check."""


def durations(ends):
    """Return the seconds of each phase; `ends` are times by phase, and that of the launch as "launch".

    What is not known is left out, and the phase after it counts from the last end that is known: an engine whose log
    does not tell when its weights were loaded has both in "engine".
    """
    began, seconds = ends.get("launch"), {}
    for phase in PHASES:
        end = ends.get(phase)
        if end is None or (began is not None and end < began):
            continue
        if began is not None:
            seconds[phase] = round(end - began, 1)
        began = end
    return seconds


def publish(group, instance, answered_at):
    """Publish the phases of a launch whose engine first answered then. Best effort: a launch is worth more than this.

    Not through the CloudWatch agent: it would add the phases up for its other dimensions, and may be missing.
    """
    known = named(ENGINE)
    ends = {
        "launch": imds.launched_at(),
        **{mark: _touched_at(mark) for mark in ("running", "agent", "image")},
        "weights": container.logged_at(known.weights_loaded) if known and known.weights_loaded else None,
        "engine": answered_at,
    }
    seconds = durations(ends)
    report(instance, boot_seconds=seconds)
    data = [
        {
            "MetricName": METRIC, "Value": value, "Unit": "Seconds",
            "Dimensions": [{"Name": "AutoScalingGroupName", "Value": group}, {"Name": "phase", "Value": phase}],
        }
        for phase, value in seconds.items()
    ]  # fmt: skip
    words = ["aws", "cloudwatch", "put-metric-data", "--namespace", NAMESPACE, "--metric-data", json.dumps(data)]
    try:
        subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        say(failed=METRIC, error=str(getattr(error, "stderr", "") or error)[-500:])


def _touched_at(mark):
    """Return when the boot script made this mark; None without it."""
    try:
        return os.path.getmtime(os.path.join(STATE_FOLDER, mark))
    except OSError:
        return None
