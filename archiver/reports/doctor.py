"""The report of `doctor`: what was looked at, section by section, and the exit code that a run would meet first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from archiver.check import Check, State
from archiver.errors import ExitCode

FIRST = (ExitCode.USAGE, ExitCode.DESTINATION, ExitCode.SIGN_IN_REFUSED, ExitCode.PBX)
"""The order in which a run would meet them: settings, destination, sign-in, PBX (docs/exit-codes.md)."""
_WORST: tuple[State, ...] = ("failed", "weak", "ok")
_OF_SECTION = {"settings": ExitCode.USAGE, "pbx": ExitCode.PBX}


class CheckLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at (see `archiver.check`)."""

    name: str
    state: State
    found: str
    advice: str


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs together; `place` is what was looked at, `not_examined` says why nothing was, else it is empty."""

    name: str
    place: str
    not_examined: str
    checks: list[CheckLine]


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome` is the worst state of all checks."""

    outcome: State
    exit_code: int
    sections: list[Section]


@dataclass(frozen=True, slots=True)
class Examined:
    """A section as it was examined."""

    name: str
    place: str = ""
    checks: Sequence[Check] = ()
    not_examined: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything in it failed."""
        return any(check.state == "failed" for check in self.checks)


def doctor_report(parts: Iterable[Examined]) -> DoctorReport:
    """The report of these sections."""
    parts = tuple(parts)
    checks = [(part.name, check) for part in parts for check in part.checks]
    return DoctorReport(
        outcome=next((state for state in _WORST if any(check.state == state for _, check in checks)), "ok"),
        exit_code=_exit_code(_code(section, check) for section, check in checks if check.state == "failed"),
        sections=[
            Section(
                name=part.name,
                place=part.place,
                not_examined=part.not_examined,
                checks=[
                    CheckLine(name=check.name, state=check.state, found=check.found, advice=check.advice)
                    for check in part.checks
                ],
            )
            for part in parts
        ],
    )


def _code(section: str, check: Check) -> ExitCode:
    return check.exit_code or _OF_SECTION.get(section, ExitCode.DESTINATION)


def _exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """The first that a run would end with; zero when nothing failed."""
    found = set(codes)
    return next((code for code in (*FIRST, *sorted(found)) if code in found), ExitCode.DONE)
