"""Send a model's files to a folder in S3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from gpu_fleet.config.model_weights import WeightsPlace
from gpu_fleet.operate.weights.model_file import ModelFile, WeightsError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

PARALLEL_FILES = 4
PART_BYTES = 64 * 2**20
"""With parts of 64 MiB a file may have 625 GiB: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

VERSION = "gpu-fleet-version"
"""Metadata of each object: its file's version."""

Sent = Callable[[str, int], None]
"""Called with a file's path and a number of bytes of it that are in S3."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a run has done."""

    sent: int
    """Files."""
    unchanged: int
    deleted: int


def fill(s3: S3Client, place: WeightsPlace, files: Sequence[ModelFile], *, delete: bool, done: Sent) -> Filled:
    """Make the folder hold these files; what it holds already is not sent again.

    Raises WeightsError if it holds other files and `delete` does not allow to delete them: they are perhaps another
    model's. Other files go last, so that instances never find less than one whole model.
    """
    there = _keys(s3, place)
    keys = {f"{place.prefix}/{file.path}" for file in files}
    others = sorted(there.keys() - keys)
    if others and not delete:
        raise WeightsError(
            "", f"{place.uri} holds {len(others)} other files, like {others[0]}; allow --delete, or take another prefix"
        )

    def send(file: ModelFile) -> bool:
        key = f"{place.prefix}/{file.path}"
        if there.get(key) == file.size_bytes and _version(s3, place, key) == file.version:
            done(file.path, file.size_bytes)
            return False
        _send(s3, place, key, file, done)
        return True

    with ThreadPoolExecutor(PARALLEL_FILES) as threads:
        sent = sum(threads.map(send, files))
    for key in others:
        s3.delete_object(Bucket=place.bucket, Key=key)
    return Filled(sent, len(files) - sent, len(others))


def _send(s3: S3Client, place: WeightsPlace, key: str, file: ModelFile, done: Sent) -> None:
    try:
        with file.open() as body:
            s3.upload_fileobj(
                body,
                place.bucket,
                key,
                ExtraArgs={"Metadata": {VERSION: file.version}},
                Callback=lambda count: done(file.path, count),
                Config=TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES),
            )
    except HTTPException as error:
        raise WeightsError("", f"{file.path} broke off: {error}; run it again") from None
    size = s3.head_object(Bucket=place.bucket, Key=key)["ContentLength"]
    if size != file.size_bytes:
        # A connection that broke may look like the end of the file.
        s3.delete_object(Bucket=place.bucket, Key=key)
        raise WeightsError("", f"{file.path} broke off at {size} of {file.size_bytes} bytes; run it again")


def _keys(s3: S3Client, place: WeightsPlace) -> Mapping[str, int]:
    """Return the folder's objects with their sizes. Raises WeightsError if there is no such bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=f"{place.prefix}/")
    try:
        objects = [each for page in pages for each in page.get("Contents", ())]
        return {each.get("Key", ""): each.get("Size", -1) for each in objects}
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchBucket":
            raise
        raise WeightsError("", f"there is no bucket {place.bucket}: run pulumi up first, which makes it") from None


def _version(s3: S3Client, place: WeightsPlace, key: str) -> str | None:
    return s3.head_object(Bucket=place.bucket, Key=key)["Metadata"].get(VERSION)
