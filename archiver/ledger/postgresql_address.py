"""The address of a PostgreSQL ledger: it may hold a password, so nothing but host, port and database ever leaves it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from archiver.errors import LedgerError

_SCHEMES = re.compile(r"postgresql(\+psycopg)?://")
_PORTS = re.compile(r"[\d,]*", re.ASCII)
_PLAIN = re.compile(r"[\w.,:%/\[\] -]{0,200}")
INSTALL = "A PostgreSQL ledger needs the package psycopg: install recording-archiver[postgresql]."
_CONNECTION = {
    "application_name": "recording-archiver",
    "connect_timeout": "10",
    # A host that is gone is noticed within half a minute.
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


@dataclass(frozen=True, slots=True)
class Address:
    """How to connect, as libpq's parameters, and the words that may be shown."""

    parameters: Mapping[str, str] = field(repr=False)
    place: str

    @property
    def password(self) -> str:
        """The password; empty when the address has none."""
        return self.parameters.get("password", "")

    def with_schema(self, schema: str) -> str:
        """The whole address, password included, of another schema of the database; its name needs no quotes."""
        options = f"{self.parameters.get('options', '')} -csearch_path={schema}".strip()
        return f"postgresql:///?{urlencode({**self.parameters, 'options': options}, quote_via=quote)}"

    @property
    def host(self) -> str:
        """The host or the folder of the socket; empty for libpq's default."""
        return self.parameters.get("hostaddr", "") or self.parameters.get("host", "")


def is_postgresql(url: str) -> bool:
    """Whether the address is that of a PostgreSQL ledger."""
    return _SCHEMES.match(url) is not None


def address_of(url: str) -> Address:
    """Read an address.

    Raises:
        LedgerError: it can't be read, or the driver is not installed; what it holds is not repeated.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise LedgerError(INSTALL) from None
    try:
        given = conninfo_to_dict(_SCHEMES.sub("postgresql://", url, count=1))
    except ProgrammingError:
        # What libpq says of it may hold a part of the password.
        raise LedgerError(_unreadable()) from None
    parameters = {name: str(value) for name, value in given.items() if value is not None}
    host, port, name = parameters.get("host", ""), parameters.get("port", ""), parameters.get("dbname", "")
    # Without a host what was meant as a password is read as a port.
    if "@" in host or not _PORTS.fullmatch(port) or not all(_PLAIN.fullmatch(each) for each in (host, port, name)):
        raise LedgerError(_unreadable())
    place = f"postgresql://{host or 'localhost'}{':' + port if port else ''}/{name}"
    return Address({**_CONNECTION, **parameters}, place)


def _unreadable() -> str:
    return (
        "ledger.url can't be read as a PostgreSQL address: use postgresql://user:password@host:port/database, with "
        "characters such as @ : / in the password written as %40 %3A %2F."
    )
