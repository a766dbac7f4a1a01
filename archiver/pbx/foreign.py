"""The border to aiohttp: each of its errors, and each HTTP status, becomes one of ours, and nothing of theirs is kept.

Their exceptions carry request headers, the token among them (aiohttp issue 8402), so ours are raised `from None`.
"""

import os
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from archiver.errors import (
    BadAnswer,
    BodyCut,
    CertificateRefused,
    MediaNotThere,
    PbxError,
    PbxFailing,
    PbxUnreachable,
    RequestRefused,
    TokenExpired,
)

_THEIRS = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError, ValueError)
MOST_RETRY_AFTER_S = 120.0
"""A server may ask for any wait; we take no longer one between two tries."""
_SECONDS = re.compile(r"[+-]?[0-9]{1,18}")
"""Longer is nonsense, and slow."""
_BUSY = frozenset({408, 425, 429})


def ours(error: Exception) -> PbxError:
    """The error of our tree that stands for one of aiohttp's, of `ssl` or of the operating system."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return CertificateRefused(
            "the PBX's TLS certificate can't be trusted: set pbx.ca_file to its private CA, or check pbx.base_url"
        )
    if isinstance(error, TimeoutError):
        return PbxUnreachable("the PBX did not answer in time")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BodyCut("the answer broke off before its end")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return PbxUnreachable("TLS with the PBX failed: does pbx.base_url name the HTTPS port?")
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return PbxUnreachable(_disconnected(error))
    return BadAnswer("the PBX's answer is no proper HTTP")


def _disconnected(error: Exception) -> str:
    """What happened to the connection, in the words of the operating system or the resolver."""
    number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    # Event loops word the same errno differently; a resolver's numbers are negative, and only its text speaks.
    reason = os.strerror(number) if number is not None and number > 0 else text or "it was closed without an answer"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to the PBX: {reason}"
    return f"the connection to the PBX was lost: {reason}"


class Translated:
    """A context manager: errors of the HTTP library leave its block as ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if isinstance(error, _THEIRS):
            raise ours(error) from None


def check_status(status: int, headers: Mapping[str, str], *, media: bool, now: datetime) -> None:
    """Return for a 200, raise ours for everything else.

    Raises:
        TokenExpired, MediaNotThere, PbxFailing, RequestRefused, BadAnswer.
    """
    match status:
        case 200:
            return
        case 401:
            raise TokenExpired("the PBX refused the token")
        case 404 | 410 if media:
            raise MediaNotThere(f"the PBX has no media for this recording (HTTP {status})")
        case _ if status in _BUSY or status >= 500:  # noqa: PLR2004 - server errors
            wait_s = retry_after_s(headers.get("Retry-After", ""), now=now)
            raise PbxFailing(f"the PBX answered HTTP {status}", http_status=status, retry_after_s=wait_s)
        case _ if 300 <= status < 400:  # noqa: PLR2004 - redirects
            target = urlsplit(headers.get("Location", ""))
            origin = f"{target.scheme}://{target.hostname}" if target.hostname else "elsewhere"
            raise RequestRefused(
                f"the PBX redirects to {origin[:80]!a} (HTTP {status}); redirects are never followed",
                http_status=status,
            )
        case _ if status >= 400:  # noqa: PLR2004 - client errors
            raise RequestRefused(f"the PBX refused the request (HTTP {status})", http_status=status)
        case _:
            raise BadAnswer(f"the PBX answered HTTP {status} where 200 was due")


def retry_after_s(text: str, *, now: datetime) -> float | None:
    """Retry-After (RFC 9110, seconds or a date) in seconds, between 0 and the cap; None when absent or unreadable."""
    text = text.strip()
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return min(max(float(text), 0.0), MOST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), MOST_RETRY_AFTER_S)


def skew_s(date: str, *, now: datetime) -> float | None:
    """How far `now` is ahead of a Date header, in seconds; None when there is none, or it is no date."""
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return (now - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds()
