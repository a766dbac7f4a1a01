"""TLS with the PBX: the context that every connection uses, and a handshake by itself for `doctor` to look at."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from archiver.errors import SettingsError
from archiver.pbx.base import Access
from archiver.pbx.foreign import ours
from archiver.pbx.probe import TlsProblem, TlsSeen

_MOST_LETTERS = 100
_PROBLEMS: dict[int, TlsProblem] = {
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    19: "unknown_issuer",
    20: "unknown_issuer",
    21: "unknown_issuer",
    62: "other_host",
    64: "other_host",
}
"""OpenSSL's numbers (x509_vfy.h)."""


def tls_context(access: Access) -> ssl.SSLContext:
    """The system's authorities and those of `ca_file`, TLS 1.2 and newer.

    Raises:
        SettingsError: `ca_file` can't be read.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.ca_file is not None:
        try:
            context.load_verify_locations(cafile=access.ca_file)
        except OSError as error:
            raise SettingsError(f"pbx.ca_file {access.ca_file} can't be read as PEM certificates: {error}") from None
    return context


async def tls_seen(access: Access) -> TlsSeen | None:
    """What a handshake shows; None when `base_url` is not HTTPS. Nothing is sent over the connection.

    Raises:
        SettingsError, PbxUnreachable.
    """
    if not access.base_url.startswith("https:"):
        return None
    context = tls_context(access)
    try:
        return await _handshake(access, context)
    except ssl.SSLCertVerificationError as error:
        problem, said = _PROBLEMS.get(error.verify_code, "other"), error.verify_message
    except (OSError, TimeoutError) as error:
        raise ours(error) from None
    names: tuple[str, ...] = ()
    if problem == "other_host":
        # The chain is checked all the same; only whose name it bears is looked at instead of enforced.
        context.check_hostname = False
        with suppress(OSError, TimeoutError):
            names = (await _handshake(access, context)).names
    return TlsSeen(problem, said, names=names)


async def _handshake(access: Access, context: ssl.SSLContext) -> TlsSeen:
    address = urlsplit(access.base_url)
    async with asyncio.timeout(access.connect_timeout_s):
        _, writer = await asyncio.open_connection(address.hostname, address.port or 443, ssl=context)
    try:
        return _told(writer.get_extra_info("ssl_object"))
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(access.connect_timeout_s):
                await writer.wait_closed()


def _told(connection: Any) -> TlsSeen:
    certificate = connection.getpeercert() or {}
    return TlsSeen(
        protocol=connection.version() or "",
        subject=_name(certificate.get("subject", ())),
        issuer=_name(certificate.get("issuer", ())),
        names=tuple(str(name)[:_MOST_LETTERS] for _, name in certificate.get("subjectAltName", ())),
        expires_at=datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC),
    )


def _name(parts: Any) -> str:
    """The name that a person knows it by: the common name, else the organisation, else all of it."""
    found: dict[str, str] = dict(_attributes(parts))
    return (found.get("commonName") or found.get("organizationName") or ", ".join(found.values()))[:_MOST_LETTERS]


def _attributes(parts: Any) -> Iterator[tuple[str, str]]:
    for part in parts:
        yield from ((str(key), str(value)) for key, value in part)
