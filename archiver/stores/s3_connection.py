"""One boto3 session and one client for all threads: each call goes through the gate and comes back in our own words.

The client is made once. It is made anew only when the store says that its credentials are no longer good and boto3's
chain has others by now (a rotated file or profile; roles and web identities are renewed inside botocore).
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import parse_timestamp

from archiver.errors import StoreBusy, StoreError, StoreUnavailable
from archiver.stores.s3_access import S3Access
from archiver.stores.s3_errors import BUSY, EXPIRED, Doing, code_of, store_error
from archiver.stores.s3_gate import Gate

Operation = Literal[
    "head_bucket",
    "head_object",
    "get_object",
    "put_object",
    "list_objects_v2",
    "list_object_versions",
    "delete_object",
    "get_object_retention",
    "get_object_legal_hold",
    "put_object_retention",
    "put_object_legal_hold",
    "get_object_lock_configuration",
    "get_bucket_versioning",
]
"""Everything we ask of a store; docs/s3.md says which permission each needs."""
_CHUNK_BYTES = 1 << 20
_TOO_MANY = frozenset({429, 503})


class Refused(Exception):
    """A server's refusal that the caller wanted to see; `code` is the server's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class S3Connection:
    """Calls one bucket; safe for threads, its calls block.

    `gate.limit` is how many calls may be under way now; `skew_s` how far this machine's clock is ahead of the store's,
    None before the first answer.

    Raises:
        StoreDenied: from the constructor, when boto3 can't make a client (no such profile, a broken configuration).
    """

    def __init__(self, access: S3Access) -> None:
        self.access = access
        self.gate = Gate(access.threads)
        self.skew_s: float | None = None
        self._given_up = False
        self._renewing = threading.Lock()
        self._client, self._identity = self._made()

    def call(self, operation: Operation, key: str = "", *, seen: frozenset[str] = frozenset(), **params: Any) -> Any:
        """Call one operation on the bucket, or on a key of ours in it.

        Raises:
            Refused: the server refused with one of the codes in `seen`.
            StoreBusy, StoreUnavailable, StoreDenied, StoreFull, StoreMismatch, StoreRefused: everything else.
        """
        if key:
            params["Key"] = self.access.path(key)
        client = self._client
        try:
            try:
                return self._once(client, operation, params)
            except ClientError as error:
                if code_of(error) not in EXPIRED or not self._renewed(client):
                    raise
            if hasattr(params.get("Body"), "seek"):
                params["Body"].seek(0)
            return self._once(self._client, operation, params)
        except ClientError as error:
            if code_of(error) in seen:
                raise Refused(code_of(error)) from None
            raise self._ours(error, operation, key) from None
        except BotoCoreError as error:
            raise self._ours(error, operation, key) from None

    def body(self, answer: Any, key: str) -> Iterator[bytes]:
        """The bytes of a `get_object` in chunks of at most 1 MiB; the connection goes back at the end, or on the way.

        Raises:
            StoreUnavailable: the stream broke, or ended early.
            StoreMismatch: the bytes do not fit the checksum that the store keeps.
        """
        stream = answer["Body"]
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
        except (BotoCoreError, OSError) as error:
            raise self._ours(error, "get_object", key) from None
        finally:
            stream.close()

    def give_up(self) -> None:
        """Let no further request go out, retries included: threads come back after the one they wait for."""
        self._given_up = True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _once(self, client: Any, operation: Operation, params: dict[str, Any]) -> Any:
        with self.gate:
            answer = getattr(client, operation)(Bucket=self.access.bucket, **params)
        self._look_at_clock(answer)
        return answer

    def _ours(self, error: Exception, operation: Operation, key: str) -> StoreError:
        if isinstance(error, ClientError):
            self._look_at_clock(error.response)
        found = store_error(
            error, Doing(operation, self.access.bucket, self.access.path(key) if key else ""), skew_s=self.skew_s
        )
        if isinstance(found, StoreBusy):
            self.gate.busy()
        return found

    def _look_at_clock(self, answer: Any) -> None:
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            self.skew_s = (datetime.now(UTC) - parsedate_to_datetime(said)).total_seconds() if said else self.skew_s
        except (ValueError, TypeError):
            return

    def _made(self) -> tuple[Any, tuple[str, str | None]]:
        """A client, and whose it is; the answer to a retried refusal reaches the gate while botocore still retries."""
        access = self.access
        path_style = access.addressing == "path" or (access.addressing == "auto" and access.endpoint_url)
        try:
            core = botocore.session.get_session()
            # dateutil takes a tenth of a small request's CPU.
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
            session = boto3.Session(botocore_session=core, region_name=access.region or None)
            region = session.region_name or ("us-east-1" if access.endpoint_url else None)
            found = session.get_credentials()
            client = session.client(
                "s3",
                region_name=region,
                endpoint_url=access.endpoint_url or None,
                config=Config(
                    connect_timeout=access.connect_timeout_s,
                    read_timeout=access.read_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": access.attempts},
                    max_pool_connections=access.threads,
                    # Our own checksums go with each write; botocore's would come as trailers that many servers refuse.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path" if path_style else "virtual"},
                    # Both cost a sixth of a small request's CPU, and our parameters are the same few each time.
                    user_agent="recording-archiver",
                    parameter_validation=False,
                ),
            )
            identity = ("", None) if found is None else found.get_frozen_credentials()[0::2]
        except (BotoCoreError, ValueError) as error:
            raise store_error(error, Doing("connecting", access.bucket)) from None
        client.meta.events.register("needs-retry.s3", self._answered)
        client.meta.events.register("before-send.s3", self._leaving)
        return client, identity

    def _renewed(self, client: Any) -> bool:
        """Whether there are other credentials than this client's; the client is then replaced, once for all threads."""
        with self._renewing:
            if self._client is not client:
                return True
            made, identity = self._made()
            if identity == self._identity:
                made.close()
                return False
            self._client, self._identity = made, identity
            return True

    def _leaving(self, **_: Any) -> None:
        if self._given_up:
            raise StoreUnavailable("the run ends, so the store is not asked any more")

    def _answered(self, response: Any, **_: Any) -> None:
        """Botocore asks whether to retry; we only listen for a store that is overrun."""
        if response is not None:
            http, parsed = response
            code = str(parsed.get("Error", {}).get("Code", ""))
            if http.status_code in _TOO_MANY or (http.status_code >= 300 and code in BUSY):  # noqa: PLR2004
                self.gate.busy()


def _timestamp(value: Any) -> datetime:
    """A time in an answer: a header's, a document's, or whatever else botocore knows."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat) if isinstance(value, str) else ():
        try:
            found = parse(value)
        except (ValueError, TypeError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    other: datetime = parse_timestamp(value)
    return other
