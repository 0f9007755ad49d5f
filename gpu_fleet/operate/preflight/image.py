"""Container images in ECR. Of other registries AWS knows nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z0-9.-]+/"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class EcrImage:
    """The parts of `ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG`, or `@DIGEST`.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
    """

    account: str
    region: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def read(cls, image: str) -> EcrImage | None:
        """The parts; None for an image of another registry. Without tag and digest Docker takes `latest`."""
        found = _ECR.fullmatch(image)
        if found is None:
            return None
        digest = found["digest"] or ""
        return cls(found["account"], found["region"], found["repository"], found["tag"] or "latest", digest)


def image(answer: Mapping[str, Any] | None) -> Finding:
    """It can be pulled by this name."""
    details = (answer or {}).get("imageDetails", ())
    if not details:
        return wrong("the registry has no such repository, tag or digest")
    size = details[0].get("imageSizeInBytes")
    return ok("there" if size is None else f"there, {size / 2**30:.1f} GiB compressed")


def checks(stack: Stack) -> Iterator[Check]:
    """Each service's image, where it lies in ECR."""
    for service_name, service in stack.settings.services.items():
        name = EcrImage.read(service.container.image)
        if name is None:
            continue

        def look(aws: ReadOnlyAws, name: EcrImage = name) -> Finding:
            return image(
                aws.ask(
                    "ecr",
                    "DescribeImages",
                    absent=("RepositoryNotFoundException", "ImageNotFoundException", "InvalidParameterException"),
                    region=name.region,
                    registryId=name.account,
                    repositoryName=name.repository,
                    imageIds=[{"imageDigest": name.digest} if name.digest else {"imageTag": name.tag}],
                )
            )

        subject = f"{name.repository}{f'@{name.digest[:19]}' if name.digest else f':{name.tag}'}"
        yield Check("image", subject, ("services", service_name, "container", "image"), look)
