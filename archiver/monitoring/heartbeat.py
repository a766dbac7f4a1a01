"""The heartbeat: one GET after each good run. Whoever expects it raises the alarm when it stays away."""

import asyncio
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp

from archiver.monitoring.patience import Patience

_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


async def beat(url: str, patience: Patience) -> str:
    """Call the address; '' when it answered well, else why not. The address, which holds a token, is never part of that.

    Redirects are followed within the same origin only. What passes (no connection, silence, 429, 5xx) is tried again.
    """
    timeout = aiohttp.ClientTimeout(total=patience.timeout_s)
    why = ""
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for number in range(patience.tries):
            if number:
                await asyncio.sleep(patience.pause_s * 2 ** (number - 1))
            why, passes = await _tried(session, url, patience)
            if not passes:
                break
    return why


async def _tried(session: aiohttp.ClientSession, url: str, patience: Patience) -> tuple[str, bool]:
    """One try: why it failed, and whether another may help."""
    try:
        return await _asked(session, url)
    except TimeoutError:
        return f"no answer within {patience.timeout_s:g} s", True
    except aiohttp.ClientConnectorCertificateError:
        return "the server's certificate can't be trusted", False
    except aiohttp.ClientConnectorError as error:
        return f"no connection ({error.os_error.strerror or 'unknown reason'})", True
    except (aiohttp.ClientError, OSError):
        return "the connection broke", True
    except ValueError:
        return "the server redirects to something that is no address", False


async def _asked(session: aiohttp.ClientSession, url: str) -> tuple[str, bool]:
    for _ in range(_MOST_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status in _REDIRECTS:
                there = urljoin(url, answer.headers.get("Location", ""))
                if _origin(urlsplit(there)) != _origin(urlsplit(url)):
                    return "the server redirects to another origin, which is not followed", False
                url = there
                continue
            if answer.ok:
                return "", False
            passes = answer.status == _TOO_MANY_REQUESTS or answer.status >= _SERVER_ERROR
            return f"the server answered {answer.status}", passes
    return "the server redirects again and again", False


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
