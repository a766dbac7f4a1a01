"""Which parts of an address must never be shown: a token may stand in any of them."""

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_SHORTEST, _LONG = 8, 16
_SHORTEST_PASSWORD = 4


def secret_parts(url: str) -> Iterator[str]:
    """The address, its password, and what else in it may be a token by itself."""
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    login, _, host = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    values = [value for pair in parts.query.split("&") for value in pair.partition("=")[::2]]
    found = [parts.path.lstrip("/"), *parts.path.split("/"), parts.query, *values, parts.fragment, login]
    if not password:
        found.append(name)
    if "." not in host:  # else the name of a machine; many services for notifications have a token in its place
        found.append(host)
    for part in found:
        yield from (text for text in {part, unquote(part)} if _may_be_a_token(text))
    yield from (text for text in {password, unquote(password)} if len(text) >= _SHORTEST_PASSWORD)


def passwords(url: str) -> Iterator[str]:
    """A database's password, before the host or among the options, and with one the whole address.

    The database's own library reads addresses in a way of its own: there `/`, `?` and `#` may stand in a password.
    """
    options = [pair.partition("=") for pair in url.partition("?")[2].split("&")]
    found = [url.partition("://")[2].rpartition("@")[0].partition(":")[2]]
    found += [value for name, _, value in options if name.endswith("password")]
    for password in filter(None, found):
        yield from {url, password, unquote(password)}


def _may_be_a_token(text: str) -> bool:
    """Words of a path are none: to hide `notifications` or `archiver` would hide half of every log."""
    is_word = len(text) < _LONG and text.isalpha() and (text.islower() or text.istitle())
    return len(text) >= _SHORTEST and not is_word
