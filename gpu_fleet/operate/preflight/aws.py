"""Asking AWS: one call for each question, however many checks have it, and a clear reason where there is no answer."""

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
    """AWS did not answer a question. `missing_right` is the IAM action that is not allowed, if it is that."""

    def __init__(self, text: str, missing_right: str = "") -> None:
        super().__init__(text)
        self.missing_right = missing_right


class ReadOnlyAws:
    """One account in one region, read-only. Threads may share it; no question is asked twice."""

    def __init__(self, region: str, session: boto3.Session | None = None) -> None:
        self.region = region
        self._session = session
        # Any: the clients of a dozen services, called by the operation's name.
        self._clients: dict[tuple[str, str], Any] = {}
        self._answers: dict[str, Future[Mapping[str, Any] | None]] = {}
        self._lock = threading.Lock()

    def ask(
        self, service: str, operation: str, *, absent: Collection[str] = (), region: str = "", **parameters: Any
    ) -> Mapping[str, Any] | None:
        """The answer, all pages of it, or None where the error's code is in `absent`: there is no such thing.

        Names are boto3's and the API's: `ask("ec2", "DescribeVpcs", VpcIds=[...])`. Raises UnansweredError.
        """
        region = region or self.region
        key = json.dumps([service, operation, region, sorted(absent), parameters], sort_keys=True)
        with self._lock:
            first = key not in self._answers
            future = self._answers.setdefault(key, Future())
        if first:
            try:
                future.set_result(self._call(service, operation, absent, region, parameters))
            except BaseException as error:  # noqa: BLE001  (other threads wait for it: they must hear of anything)
                future.set_exception(error)
        return future.result()

    def get(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """As `ask`, for what is always there."""
        answer = self.ask(service, operation, **parameters)
        return answer or {}

    def _call(
        self, service: str, operation: str, absent: Collection[str], region: str, parameters: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        # The services' names in IAM are those in their signatures: https://docs.aws.amazon.com/service-authorization/
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
            if code in absent:
                return None
            raise _unanswered(code, str(error.response.get("Error", {}).get("Message", "")), action) from error
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            raise UnansweredError(f"no answer to {action} in time") from error
        except _NO_CREDENTIALS as error:
            raise UnansweredError(f"no AWS credentials: {error}") from error
        # Whatever else botocore raises is a call that failed too: a proxy's page in place of XML is no BotoCoreError.
        except Exception as error:
            raise UnansweredError(f"{action} failed: {_first_line(str(error)) or type(error).__name__}") from error

    def _client(self, service: str, region: str) -> Any:
        # A session is not safe for threads, a client is:
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
        # A call may need a right beside its own, as KMS's; AWS names it.
        named = re.search(r"not authorized to perform: ([\w-]+:\w+)", message)
        right = named[1] if named else action
        return UnansweredError(f"needs the right {right}", right)
    if code in _THROTTLED:
        return UnansweredError(f"AWS throttled {action}; try again later")
    if code in _BAD_CREDENTIALS:
        why = "have they expired, or is the region not enabled?"
        return UnansweredError(f"{action}: AWS does not accept the credentials here ({code}); {why}")
    return UnansweredError(f"{action} failed: {code}: {_first_line(message)}".rstrip(": "))


def _first_line(text: str) -> str:
    """Of a page in place of an error no more than that it is one."""
    return text.partition("\n")[0]
