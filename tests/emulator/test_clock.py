from __future__ import annotations

import datetime as dt
import time

import pytest

from gpu_fleet.emulator.clock import VirtualClock

START = 1_700_000_000.0


def test_the_process_sees_virtual_time_and_only_while_it_is_open() -> None:
    real = time.time()
    with VirtualClock(START) as clock:
        assert time.time() == clock.now == START
        clock.advance_to(START + 90.5)
        assert time.time() == clock.now == START + 90.5
        assert dt.datetime.now(dt.UTC).timestamp() == START + 90.5
    assert time.time() >= real


def test_time_does_not_go_back() -> None:
    with VirtualClock(START) as clock:
        clock.advance_to(START)
        with pytest.raises(ValueError, match="must not lie before"):
            clock.advance_to(START - 1)
        assert time.time() == START


def test_a_clock_opens_once_at_a_time_and_again_afterwards() -> None:
    clock = VirtualClock(START)
    with clock:
        clock.advance_to(START + 5)
        with pytest.raises(RuntimeError, match="open already"), clock:
            pass
    with clock:
        assert time.time() == START + 5
