"""Which parts of an address must never be shown: a token may stand in any of them."""

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_SHORTEST = 8
"""A shorter part is rather a word of the path than a token, and hiding it would hide half a log."""


def secret_parts(url: str) -> Iterator[str]:
    """The address, and what in it may be a token by itself."""
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    pairs = [value for pair in parts.query.split("&") for value in pair.partition("=")[::2]]
    login, _, host = parts.netloc.rpartition("@")
    if "." in host:
        host = ""  # the name of a machine; many services for notifications have a token in its place
    found = [*parts.path.split("/"), parts.path.lstrip("/"), parts.query, *pairs, parts.fragment, host, login]
    found += login.split(":")
    for part in found:
        for text in {part, unquote(part)}:
            if len(text) >= _SHORTEST:
                yield text
