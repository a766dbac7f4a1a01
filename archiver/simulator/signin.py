"""Signing in: who may, the tokens given out, and the secrets an answer carries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may sign in."""

    username: str = "archiver"
    password: str = "simulator"  # noqa: S105 -- the toy's own
    domain: str = "example"


class SignIn:
    """Issues and checks access tokens: HS256 JWTs that end `lifetime_s` seconds after they were issued.

    Args:
        credentials: the one account.
        lifetime_s: seconds a token lives.
        clock: Unix seconds.
    """

    def __init__(self, credentials: Credentials, lifetime_s: float, clock: Callable[[], float]) -> None:
        self._credentials = credentials
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._ends_at: dict[str, float] = {}
        self._canaries = {credentials.password}

    @property
    def canaries(self) -> frozenset[str]:
        """Every secret handed out or taken in so far: none may appear in a log, a ledger or a file of the client."""
        return frozenset(self._canaries)

    def sign_in(self, asked: object) -> dict[str, Any] | None:
        """The login answer, or None for wrong credentials.

        Raises:
            ValueError: a field is missing or no text.
        """
        fields = [asked.get(key) if isinstance(asked, dict) else None for key in ("username", "password", "domain")]
        if not all(isinstance(field, str) and field for field in fields):
            raise ValueError("username, password and domain are wanted")
        right = self._credentials
        if fields != [right.username, right.password, right.domain]:
            return None
        access_token, refresh_token = self._issue(), secrets.token_urlsafe(32)
        user = {
            "id": hashlib.blake2b(right.username.encode(), digest_size=16).hexdigest(),
            "username": right.username,
            "domain": right.domain,
            "first_name": "Archiver",
            "last_name": "Service",
            "email": f"{right.username}@{right.domain}.example",
            "phone_number": "+15550147236",
            "priv_level": "admin",
            "pvt_sha1_auth": hashlib.blake2b(right.password.encode(), digest_size=20, key=b"sha1").hexdigest(),
            "pvt_md5_auth": hashlib.blake2b(right.password.encode(), digest_size=16, key=b"md5").hexdigest(),
        }
        self._canaries |= {access_token, refresh_token, user["phone_number"]}
        self._canaries |= {user["pvt_sha1_auth"], user["pvt_md5_auth"]}
        return {"user": user, "access_token": access_token, "refresh_token": refresh_token}

    def is_valid(self, authorization: str) -> bool:
        """Whether an Authorization header carries a token that is alive."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._clock() < self._ends_at.get(token.strip(), 0.0)

    def expire_all(self) -> None:
        """Make every token issued so far invalid."""
        self._ends_at.clear()

    def _issue(self) -> str:
        now = self._clock()
        ends_at = now + self._lifetime_s
        claims = {"iss": "pbx-simulator", "iat": int(now), "exp": int(ends_at), "jti": secrets.token_hex(8)}
        unsigned = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        signature = hmac.digest(self._key, unsigned.encode("ascii"), "sha256")
        token = f"{unsigned}.{_base64url(signature)}"
        self._ends_at[token] = ends_at
        return token


def _part(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
