"""The settings of an instance, from its environment. Tests shorten the times."""

import os


def _seconds(name: str, default: str):
    return float(os.environ.get(name, default))


TRAINING = os.environ.get("WORKLOAD") == "training"
IMDS_URL = os.environ.get("IMDS_URL", "http://169.254.169.254")
LAUNCHING_HOOK = os.environ.get("LAUNCHING_HOOK", "")
TERMINATING_HOOK = os.environ.get("TERMINATING_HOOK", "")
LOG_GROUP = os.environ.get("LOG_GROUP", "")

ENGINE = os.environ.get("ENGINE", "")
"""Name of the engine in `engine_metrics.ENGINES`, where the image tells it."""
ENGINE_URL = "http://127.0.0.1:" + os.environ.get("PORT", "8000")
METRICS_URL = "http://127.0.0.1:" + os.environ.get("METRICS_PORT", os.environ.get("PORT", "8000")) + "/metrics"
HEALTH_PATH = os.environ.get("HEALTH_PATH", "/health")
STATSD = ("127.0.0.1", int(os.environ.get("STATSD_PORT", "8125")))
SLO = [float(limit) for limit in os.environ.get("SLO", "").split()]
"""Seconds to the first token, more for each 1000 tokens of prompt, seconds per token after it; empty without a SLO."""

STATE_FOLDER = os.environ.get("STATE_FOLDER", "/var/lib/gpu-fleet")
"""What must outlive a reboot."""

SCRAPE_SECONDS = _seconds("SCRAPE_SECONDS", "10")
POLL_SECONDS = _seconds("POLL_SECONDS", "5")

LAUNCH_TIMEOUT_SECONDS = _seconds("LAUNCH_TIMEOUT_SECONDS", "1200")
"""The launching hook's heartbeat timeout."""
LONGEST_LAUNCH_SECONDS = 4 * LAUNCH_TIMEOUT_SECONDS
"""A launch is given up after this time even if it goes on: an engine that logs that it waits also goes on."""
NO_PROGRESS_SECONDS = _seconds("NO_PROGRESS_SECONDS", str(LAUNCH_TIMEOUT_SECONDS / 2))
"""A launch is given up after so long without a sign of progress. Estimate: compiling and capturing CUDA graphs is the
longest step without disk or network, and it logs."""
PROGRESS_BYTES = _seconds("PROGRESS_BYTES", str(64 * 2**20))
"""Written, read or received since the last sign. Agents and health checks move far less in NO_PROGRESS_SECONDS."""
CRASHES = int(os.environ.get("CRASHES", "5"))
CRASH_LOOP_SECONDS = _seconds("CRASH_LOOP_SECONDS", "300")
"""A launch is given up if the engine's unit has been restarted CRASHES times and this time has passed. The time lets a
registry recover."""
HEARTBEAT_SECONDS = _seconds("HEARTBEAT_SECONDS", str(min(60.0, LAUNCH_TIMEOUT_SECONDS / 3)))

MAX_DRAIN_SECONDS = _seconds("MAX_DRAIN_SECONDS", "900")
IDLE_SECONDS = _seconds("IDLE_SECONDS", "30")
"""A draining engine stops after so long without a request. The load balancer stops sending within seconds of the
deregistration; AWS gives no figure."""
UNKNOWN_SECONDS = _seconds("UNKNOWN_SECONDS", "1800" if TRAINING else "300")
"""How long a draining engine that does not answer counts as busy."""
FIRST_PAUSE_SECONDS = _seconds("FIRST_PAUSE_SECONDS", "2")
LONGEST_PAUSE_SECONDS = _seconds("LONGEST_PAUSE_SECONDS", "15")
"""Between two tries to complete a hook."""
STALL_SECONDS = _seconds("STALL_SECONDS", "600")
"""An engine that holds requests is frozen if none of its counters has moved for so long. A prompt counts when its first
token is there: a million tokens at 5000 a second take 200 s."""
