"""A source's requests, taken in stretches of any length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.simulator.world import Source

Floats = NDArray[np.float64]
CHUNK_SECONDS = 600.0


class Feed:
    """The requests of a source (`gpu_fleet.traffic.Trace` or `RateTrace`), in seconds from its start."""

    def __init__(self, source: Source, seed: int) -> None:
        """`seed` draws the requests of a source that knows only rates."""
        self._chunks = iter(source.windows(CHUNK_SECONDS, seed=seed))
        self._read: tuple[Floats, Floats, Floats] = (np.empty(0), np.empty(0), np.empty(0))
        self._read_until = 0.0

    def take(self, until: float) -> tuple[Floats, Floats, Floats]:
        """Return arrival times, prompt and answer lengths [n] of the requests before `until`, each request once."""
        while self._read_until < until:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._read_until = np.inf
                break
            new = (chunk.at_seconds, chunk.input_tokens, chunk.output_tokens)
            self._read = tuple(
                np.concatenate([old, np.asarray(one, np.float64)]) for old, one in zip(self._read, new, strict=True)
            )  # type: ignore[assignment]
            self._read_until += CHUNK_SECONDS
        stop = int(np.searchsorted(self._read[0], until, side="left"))
        before = tuple(column[:stop] for column in self._read)
        self._read = tuple(column[stop:] for column in self._read)  # type: ignore[assignment]
        return before  # type: ignore[return-value]
