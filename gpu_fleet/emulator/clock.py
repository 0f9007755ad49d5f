"""Virtual time: time.time(), datetime.now() and all their readers see a time that moves only on command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import time_machine

if TYPE_CHECKING:
    from types import TracebackType


class VirtualClock:
    """A clock that moves only by `advance_to`; while open, time.time() and datetime.now() of the process follow it.

    Built on time-machine, which replaces the calls below Python, so that moto's timestamps and the scaler's handler
    see the same time. time.monotonic() and time.sleep() stay real.
    """

    def __init__(self, start: float) -> None:
        """Create a clock that shows `start` (seconds since the epoch, UTC)."""
        self._now = start
        self._travel = time_machine.travel(start, tick=False)
        self._coordinates: Any = None

    @property
    def now(self) -> float:
        """Virtual seconds since the epoch, UTC."""
        return self._now

    def advance_to(self, moment: float) -> None:
        """Move to `moment` (seconds since the epoch, UTC). Raises ValueError for a moment in the past."""
        if moment < self._now:
            raise ValueError(f"moment: must not lie before {self._now:.3f} (got {moment:.3f})")
        self._now = moment
        if self._coordinates is not None:
            self._coordinates.move_to(moment)

    def __enter__(self) -> Self:
        """Take over the process's time. Raises RuntimeError when the clock is already open."""
        if self._coordinates is not None:
            raise RuntimeError("the clock is open already")
        self._coordinates = self._travel.start()
        self._coordinates.move_to(self._now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the process its own time back."""
        self._coordinates = None
        self._travel.stop()
