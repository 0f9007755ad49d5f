"""Whether a launch is worth waiting for. Times are passed in."""

from __future__ import annotations

import pytest

from infra.instance.node.boot_progress import BootProgress, Signs
from infra.instance.node.node_settings import (
    CRASH_LOOP_SECONDS,
    CRASHES,
    LONGEST_LAUNCH_SECONDS,
    NO_PROGRESS_SECONDS,
    PROGRESS_BYTES,
)

STILL = Signs(0, 0, 0, None, 0)


def hopeless(*looks: tuple[float, Signs]) -> list[str | None]:
    progress = BootProgress(STILL, 0.0)
    return [progress.hopeless(signs, now) for now, signs in looks]


@pytest.mark.parametrize("sign", ["used_bytes", "received_bytes", "read_bytes"])
def test_bytes_are_progress(sign: str) -> None:
    """The image is pulled, the weights are streamed, or read into the GPU: 25 minutes at 60 MB/s."""
    for minute in range(1, 26):
        looks = [(60.0 * m, STILL._replace(**{sign: 60 * m * 60_000_000})) for m in range(1, minute + 1)]
        assert hopeless(*looks) == [None] * minute


def test_a_trickle_is_none() -> None:
    """Agents and health checks: 50 kB/s."""
    looks = [(10.0 * i, STILL._replace(received_bytes=500_000 * i)) for i in range(1, 61)]
    assert hopeless(*looks)[:-1] == [None] * 59
    assert "no sign of progress for 600 s" in (hopeless(*looks)[-1] or "")


def test_slow_bytes_add_up() -> None:
    looks = [(10.0 * i, STILL._replace(received_bytes=int(i * PROGRESS_BYTES / 50))) for i in range(1, 120)]
    assert set(hopeless(*looks)) == {None}


def test_a_line_in_the_log_is_progress() -> None:
    looks = [(300.0 * i, STILL._replace(log_line=b"%d %%" % i)) for i in range(1, 10)]
    assert set(hopeless(*looks)) == {None}


def test_a_line_that_stands_is_none() -> None:
    looks = [(t, STILL._replace(log_line=b"loading")) for t in (1.0, NO_PROGRESS_SECONDS, NO_PROGRESS_SECONDS + 1)]
    assert hopeless(*looks)[:2] == [None, None]
    assert hopeless(*looks)[2]


def test_files_that_are_removed_are_no_progress_and_no_harm() -> None:
    gone = STILL._replace(used_bytes=-(10**9))
    assert hopeless((100.0, gone), (NO_PROGRESS_SECONDS - 1, gone)) == [None, None]


def test_a_crash_loop_has_time_to_recover() -> None:
    """A registry that refuses pulls for a minute ends the unit as often."""
    looping = STILL._replace(restarts=CRASHES)
    early, late = hopeless((CRASH_LOOP_SECONDS - 1, looping), (CRASH_LOOP_SECONDS, looping))
    assert early is None
    assert late == f"the engine has ended {CRASHES} times before it answered"
    assert hopeless((CRASH_LOOP_SECONDS, STILL._replace(restarts=None))) == [None]


def test_a_launch_that_goes_on_for_ever_is_given_up() -> None:
    looks = [(60.0 * i, STILL._replace(log_line=b"%d" % i)) for i in range(1, int(LONGEST_LAUNCH_SECONDS / 60) + 1)]
    assert set(hopeless(*looks)[:-1]) == {None}
    assert hopeless(*looks)[-1] == "not healthy after 4800 s"
