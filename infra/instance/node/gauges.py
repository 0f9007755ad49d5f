"""What an instance publishes, from two scrapes of its engine. Pure: pages in, gauges out.

A gauge that the engine does not report, or that no finished request has a value for, is left out: missing is not zero.
So is one of which a series is unknown (NaN) or infinite.
"""

import math

from .engine_metrics import BUSY, ENGINES, MetricSelector, named

INFINITY = math.inf


def _first(page, metric, kind):
    """Return the series of a metric on the page; None if no engine's are there."""
    candidates = (series for engine in ENGINES for series in getattr(engine, kind).get(metric, ()))
    return next((series for series in candidates if series.of(page)), None)


def _total(page, series):
    """Return the sum of the samples; None if there is none, or one is unknown."""
    values = [sample.value for sample in series.of(page)] if series else []
    return sum(values) if values and all(math.isfinite(value) for value in values) else None


def _metrics(kind):
    return dict.fromkeys(metric for engine in ENGINES for metric in getattr(engine, kind))


def _histogram(page, kind):
    """Return the name of a histogram on the page; empty if no engine's is there."""
    names = (name for engine in ENGINES for name in getattr(engine, kind))
    return next((name for name in names if name + "_bucket" in page), "")


def buckets(page, name):
    """Return the counts of a histogram by upper bound, over all label sets; empty if one is unknown."""
    counts = {}
    for labels, value in page.get(name + "_bucket", ()):
        try:
            bound = float(labels["le"])
        except (KeyError, ValueError):
            return {}
        if math.isnan(bound) or not math.isfinite(value):
            return {}
        counts[bound] = counts.get(bound, 0.0) + value
    return counts


def quantile(new, old, share):
    """Return a quantile of the values since `old`; None if there are none.

    As Prometheus' histogram_quantile: linear within a bucket; the last finite bound if the quantile is beyond it.
    """
    counts = sorted((bound, count - old.get(bound, 0.0)) for bound, count in new.items())
    if not counts or counts[-1][1] <= 0:
        return None
    rank, below, lower = share * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            if bound == INFINITY:
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
        below, lower = count, bound
    return lower


def _mean(metric, new, old):
    """Return the mean over the requests that finished since `old`; None if there are none."""
    names = (name for engine in ENGINES for name in engine.means.get(metric, ()))
    name = next((name for name in names if name + "_count" in new), "")
    count, total = (_since(MetricSelector(name + part), new, old) for part in ("_count", "_sum"))
    return total / count if count and total is not None and count > 0 else None


def _since(series, new, old):
    """Return the growth of a counter; None if it is not known now. What was not there before was zero."""
    now, before = _total(new, series), _total(old, series) if series.of(old) else 0.0
    return None if now is None or before is None else now - before


def _above(counts, bound):
    return counts[INFINITY] - counts.get(bound, 0.0)


def beyond(new, old, limit):
    """Return how many of the values since the last scrape exceed the limit.

    Those in the limit's own bucket are split as all values so far fall off across it, exponentially, as waiting times
    do: of 100 above 1 s, 1 of them above 2.5 s, 100 * 0.01 ** (2 / 3) = 4.6 are above 2 s. A few values of 10 s would
    not show the slope. An empty tail is taken for half a value.
    """
    fresh = {bound: count - old.get(bound, 0.0) for bound, count in new.items()}
    upper = min(bound for bound in new if bound >= limit)
    lower = max([0.0] + [bound for bound in new if bound < limit])
    high, low, tail = _above(new, lower), max(_above(new, upper), 0.5), _above(fresh, upper)
    if high <= low:
        return tail
    share = (high * (low / high) ** ((limit - lower) / (upper - lower)) - low) / (high - low)
    return tail + share * (_above(fresh, lower) - tail)


def misses(new, old, slo):
    """Return the requests that ended since the last scrape, and those outside the SLO; nothing where the engine's
    histograms do not tell. `slo` as in `node_settings.SLO`.

    A first token is held against the limit for the mean prompt. A request that is late by both limits counts once:
    almost all that wait too long for their first token are slow after it too (91 % of them in a simulated overload), so
    the larger number stands for both.
    """
    pairs = [(buckets(new, name), buckets(old, name)) for name in (_histogram(new, "ttft"), _histogram(new, "tpot"))]
    fresh = [now.get(INFINITY, -1.0) - before.get(INFINITY, 0.0) for now, before in pairs]
    if not slo or min(fresh) < 0:
        return {}
    limit, per_1000, pace = slo
    if per_1000:
        tokens = _mean("input_tokens", new, old) or _mean("input_tokens", new, {})
        if tokens is None:
            return {}
        limit += per_1000 * tokens / 1000
    late = max(beyond(*pairs[0], limit), beyond(*pairs[1], pace))
    return {"judged_requests": fresh[1], "late_requests": late}


def gauges(new, old, seconds, slo=()):
    """Return the gauges of this scrape. Means, quantiles and rates are over the requests that finished since the last
    scrape (None if it failed), `seconds` ago.
    """
    out = {}
    for metric in _metrics("gauges"):
        out[metric] = _total(new, _first(new, metric, "gauges"))
    for metric in _metrics("shares"):
        series = _first(new, metric, "shares")
        total = _total(new, series)
        out[metric] = None if series is None or total is None else 100 * total / len(series.of(new))
    if old is not None:
        for metric in _metrics("means"):
            out[metric] = _mean(metric, new, old)
        out["finished_rps"] = _finished_rps(new, old, seconds)
        name = _histogram(new, "ttft")
        out["ttft_p95_seconds"] = quantile(buckets(new, name), buckets(old, name), 0.95)
        out.update(misses(new, old, slo))
    return {metric: value for metric, value in out.items() if value is not None}


def _finished_rps(new, old, seconds):
    counters = (series for engine in ENGINES for series in engine.finished)
    series = next((series for series in counters if series.of(new)), None)
    if series is None or not series.of(old):
        return None
    finished = _since(series, new, old)
    return None if finished is None or finished < 0 else finished / seconds


def in_hand(page, engine=""):
    """Return the number of requests and jobs that the engine runs or holds; None where the page does not tell.

    `engine` is its name, if known: some publish nothing before their first request.
    """
    found = [series for series in (_first(page, metric, "gauges") for metric in BUSY) if series]
    known = [total for total in (_total(page, series) for series in found) if total is not None]
    if found:
        return sum(known) if len(known) == len(found) else None
    expected = named(engine)
    return 0.0 if expected and expected.silent_until_used and not _progress(page) else None


def running(page):
    """Return the number of requests that the engine runs; None where the page does not tell."""
    return _total(page, _first(page, "requests_running", "gauges"))


def _progress(page):
    return [series for engine in ENGINES for series in engine.progress if series.of(page)]


def progress(page):
    """Return the counters that move while the engine works, as one value to compare; None where none is known."""
    totals = tuple(_total(page, series) for series in _progress(page))
    return None if not totals or None in totals else totals


def published():
    """Return the names of all gauges that `gauges` may return."""
    names = [metric for kind in ("gauges", "shares", "means") for metric in _metrics(kind)]
    return {*names, "finished_rps", "ttft_p95_seconds", "judged_requests", "late_requests"}
