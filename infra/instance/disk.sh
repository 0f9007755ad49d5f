#!/bin/bash
# Before Docker at every start: puts its images, the weights and the compiled kernels on the instance store, if the use
# is `store` and the instance has one; with `model` not the images, which came with the AMI; with `volume` nothing. What
# is not there is on the root volume. A reboot keeps an instance store, a stop empties it:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-store-lifetime.html
set -euo pipefail
mounted=/opt/gpu-fleet/store

# AWS's Deep Learning AMIs have a service, dlami-nvme, that joins all disks of the instance store and mounts them here.
by_ami() {
  mountpoint --quiet /opt/dlami/nvme && echo /opt/dlami/nvme
}
format() {
  local disks device
  mapfile -t disks < <(lsblk --nodeps --noheadings --paths --output NAME,MODEL | awk '/NVMe Instance Storage/ {print $1}')
  [ "${#disks[@]}" -gt 0 ] || return 1
  device=${disks[0]}
  if [ "${#disks[@]}" -gt 1 ] && command -v mdadm > /dev/null; then
    device=/dev/md/gpu-fleet
    mdadm --create "$device" --run --force --level 0 --raid-devices "${#disks[@]}" "${disks[@]}" >&2 || return 1
  fi
  # Without discard: it would take minutes on terabytes that nobody has written to.
  mkfs.ext4 -q -F -m 0 -E nodiscard -L gpu-fleet "$device" >&2 && echo "$device"
}
by_us() {
  local device
  device=$(blkid -L gpu-fleet) || device=$(format) || return 1
  install -d "$mounted" && mount -o noatime "$device" "$mounted" && echo "$mounted"
}

store=
if [ "$1" != volume ]; then store=$(by_ami) || store=$(by_us) || echo "no instance store: using the root volume"; fi
for name in models compiled; do
  # A link is of the last start; a folder that is not empty came with the AMI.
  if [ -L "/opt/$name" ]; then rm "/opt/$name"; else rmdir "/opt/$name" 2> /dev/null || true; fi
  if [ -n "$store" ] && [ ! -d "/opt/$name" ]; then
    install -d "$store/$name"
    ln -s "$store/$name" "/opt/$name"
  else
    install -d "/opt/$name"
  fi
done
# Docker keeps layers in its own folder or in containerd's: https://docs.docker.com/engine/storage/containerd/
if [ -n "$store" ] && [ "$1" = store ]; then
  for name in docker containerd; do
    install -d -m 0711 "$store/$name" "/var/lib/$name"
    mountpoint --quiet "/var/lib/$name" || mount --bind "$store/$name" "/var/lib/$name"
  done
fi
