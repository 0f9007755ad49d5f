"""What one evaluation leaves for the next. Losing it costs a hold, never a wrong move: `State()` is a lost state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """The memory of the model, one part per step. Opaque to everyone but scaling/."""

    at: float = 0.0
    """When it was written (seconds since the epoch); 0 for a lost state."""

    @property
    def wants_history(self) -> bool:
        """Whether the next observation should bring `history_rps` (up to 14 days, read a few times a day)."""
        return False

    @property
    def wants_instance_loads(self) -> bool:
        """Whether the next observation should bring each instance's own load: an instance is about to be chosen."""
        return False
