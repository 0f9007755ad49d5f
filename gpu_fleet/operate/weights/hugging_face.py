"""A model on Hugging Face, by the hub's API: https://huggingface.co/docs/hub/api."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from gpu_fleet.operate.weights.model_file import ModelFile, WeightsError

TIMEOUT_SECONDS = 30
"""Without data."""


def hub_files(model: str, revision: str = "main") -> list[ModelFile]:
    """Return a repository's files at the commit that a revision names.

    `HF_TOKEN` and `HF_ENDPOINT` count, as for Hugging Face's own tools:
    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    Raises WeightsError if the hub does not answer or refuses.
    """
    try:
        with _get(f"api/models/{model}/revision/{quote(revision, safe='')}?blobs=true") as answer:
            found: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        hint = "; a gated or private model needs HF_TOKEN" if error.code in (401, 403, 404) else ""
        raise WeightsError("", f"{model} at {revision}: Hugging Face answers {error.code}{hint}") from None
    except (URLError, TimeoutError, json.JSONDecodeError) as error:
        raise WeightsError("", f"{model}: Hugging Face does not answer: {error}") from None
    commit = found["sha"]

    def file(sibling: dict[str, Any]) -> ModelFile:
        path = sibling["rfilename"]
        return ModelFile(
            path, sibling["size"], f"{model}@{commit}", lambda: _get(f"{model}/resolve/{commit}/{quote(path)}")
        )

    return [file(sibling) for sibling in found["siblings"]]


def _get(path: str) -> AbstractContextManager[BinaryIO]:
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not hub.startswith(("https://", "http://")):
        raise WeightsError("HF_ENDPOINT", f"must be a URL like https://huggingface.co (got {hub})")
    request = Request(f"{hub}/{path}")  # noqa: S310 the scheme is checked
    if token := os.environ.get("HF_TOKEN"):
        # The hub redirects to storage of others, which must not get the token.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310 the scheme is checked
