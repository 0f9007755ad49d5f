"""Find an engine that is frozen: it answers its health check and holds requests, and nothing moves."""

from . import gauges
from .node_settings import STALL_SECONDS


class Stall:
    """What was seen of an engine's counters, from scrape to scrape."""

    def __init__(self):
        self._counters, self._since = None, 0.0

    def frozen_for(self, page, now):
        """Return the seconds for which requests have run without any progress, if that is too long; else None.

        A page that is missing, or does not tell, says nothing: neither that it is frozen nor that it is not.
        """
        if page is None:
            return None
        running, counters = gauges.running(page), gauges.progress(page)
        if running is None or counters is None:
            return None
        if running <= 0 or counters != self._counters:
            self._counters, self._since = counters, now
            return None
        stood = now - self._since
        return stood if stood >= STALL_SECONDS else None
