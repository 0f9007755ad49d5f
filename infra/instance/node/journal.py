"""What the instance says of itself: a JSON line in its journal, and what outlives it in the service's log group."""

import json
import subprocess
import time

from .node_settings import LOG_GROUP


def say(**what):
    """Write a line to the journal."""
    print(json.dumps(what), flush=True)


def report(instance, **what):
    """Write a line to the journal and to stream `node/<instance id>` of the log group, for whoever asks when the
    instance is gone. The second is best effort: an instance without a way out has no log.
    """
    say(**what)
    stream = ["--log-group-name", LOG_GROUP, "--log-stream-name", "node/" + instance]
    event = {"timestamp": int(1000 * time.time()), "message": json.dumps({"instance": instance, **what})}
    _aws("logs", "create-log-stream", *stream)  # fails if it is there
    _aws("logs", "put-log-events", *stream, "--log-events", json.dumps([event]))


def _aws(*words):
    try:
        subprocess.run(["aws", *words], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        say(failed=" ".join(words[:2]), error=str(error))
