"""Container images in ECR. AWS cannot check other registries."""

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
    def parse(cls, image: str) -> EcrImage | None:
        """Parse an image's name; None if it is in another registry. Without tag and digest Docker uses `latest`."""
        match = _ECR.fullmatch(image)
        if match is None:
            return None
        digest = match["digest"] or ""
        return cls(match["account"], match["region"], match["repository"], match["tag"] or "latest", digest)


def judge_image(answer: Mapping[str, Any] | None) -> Finding:
    """The registry has the image."""
    details = (answer or {}).get("imageDetails", ())
    if not details:
        return wrong("the registry has no such repository, tag or digest")
    size = details[0].get("imageSizeInBytes")
    return ok("exists" if size is None else f"exists, {size / 2**30:.1f} GiB compressed")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each service's image that is in ECR."""
    for service_name, service in stack.settings.services.items():
        image = EcrImage.parse(service.container.image)
        if image is None:
            continue

        def examine(aws: ReadOnlyAws, image: EcrImage = image) -> Finding:
            return judge_image(
                aws.ask(
                    "ecr",
                    "DescribeImages",
                    not_found=("RepositoryNotFoundException", "ImageNotFoundException", "InvalidParameterException"),
                    region=image.region,
                    registryId=image.account,
                    repositoryName=image.repository,
                    imageIds=[{"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}],
                )
            )

        subject = f"{image.repository}{f'@{image.digest[:19]}' if image.digest else f':{image.tag}'}"
        yield Check("image", subject, ("services", service_name, "container", "image"), examine)
