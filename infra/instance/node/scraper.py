"""Send the engine's metrics, as gauges, to the CloudWatch agent's StatsD."""

import socket
import time

from . import container, imds
from .gauges import gauges, in_hand
from .node_settings import ENGINE, SCRAPE_SECONDS, SLO, STATSD, TRAINING


def silent():
    """Return whether the instance must not publish.

    A draining instance gets no new requests, and the scaler takes what is published for the load of those that stay:
    with four that hold 20 each and one that has 5 left, it would count 85 at five. A training worker publishes to the
    end: its jobs are its own.
    """
    return not TRAINING and bool(imds.leaving())


def seen(new, old, seconds):
    """Return what to publish of this scrape. A worker that does not stand runs no job, and that is known."""
    if new is not None:
        values = gauges(new, old, seconds, SLO)
        if not values and in_hand(new, ENGINE) == 0:
            values = {"requests_running": 0.0, "requests_waiting": 0.0}  # its first request has yet to come
        latency = container.network_latency_seconds()
        return values if latency is None else {**values, "network_latency_seconds": latency}
    return {"jobs_running": 0.0} if TRAINING and container.stands() is False else {}


def publish(values, sender):
    """Send the gauges."""
    for name, value in values.items():
        sender.sendto(("%s:%.6g|g" % (name, value)).encode(), STATSD)


def run():
    """Scrape and publish for ever."""
    sender, old, before = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), None, 0.0
    while True:
        started = time.monotonic()
        new = container.scrape()
        if not silent():
            publish(seen(new, old, started - before), sender)
        old, before = new, started
        time.sleep(max(0.0, SCRAPE_SECONDS - (time.monotonic() - started)))
