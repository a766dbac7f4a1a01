"""What makes a folder a bag (RFC 8493): its manifests, from the digests made while writing, and what it says of itself."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import bagit

from archiver.errors import StoreMismatch
from archiver.proof.export.payload import Payload
from archiver.recording import Fixity

MANIFEST = "manifest-sha256.txt"
_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def write_tag_files(payload: Payload, info: Mapping[str, str]) -> str:
    """Write them all, `bagit.txt` last; the SHA-256 (hex) of the payload's manifest. Blocking.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable.
    """
    data = {path: fixity for path, fixity in payload.files.items() if path.startswith("data/")}
    size_bytes = sum(fixity.size_bytes for fixity in data.values())
    manifest = _manifest(data)
    said = dict(info) | {"Payload-Oxum": f"{size_bytes}.{len(data)}"}
    payload.write(MANIFEST, manifest)
    payload.write("bag-info.txt", "".join(f"{name}: {text}\n" for name, text in said.items()).encode())
    tags = {path: payload.files[path] for path in (MANIFEST, "bag-info.txt")}
    tags["bagit.txt"] = Fixity(len(_DECLARATION), hashlib.sha256(_DECLARATION).digest())
    payload.write("tagmanifest-sha256.txt", _manifest(tags))
    payload.write("bagit.txt", _DECLARATION)
    return hashlib.sha256(manifest).hexdigest()


def bag_info(name: str, reference: str, by: str, at: datetime, software: str) -> dict[str, str]:
    """What `bag-info.txt` says, but for what is counted."""
    info = {
        "External-Identifier": name,
        "External-Description": "Call recordings with their metadata, call records and audit records",
        "Internal-Sender-Identifier": reference,
        "Contact-Name": by,
        "Bagging-Date": f"{at:%Y-%m-%d}",
        "Bag-Software-Agent": f"{software}, checked by bagit-python {bagit.VERSION}",
    }
    return {tag: text for tag, text in info.items() if text}


def check_bag(payload: Payload) -> None:
    """Have the library read the whole bag once more, every byte of it; blocking.

    Raises:
        StoreMismatch: what can be read there is not what was written.
    """
    try:
        bagit.Bag(str(payload.folder.path)).validate()
    except (bagit.BagError, OSError) as error:
        raise StoreMismatch(
            f"{payload.folder.path}: what was written there can't be read back whole: {error}"
        ) from error


def _manifest(files: Mapping[str, Fixity]) -> bytes:
    return b"".join(f"{fixity.sha256.hex()}  {path}\n".encode("ascii") for path, fixity in sorted(files.items()))
