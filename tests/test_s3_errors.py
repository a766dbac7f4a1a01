"""Every error that botocore can raise becomes one of ours at the border (the rest is driven over the wire)."""

from collections.abc import Iterator

import pytest
from botocore import exceptions as boto

from archiver.errors import StoreDenied, StoreError, StoreMismatch, StoreUnavailable
from archiver.stores.s3_errors import Doing, store_error

DOING = Doing("put_object", "recordings", "acc/x.mp3")
PASSING = {
    "ConnectTimeoutError", "ConnectionClosedError", "ConnectionError", "EndpointConnectionError", "HTTPClientError",
    "IncompleteReadError", "MetadataRetrievalError", "ProxyConnectionError", "ReadTimeoutError", "ResponseStreamingError",
}  # fmt: skip
CHANGED = {"ChecksumError", "FlexibleChecksumError"}
CREDENTIALS = {
    "CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError", "SSOTokenLoadError",
    "TokenRetrievalError", "UnauthorizedSSOTokenError",
}  # fmt: skip


def every(kind: type[Exception]) -> Iterator[type[Exception]]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("botocore"):
            yield below
            yield from every(below)


EVERY = sorted(set(every(boto.BotoCoreError)), key=lambda kind: kind.__name__)


def raised(kind: type[Exception]) -> Exception:
    """One of a kind, whatever its constructor asks for."""
    error = kind.__new__(kind)
    Exception.__init__(error, "something went wrong")
    return error


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_error_of_botocore_has_its_place(kind: type[Exception]) -> None:
    found = store_error(raised(kind), DOING)
    if kind.__name__ in PASSING:
        expected: type[StoreError] = StoreUnavailable
    elif kind.__name__ in CHANGED:
        expected = StoreMismatch
    else:
        expected = StoreDenied
    assert type(found) is expected
    assert str(found).startswith("s3://recordings/acc/x.mp3: put_object failed")
    assert ("renew the credentials" in str(found)) >= (kind.__name__ in CREDENTIALS)


def test_the_kinds_that_pass_are_kinds_that_there_are() -> None:
    assert {kind.__name__ for kind in EVERY} >= PASSING | CHANGED | CREDENTIALS


def test_a_broken_connection_is_unavailable() -> None:
    assert type(store_error(ConnectionResetError(104, "reset"), DOING)) is StoreUnavailable
    assert type(store_error(TimeoutError("timed out"), DOING)) is StoreUnavailable


def test_what_the_body_raised_while_botocore_read_it_comes_out_as_it_was() -> None:
    ours = StoreMismatch("fewer bytes")
    assert store_error(boto.HTTPClientError(error=ours), DOING) is ours
