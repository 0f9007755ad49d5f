"""Whether a booting engine makes progress: it pulls its image, loads its weights, writes its log."""

from __future__ import annotations

import glob
import os
from typing import NamedTuple

from . import container
from .node_settings import CRASH_LOOP_SECONDS, CRASHES, LONGEST_LAUNCH_SECONDS, NO_PROGRESS_SECONDS, PROGRESS_BYTES

FOLDERS = ("/", "/var/lib/docker", "/var/lib/containerd", "/opt/models")
SECTOR_BYTES = 512
"""https://www.kernel.org/doc/html/latest/admin-guide/iostats.html, whatever the device's own."""


class Signs(NamedTuple):
    """What a booting instance shows. Sizes only grow, but for files that are removed."""

    used_bytes: int
    """On the file systems of the image and the weights."""
    received_bytes: int
    """By the network cards: weights that are streamed touch no disk."""
    read_bytes: int
    """From disks: weights that go to the GPU."""
    log_line: bytes | None = None
    """The newest."""
    restarts: int | None = None


def look():
    """Return the signs now."""
    return Signs(_used_bytes(), _received_bytes(), _read_bytes(), container.last_log_line(), container.restarts())


def _used_bytes():
    by_device = {}
    for folder in FOLDERS:
        if os.path.exists(folder):
            space = os.statvfs(folder)
            by_device[os.stat(folder).st_dev] = (space.f_blocks - space.f_bfree) * space.f_frsize
    return sum(by_device.values())


def _received_bytes():
    """Only interfaces with a device are hardware: Docker's own count the same bytes again."""
    cards = [os.path.dirname(device) for device in glob.glob("/sys/class/net/*/device")]
    return sum(int(line) for card in cards for line in _lines(card + "/statistics/rx_bytes"))


def _read_bytes():
    """Sectors read are the sixth column. Partitions count again, which does no harm."""
    return SECTOR_BYTES * sum(int(line.split()[5]) for line in _lines("/proc/diskstats"))


def _lines(path):
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


class BootProgress:
    """Decides, from look to look, whether a launch is worth waiting for."""

    def __init__(self, signs, now):
        self._began = self._moved = now
        self._last = signs

    def hopeless(self, signs, now):
        """Return why the launch is to be given up; None while it goes on."""
        sizes = zip(signs[:3], self._last[:3])
        wrote = signs.log_line is not None and signs.log_line != self._last.log_line
        if wrote or any(new - old >= PROGRESS_BYTES for new, old in sizes):
            self._moved, self._last = now, signs
        if (signs.restarts or 0) >= CRASHES and now - self._began >= CRASH_LOOP_SECONDS:
            return "the engine has ended %d times before it answered" % signs.restarts
        if now - self._moved >= NO_PROGRESS_SECONDS:
            return "no sign of progress for %.0f s: no data written, read or received, no line logged" % (
                now - self._moved
            )
        if now - self._began >= LONGEST_LAUNCH_SECONDS:
            return "not healthy after %.0f s" % (now - self._began)
        return None
