"""A certificate for a simulator on loopback, made by the openssl program: the standard library can't make one."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SUBJECT_NAMES: Final = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate, which is its own authority, and its key, both PEM files."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """The context to give to the simulator."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(folder: Path, *, days: int = 30) -> Certificate:
    """Make a certificate for localhost, 127.0.0.1 and ::1 in a folder that exists; clients trust its PEM as CA file.

    Raises:
        RuntimeError: there is no openssl program, or it failed.
    """
    made = Certificate(folder / "simulator.pem", folder / "simulator.key")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-days", str(days), "-subj", "/CN=localhost", "-addext", _SUBJECT_NAMES]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 -- no foreign text in it
    except FileNotFoundError:
        raise RuntimeError("TLS needs the openssl program to make a certificate, and it is not installed") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"openssl could not make a certificate: {error.stderr.strip()}") from None
    made.key.chmod(0o600)
    return made
