"""Counts, sums and latencies of the pools over a window of time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gpu_fleet.simulator.sketch import Sketch


@dataclass(frozen=True, slots=True)
class PoolWindow:
    """Figures of one pool over a window. They add up over consecutive windows and over pools."""

    seconds: float = 0.0
    target_seconds: float = 0.0
    """Targets x time."""
    routed: int = 0
    """Requests that reached an instance (RequestCount of the target group)."""
    completed: int = 0
    attained: int = 0
    """Completed within the SLO."""
    rejected_no_target: int = 0
    rejected_queue_full: int = 0
    """Refused by an instance (HTTPCode_Target_5XX_Count)."""
    rejected_too_long: int = 0
    lost: int = 0
    first_tokens: int = 0
    ttft_seconds_sum: float = 0.0
    tpot_seconds_sum: float = 0.0
    e2e_seconds_sum: float = 0.0
    input_tokens: float = 0.0
    """Prompt tokens of the completed requests."""
    output_tokens: float = 0.0
    """Answer tokens of the completed requests."""
    running_seconds: float = 0.0
    """Requests in service x time."""
    waiting_seconds: float = 0.0
    """Requests waiting at the instances x time."""
    busy_seconds: float = 0.0
    """Instances with a request in service x time."""
    present_seconds: float = 0.0
    """Instances x time: the targets, and draining instances until they are empty."""
    ttft: Sketch = field(default_factory=Sketch.empty)
    """Times to first token of the tokens in this window."""
    tpot: Sketch = field(default_factory=Sketch.empty)
    """Times per output token of the completed requests."""
    e2e: Sketch = field(default_factory=Sketch.empty)
    """Times from arrival to last token of the completed requests."""

    @property
    def rejected(self) -> int:
        """Requests rejected, for any reason."""
        return self.rejected_no_target + self.rejected_queue_full + self.rejected_too_long

    @property
    def ended(self) -> int:
        """Requests whose outcome is known."""
        return self.completed + self.rejected + self.lost

    @property
    def slo_attainment(self) -> float | None:
        """Share of the ended requests that met the SLO; rejected and lost ones never do. None if none ended."""
        return self.attained / self.ended if self.ended else None

    @property
    def running(self) -> float:
        """Mean number of requests in service."""
        return self.running_seconds / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Mean number of requests waiting at the instances."""
        return self.waiting_seconds / self.seconds if self.seconds else 0.0

    @property
    def busy_percent(self) -> float | None:
        """Share of the instances' time with a request in service; None without instances."""
        return 100 * self.busy_seconds / self.present_seconds if self.present_seconds else None

    @property
    def ttft_mean_seconds(self) -> float | None:
        """Mean time to first token."""
        return self.ttft_seconds_sum / self.first_tokens if self.first_tokens else None

    @property
    def response_mean_seconds(self) -> float | None:
        """Mean time to a response's first header (TargetResponseTime): refused requests are answered at once."""
        answered = self.first_tokens + self.rejected_queue_full
        return self.ttft_seconds_sum / answered if answered else None

    @property
    def e2e_mean_seconds(self) -> float | None:
        """Mean time from arrival to last token."""
        return self.e2e_seconds_sum / self.completed if self.completed else None

    def beside(self, other: PoolWindow) -> PoolWindow:
        """Return both pools together over the same time."""
        return self._sum(other, self.seconds)

    def then(self, other: PoolWindow) -> PoolWindow:
        """Return this pool's window joined with the one that follows it."""
        return self._sum(other, self.seconds + other.seconds)

    def _sum(self, other: PoolWindow, seconds: float) -> PoolWindow:
        values = {name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        return PoolWindow(**{**values, "seconds": seconds})


@dataclass(frozen=True, slots=True)
class Window:
    """Figures of all pools from `start` to `end` (seconds)."""

    start: float
    end: float
    pools: tuple[PoolWindow, ...]
    unrouted: int
    """Requests rejected because every weight was 0."""

    @property
    def total(self) -> PoolWindow:
        """All pools together, and the requests that reached none."""
        total = self.pools[0]
        for pool in self.pools[1:]:
            total = total.beside(pool)
        if self.unrouted:
            total = replace(total, rejected_no_target=total.rejected_no_target + self.unrouted)
        return total

    def then(self, other: Window) -> Window:
        """Return this window joined with the one that follows it."""
        pools = tuple(a.then(b) for a, b in zip(self.pools, other.pools, strict=True))
        return Window(self.start, other.end, pools, self.unrouted + other.unrouted)
