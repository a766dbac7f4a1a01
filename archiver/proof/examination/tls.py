"""The certificate that the PBX shows, as a check."""

from datetime import datetime
from urllib.parse import urlsplit

from archiver.check import Check
from archiver.errors import ExitCode
from archiver.pbx.probe import TlsProblem, TlsSeen

_SOON_DAYS = 30

_REFUSED: dict[TlsProblem, tuple[str, str]] = {
    "expired": ("has expired", "have it renewed at the PBX; if it is new, set this machine's clock"),
    "not_yet_valid": ("is not valid yet", "set this machine's clock (NTP)"),
    "self_signed": (
        "is signed by itself and not trusted",
        "pbx.ca_file = that certificate as PEM, from whoever runs the PBX",
    ),
    "unknown_issuer": (
        "comes from an authority that is not trusted",
        "pbx.ca_file = the PEM file of the private CA; a public one: the PBX leaves out its intermediate certificate",
    ),
}


def tls_check(tls: TlsSeen, base_url: str, *, now: datetime) -> Check:
    """What the certificate is worth: failed when it is refused, weak when it ends soon."""
    host = urlsplit(base_url).hostname or ""
    if tls.problem == "other_host":
        names = f"; it is for {', '.join(tls.names[:5])}" if tls.names else ""
        advice = "put a name that it is for into pbx.base_url, or have it made for this one"
        return Check("tls", "failed", f"the PBX's certificate is not for {host}{names}", advice, ExitCode.PBX)
    if tls.problem:
        said, advice = _REFUSED.get(tls.problem, ("is refused", "pbx.ca_file, or have the PBX's certificate mended"))
        return Check("tls", "failed", f"the PBX's certificate {said} ({tls.said})", advice, ExitCode.PBX)
    found = f"{tls.protocol} with {host}; certificate of {tls.subject or host} by {tls.issuer or 'nobody named'}"
    if tls.expires_at is None:
        return Check("tls", "ok", found)
    days = (tls.expires_at - now).days
    found += f", until {tls.expires_at:%Y-%m-%d} ({days} days)"
    if days < _SOON_DAYS:
        return Check("tls", "weak", found, "have it renewed: runs end with exit code 8 once it has expired")
    return Check("tls", "ok", found)
