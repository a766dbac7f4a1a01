"""Scripted faults: which request is spoiled, how often, and the book-keeping of which faults were ever hit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from archiver.simulator.faultfile import read_fault_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from archiver.simulator.actions import Action
    from archiver.simulator.http import Request

On = Literal["login", "recordings", "cdrs", "media", "any"]
Kind = Literal["login", "recordings", "cdrs", "media", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        on: the kind of request it spoils.
        action: what it does, or several actions in order.
        account_id, recording_id: spoils only requests of this account, for this recording's media.
        page: spoils only this page of a listing, counted from 1 along one walk of a window.
        start_key: spoils only the page asked for with this startKey; "" is the first.
        after: how many matching requests it lets pass first.
        times: how many it then spoils; -1 for ever.
        name: what reports call it; otherwise they describe it.
    """

    on: On
    action: Action | tuple[Action, ...]
    account_id: str | None = None
    recording_id: str | None = None
    page: int | None = None
    start_key: str | None = None
    after: int = 0
    times: int = 1
    name: str = ""

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions as a tuple."""
        return self.action if isinstance(self.action, tuple) else (self.action,)

    def __str__(self) -> str:
        return self.name or f"{self.on}: {', '.join(map(repr, self.actions))}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a fault sees it; `page` is 0 for anything but a listing."""

    kind: Kind
    account_id: str
    recording_id: str | None
    start_key: str
    page: int


@dataclass(slots=True)
class _Entry:
    fault: Fault
    seen: int = 0
    hits: int = 0

    def takes(self, asked: Asked) -> bool:
        """Whether the fault is due at this request; counts it either way."""
        fault = self.fault
        if fault.on not in {"any", asked.kind} or fault.account_id not in {None, asked.account_id}:
            return False
        if fault.recording_id not in {None, asked.recording_id} or fault.page not in {None, asked.page}:
            return False
        if fault.start_key is not None and not (asked.page and fault.start_key == asked.start_key):
            return False
        if 0 <= fault.times <= self.hits:
            return False
        self.seen += 1
        if self.seen <= fault.after:
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class _Walks:
    """Which page of its walk a listing's request is: the same startKey has the same number until a walk starts anew."""

    seen: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)

    def page(self, kind: Kind, request: Request) -> int:
        parameters = request.parameters
        walk = (kind, request.account_id, parameters.get("startDate", ""), parameters.get("endDate", ""))
        start_key = parameters.get("startKey", "")
        pages = self.seen.setdefault(walk, {})
        if not start_key:
            pages.clear()
        return pages.setdefault(start_key, len(pages) + 1)


class FaultScript:
    """Faults in order; the first that is due at a request spoils it. Faults may be added during a run."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._entries = [_Entry(fault) for fault in faults]
        self._walks = _Walks()

    @classmethod
    def load(cls, path: Path) -> FaultScript:
        """The faults of a JSON or TOML file.

        Raises:
            ValueError: the entry and the field that are wrong, and what is allowed.
            OSError: the file can't be read.
        """
        return cls(Fault(**entry) for entry in read_fault_file(path))

    def add(self, fault: Fault) -> None:
        """Append a fault."""
        self._entries.append(_Entry(fault))

    def clear(self) -> None:
        """Forget all faults and their counts."""
        self._entries.clear()

    def take(self, kind: Kind, recording_id: str | None, request: Request) -> Fault | None:
        """The fault that spoils this request, counted as hit."""
        if not self._entries:
            return None
        is_listing = kind in {"recordings", "cdrs"}
        page = self._walks.page(kind, request) if is_listing else 0
        start_key = request.parameters.get("startKey", "") if is_listing else ""
        asked = Asked(kind, request.account_id, recording_id, start_key, page)
        return next((entry.fault for entry in self._entries if entry.takes(asked)), None)

    def hits(self) -> list[tuple[Fault, int]]:
        """Every fault and how often it was hit."""
        return [(entry.fault, entry.hits) for entry in self._entries]

    def unhit(self) -> list[Fault]:
        """The faults that no request ever met."""
        return [entry.fault for entry in self._entries if not entry.hits]
