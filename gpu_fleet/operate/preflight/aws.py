"""Calls to AWS: one for each question, however many checks share it, and a clear reason if there is no answer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOError,
    TokenRetrievalError,
)

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 10
TRIES = 3

_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"})
_THROTTLED = frozenset(
    {"RequestLimitExceeded", "Throttled", "Throttling", "ThrottlingException", "ThrottledException",
     "TooManyRequestsException"}
)  # fmt: skip
_BAD_CREDENTIALS = frozenset(
    {"AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException",
     "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)  # fmt: skip
"""https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html and, for EC2 and SNS,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html"""


class UnansweredError(Exception):
    """AWS did not answer a question. `missing_right` is the IAM action that the caller lacks, if that is the reason."""

    def __init__(self, text: str, missing_right: str = "") -> None:
        super().__init__(text)
        self.missing_right = missing_right


class ReadOnlyAws:
    """Read-only calls to one account in one region. Threads may share it; it makes no call twice."""

    def __init__(self, region: str, session: boto3.Session | None = None) -> None:
        self.region = region
        self._session = session
        # Any: the clients of a dozen services, called by the operation's name.
        self._clients: dict[tuple[str, str], Any] = {}
        self._answers: dict[str, Future[Mapping[str, Any] | None]] = {}
        self._lock = threading.Lock()

    def ask(
        self, service: str, operation: str, *, not_found: Collection[str] = (), region: str = "", **parameters: Any
    ) -> Mapping[str, Any] | None:
        """Return the answer, all pages of it; None if the error's code is in `not_found`: the thing does not exist.

        Names are boto3's and the API's: `ask("ec2", "DescribeVpcs", VpcIds=[...])`. Raises UnansweredError.
        """
        region = region or self.region
        key = json.dumps([service, operation, region, sorted(not_found), parameters], sort_keys=True)
        with self._lock:
            first = key not in self._answers
            future = self._answers.setdefault(key, Future())
        if first:
            try:
                future.set_result(self._call(service, operation, not_found, region, parameters))
            except BaseException as error:  # noqa: BLE001  (other threads wait for the future)
                future.set_exception(error)
        return future.result()

    def get(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Return the answer, as `ask` does, about things that always exist."""
        answer = self.ask(service, operation, **parameters)
        return answer or {}

    def _call(
        self, service: str, operation: str, not_found: Collection[str], region: str, parameters: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        # IAM names services as their signatures do: https://docs.aws.amazon.com/service-authorization/
        action = f"{service}:{operation}"
        try:
            client = self._client(service, region)
            action = f"{client.meta.service_model.signing_name}:{operation}"
            method = xform_name(operation)
            if client.can_paginate(method):
                return client.get_paginator(method).paginate(**parameters).build_full_result()
            return getattr(client, method)(**parameters)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in not_found:
                return None
            raise _unanswered(code, str(error.response.get("Error", {}).get("Message", "")), action) from error
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            raise UnansweredError(f"no answer to {action} in time") from error
        except _NO_CREDENTIALS as error:
            raise UnansweredError(f"no AWS credentials: {error}") from error
        # Any other exception is a failed call too: a proxy's page in place of XML raises no BotoCoreError.
        except Exception as error:
            raise UnansweredError(f"{action} failed: {_first_line(str(error)) or type(error).__name__}") from error

    def _client(self, service: str, region: str) -> Any:
        # Clients are thread-safe, sessions are not:
        # https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html#multithreading-or-multiprocessing-with-clients
        with self._lock:
            if (service, region) not in self._clients:
                self._session = self._session or boto3.Session()
                make: Any = self._session.client
                self._clients[service, region] = make(
                    service,
                    region_name=region,
                    config=Config(
                        retries={"mode": "standard", "total_max_attempts": TRIES},
                        connect_timeout=CONNECT_TIMEOUT_SECONDS,
                        read_timeout=READ_TIMEOUT_SECONDS,
                        max_pool_connections=16,
                    ),
                )
            return self._clients[service, region]


def _unanswered(code: str, message: str, action: str) -> UnansweredError:
    if code in _REFUSED:
        # A call may need another right beside its own, for example one of KMS; AWS names it.
        match = re.search(r"not authorized to perform: ([\w-]+:\w+)", message)
        right = match[1] if match else action
        return UnansweredError(f"needs the right {right}", right)
    if code in _THROTTLED:
        return UnansweredError(f"AWS throttled {action}; try again later")
    if code in _BAD_CREDENTIALS:
        hint = "have they expired, or is the region not enabled?"
        return UnansweredError(f"{action}: AWS does not accept the credentials here ({code}); {hint}")
    return UnansweredError(f"{action} failed: {code}: {_first_line(message)}".rstrip(": "))


def _first_line(text: str) -> str:
    """Return the first line: enough of a page that came in place of an error."""
    return text.partition("\n")[0]
