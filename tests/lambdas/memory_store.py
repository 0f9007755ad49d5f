"""A `StateStore` in this process."""

from __future__ import annotations

from gpu_fleet.scaling import record
from gpu_fleet.scaling.state import State
from lambdas.scaler.store import StoredState, VersionConflictError


class MemoryStateStore:
    """States in memory. They go through JSON, as in DynamoDB."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, str]] = {}

    def read(self, service: str) -> StoredState:
        """As `StateStore.read`."""
        version, text = self._items.get(service, (0, ""))
        return StoredState(record.load(State, text), version) if version else StoredState(State())

    def write(self, service: str, state: State, version: int) -> None:
        """As `StateStore.write`."""
        if self._items.get(service, (0, ""))[0] != version:
            raise VersionConflictError(f"{service}: version {version} is no longer the newest")
        self._items[service] = (version + 1, record.dump(state))
