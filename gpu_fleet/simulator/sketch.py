"""Latency quantiles from the kernel's histogram, in memory that does not grow with the number of requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.simulator.kernel import BUCKETS, GROWTH, SMALLEST_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A histogram with logarithmic buckets: every quantile is within 1 % of an observed value (the kernel's `GROWTH`).

    `counts`: int64 [BUCKETS].
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Sketch:
        """Nothing seen yet."""
        return cls(np.zeros(BUCKETS, np.int64))

    def __add__(self, other: Sketch) -> Sketch:
        return Sketch(self.counts + other.counts)

    @property
    def count(self) -> int:
        """Values seen."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of those seen do not exceed, in seconds; None where nothing was seen.

        Raises ValueError for a share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share: must be from 0 to 1 (got {share})")
        total = self.count
        if total == 0:
            return None
        rank = max(1, int(np.ceil(share * total - 1e-9)))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        if bucket == 0:
            return 0.0
        # The bucket's bounds are GROWTH apart; the value between them with the least relative error to both.
        return SMALLEST_SECONDS * GROWTH ** (bucket - 1) * 2 * GROWTH / (1 + GROWTH)
