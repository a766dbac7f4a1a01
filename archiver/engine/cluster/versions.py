"""Whether client, scheduler and workers run the same: a pickle of one version is no message for another. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archiver.errors import WorkersDiffer

PACKAGES = ("recording-archiver", "msgspec", "psycopg")
"""Beyond those that Dask itself compares."""
_MUST_AGREE = ("recording-archiver", "python", "distributed", "msgspec")
OTHER_SOURCE = "runs another archiver of the same version number: install the same everywhere"
_MINOR = 2


def fingerprint() -> str:
    """A digest of this program's own source: two development copies may have the same version number."""
    digest = hashlib.sha256()
    house = Path(__file__).parents[2]
    for file in sorted(house.rglob("*.py")):
        digest.update(f"{file.relative_to(house)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def check_versions(found: Mapping[str, Any]) -> None:
    """Compare what Dask tells of client, scheduler and workers (its `get_versions`).

    The scheduler runs nothing of ours: only its Dask must be the same.

    Raises:
        WorkersDiffer: naming who differs, in what, and how.
    """
    ours = _packages(found["client"])
    told = [*_of_scheduler(found.get("scheduler"), ours)]
    for address, worker in sorted(found["workers"].items()):
        told += _differences(f"worker {address}", ours, _packages(worker), _MUST_AGREE)
    if told:
        more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""  # noqa: PLR2004
        raise WorkersDiffer(f"{'; '.join(told[:3])}{more}: install the same versions everywhere")


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """In what a worker differs from here, in words; empty when it does not. Both as Dask tells them of a node."""
    return "; ".join(_differences("it", _packages(ours), _packages(theirs), _MUST_AGREE))


def _of_scheduler(scheduler: Mapping[str, Any] | None, ours: Mapping[str, str | None]) -> Iterator[str]:
    if scheduler is not None:
        yield from _differences("the scheduler", ours, _packages(scheduler), ("distributed",))


def _differences(
    who: str, ours: Mapping[str, str | None], theirs: Mapping[str, str | None], names: tuple[str, ...]
) -> Iterator[str]:
    for name in names:
        if theirs.get(name) is None:
            yield f"{who} has no {name}; here it is {ours.get(name)}"
        elif theirs[name] != ours.get(name):
            yield f"{who} has {name} {theirs[name]}; here it is {ours.get(name)}"


def _packages(node: Mapping[str, Any]) -> Mapping[str, str | None]:
    found = dict(node.get("packages", {}))
    if found.get("python"):
        # A last number never changed what a pickle means.
        found["python"] = ".".join(str(found["python"]).split(".")[:_MINOR])
    return found
