"""The paths of a boot that a stack may choose, by name: what docs/boot.md and the benchmark compare."""

from __future__ import annotations

from gpu_fleet.config.boot_estimate import BootPath, Way

FAST_MIB_PER_SECOND = 1000

BOOT_PATHS = {
    "all through NAT": BootPath(),
    "gp3 at 1000 MiB/s": BootPath(volume_mib_per_second=FAST_MIB_PER_SECOND),
    "instance store": BootPath(instance_store=True),
    "instance store, image from ECR, weights streamed from S3": BootPath(
        image=Way.REGION, weights=Way.REGION, instance_store=True, streamed=True
    ),
    "baked AMI with compile cache, weights streamed from S3": BootPath(
        image=Way.AMI,
        weights=Way.REGION,
        volume_mib_per_second=FAST_MIB_PER_SECOND,
        streamed=True,
        compile_cached=True,
    ),
}
"""Each named by what it changes against the first, in which image and weights come from the internet onto a gp3 volume
at its baseline."""
