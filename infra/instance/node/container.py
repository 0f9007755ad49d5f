"""The serving container: whether it stands and answers, and what it publishes."""

import calendar
import re
import subprocess
import time
import urllib.request

from .exposition import parse
from .node_settings import ENGINE_URL, HEALTH_PATH, METRICS_URL

UNIT = "engine"
"""The container's name, and its unit's."""


def shown(*words):
    """Return the output of a command. Raises OSError or SubprocessError if it fails or takes more than 5 s."""
    return subprocess.run(words, capture_output=True, text=True, timeout=5, check=True).stdout


def _get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def healthy():
    """Return whether the engine answers 200 on its health path."""
    try:
        _get(ENGINE_URL + HEALTH_PATH)
    except (OSError, ValueError):
        return False
    return True


def scrape():
    """Return the page of the engine's metrics; None if it does not answer."""
    try:
        return parse(_get(METRICS_URL))
    except (OSError, ValueError):
        return None


def stands():
    """Return whether the container runs; None if Docker does not tell."""
    try:
        return shown("docker", "inspect", "--format", "{{.State.Running}}", UNIT).strip() == "true"
    except subprocess.CalledProcessError as error:
        return False if "no such" in (error.stderr or "").lower() else None
    except (OSError, subprocess.SubprocessError):
        return None


def stop():
    """Begin to stop the engine: SIGTERM, and it is not started again."""
    subprocess.run(["systemctl", "--no-block", "stop", UNIT], check=False)


def restarts():
    """Return how often the engine's unit was started again; None if systemd does not tell."""
    try:
        return int(shown("systemctl", "show", UNIT, "--property=NRestarts", "--value"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def last_log_line():
    """Return the newest line of the container's log; None if there is none."""
    try:
        done = subprocess.run(
            ["docker", "logs", "--tail", "1", UNIT],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout or None


def logged_at(text):
    """Return when the container last logged a line with this text, seconds since the epoch; None if it has not.

    Of several workers, the last to finish counts.
    """
    words = ["docker", "logs", "--timestamps", UNIT]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=True)
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if text in line]
        return calendar.timegm(time.strptime(lines[-1][:19], "%Y-%m-%dT%H:%M:%S")) if lines else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def network_latency_seconds():
    """Return the mean round trip of the load balancer's connections, which end in the container's network; None if it
    cannot be read. Connections from its gateway are our own scrapes and health checks.
    """
    try:
        pid, gateway = shown(
            *("docker", "inspect", "--format"),
            "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}",
            UNIT,
        ).split()
        ours = ["not", "dst", "127.0.0.0/8", "and", "not", "dst", gateway]
        port = ENGINE_URL.rsplit(":", 1)[1]
        connections = ["state", "established", "( sport = :%s )" % port, "and", *ours]
        return round_trip_seconds(shown("nsenter", "--target", pid, "--net", "ss", "-tin", *connections))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def round_trip_seconds(text):
    """Return the mean of the kernel's smoothed round trips in the output of `ss -tin`; None without a connection."""
    found = [float(value) for value in re.findall(r"\brtt:([\d.]+)/", text)]
    return sum(found) / len(found) / 1000 if found else None
