"""Traffic handed out stretch by stretch, whatever the source's own windows are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.simulator.world import Source

Floats = NDArray[np.float64]
CHUNK_SECONDS = 600.0


class Feed:
    """The requests of a source (`gpu_fleet.traffic.Trace` or `RateTrace`), in seconds from its start."""

    def __init__(self, source: Source, seed: int) -> None:
        """`seed` draws the requests where only rates are known."""
        self._chunks = iter(source.windows(CHUNK_SECONDS, seed=seed))
        self._held: tuple[Floats, Floats, Floats] = (np.empty(0), np.empty(0), np.empty(0))
        self._known_until = 0.0

    def take(self, until: float) -> tuple[Floats, Floats, Floats]:
        """Arrival times, prompt and answer lengths [n] of the requests before `until` not yet taken."""
        while self._known_until < until:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._known_until = np.inf
                break
            new = (chunk.at_seconds, chunk.input_tokens, chunk.output_tokens)
            self._held = tuple(
                np.concatenate([old, np.asarray(one, np.float64)]) for old, one in zip(self._held, new, strict=True)
            )  # type: ignore[assignment]
            self._known_until += CHUNK_SECONDS
        stop = int(np.searchsorted(self._held[0], until, side="left"))
        taken = tuple(column[:stop] for column in self._held)
        self._held = tuple(column[stop:] for column in self._held)  # type: ignore[assignment]
        return taken  # type: ignore[return-value]
