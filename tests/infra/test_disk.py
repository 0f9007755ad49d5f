"""Where an instance keeps images, weights and compiled kernels: disk.sh, run for real below a folder.

Programs that touch disks are scripts that refuse what the real ones refuse: to mount what has no file system, to format
what is no disk.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra.user_data import render_script
from tests.infra.test_boot import PLAIN
from tests.infra.test_user_data import heredocs

DISK = "/dev/nvme1n1"
SECOND = "/dev/nvme2n1"
VOLUME = "/dev/nvme0n1 Amazon Elastic Block Store"

PROGRAMS = {
    "lsblk": """cat {state}/disks""",
    "blkid": """[ "$1 $2" = "-L gpu-fleet" ] && cat {state}/label || exit 2""",
    "mountpoint": """[ "$1" = --quiet ] && grep -qxF "$2" {state}/mounted""",
    "mkfs.ext4": """
        for device; do :; done
        grep -q "^$device " {state}/disks || [ "$device" = "$(cat {state}/md)" ] || exit 1
        [ ! -e {state}/broken ] || exit 1
        echo "$device" > {state}/label; echo "$device" >> {state}/formatted""",
    "mdadm": """
        [ "$1 $3 $4" = "--create --run --force" ] || exit 2
        for device in "${{@:9}}"; do grep -q "^$device " {state}/disks || exit 1; done
        echo "$2" > {state}/md; echo "${{@:9}}" > {state}/joined""",
    "mount": """
        for target; do :; done
        [ -d "$target" ] || exit 32
        if [ "$1" = --bind ]; then [ -d "$2" ] || exit 32; else grep -qxF "$3" {state}/label || exit 32; fi
        echo "$target" >> {state}/mounted; echo "$*" >> {state}/mounts""",
}


@dataclass
class Disks:
    """An instance's disks, and what its start does with them."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    def read(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def start(self, use: str = "store") -> str:
        """Run disk.sh as its unit does; nothing is mounted yet."""
        settings = replace(PLAIN, instance_store=use != "volume", baked_ami=use == "model")
        script = heredocs(render_script(settings))["/opt/gpu-fleet/disk.sh"]
        below = re.sub(r"(?<![\w./])/(?=(?:opt|var/lib)/)", f"{self.root}/", script)
        done = subprocess.run(
            ["bash", "-c", below, "disk.sh", use],
            capture_output=True, text=True, check=False, env={"PATH": f"{self.root / 'bin'}:/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def reboot(self) -> None:
        (self.state / "mounted").write_text("")

    def stop_and_start(self) -> None:
        """Another host: its instance store is empty."""
        self.reboot()
        for name in ("label", "md"):
            (self.state / name).unlink(missing_ok=True)
        shutil.rmtree(self.root / "opt/gpu-fleet/store")

    def place(self, name: str) -> str:
        """Return where a folder really is, relative to the instance's root."""
        return str((self.root / name).resolve().relative_to(self.root))


def disks_of(root: Path, disks: Sequence[str], *, without: Sequence[str] = ()) -> Disks:
    for folder in ("bin", "state", "opt", "var/lib/docker"):
        (root / folder).mkdir(parents=True)
    for name, body in PROGRAMS.items():
        if name not in without:
            (root / "bin" / name).write_text(f"#!/bin/bash\n{body.format(state=root / 'state')}\n")
            (root / "bin" / name).chmod(0o755)
    lines = [VOLUME, *(f"{disk} Amazon EC2 NVMe Instance Storage" for disk in disks)]
    (root / "state/disks").write_text("\n".join(lines) + "\n")
    (root / "state/mounted").write_text("")
    return Disks(root)


def test_everything_large_goes_to_the_instance_store(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    disks.start()
    assert disks.read("formatted") == [DISK]
    assert disks.place("opt/models") == "opt/gpu-fleet/store/models"
    assert disks.place("opt/compiled") == "opt/gpu-fleet/store/compiled"
    assert disks.read("mounts")[1:] == [
        f"--bind {tmp_path}/opt/gpu-fleet/store/{name} {tmp_path}/var/lib/{name}" for name in ("docker", "containerd")
    ]


def test_images_that_came_with_the_ami_are_not_hidden(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    disks.start("model")
    assert disks.place("opt/models") == "opt/gpu-fleet/store/models"
    assert disks.place("opt/compiled") == "opt/gpu-fleet/store/compiled"
    assert [line for line in disks.read("mounts") if "/var/lib/" in line] == []


def test_all_disks_are_joined(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK, SECOND])
    disks.start()
    assert disks.read("joined") == [f"{DISK} {SECOND}"]
    assert disks.read("formatted") == ["/dev/md/gpu-fleet"]


def test_without_mdadm_the_first_disk_is_used(tmp_path: Path) -> None:
    if shutil.which("mdadm", path="/usr/bin:/bin"):
        pytest.skip("this machine has mdadm")
    disks = disks_of(tmp_path, [DISK, SECOND], without=["mdadm"])
    disks.start()
    assert disks.read("formatted") == [DISK]


def test_what_the_ami_has_mounted_is_used_and_not_formatted(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    (tmp_path / "opt/dlami/nvme").mkdir(parents=True)
    (tmp_path / "state/mounted").write_text(f"{tmp_path}/opt/dlami/nvme\n")
    disks.start()
    assert disks.read("formatted") == []
    assert disks.place("opt/models") == "opt/dlami/nvme/models"
    assert f"--bind {tmp_path}/opt/dlami/nvme/docker {tmp_path}/var/lib/docker" in disks.read("mounts")


@pytest.mark.parametrize(("disks", "use"), [([], "store"), ([DISK], "volume")])
def test_without_a_store_or_when_told_so_everything_is_on_the_volume(
    tmp_path: Path, disks: list[str], use: str
) -> None:
    world = disks_of(tmp_path, disks)
    world.start(use)
    assert world.place("opt/models") == "opt/models"
    assert world.place("opt/compiled") == "opt/compiled"
    assert world.read("mounts") == world.read("formatted") == []


def test_a_disk_that_cannot_be_formatted_leaves_the_volume(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    (tmp_path / "state/broken").touch()
    assert "no instance store: using the root volume" in disks.start()
    assert disks.place("opt/models") == "opt/models"
    assert disks.read("mounts") == []


def test_a_reboot_keeps_what_is_there(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    disks.start()
    (tmp_path / "opt/models/weights").touch()
    disks.reboot()
    disks.start()
    assert disks.read("formatted") == [DISK]
    assert (tmp_path / "opt/models/weights").exists()
    assert len(disks.read("mounted")) == 3


def test_a_start_after_a_stop_formats_the_new_hosts_disks(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    disks.start()
    (tmp_path / "opt/models/weights").touch()
    disks.stop_and_start()
    disks.start()
    assert disks.read("formatted") == [DISK, DISK]
    assert list((tmp_path / "opt/models").iterdir()) == []


def test_compiled_kernels_that_came_with_the_ami_stay_where_they_are(tmp_path: Path) -> None:
    disks = disks_of(tmp_path, [DISK])
    (tmp_path / "opt/compiled/torch_compile_cache").mkdir(parents=True)
    disks.start()
    disks.reboot()
    disks.start()
    assert disks.place("opt/compiled") == "opt/compiled"
    assert (tmp_path / "opt/compiled/torch_compile_cache").is_dir()
    assert disks.place("opt/models") == "opt/gpu-fleet/store/models"
