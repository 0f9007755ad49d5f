"""Latency quantiles from the kernel's histogram, in memory independent of the number of requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.simulator.kernel import BUCKETS, GROWTH, SMALLEST_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A histogram with logarithmic buckets: every quantile is within 1 % of an observed value (see `kernel.GROWTH`).

    `counts`: int64 [BUCKETS].
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Sketch:
        """Return a sketch without values."""
        return cls(np.zeros(BUCKETS, np.int64))

    def __add__(self, other: Sketch) -> Sketch:
        return Sketch(self.counts + other.counts)

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float | None:
        """Return the value that `share` (0 to 1) of the values do not exceed, in seconds; None without values.

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
        # The bucket's bounds differ by the factor GROWTH; this value has the least relative error to both.
        return SMALLEST_SECONDS * GROWTH ** (bucket - 1) * 2 * GROWTH / (1 + GROWTH)
