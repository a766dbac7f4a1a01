"""The report of `doctor`: what was looked at, section by section, and the exit code that a run would meet first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from archiver.check import Check, State
from archiver.errors import ExitCode
from archiver.proof.examination.behaviours import Behaviour, BehaviourState

FIRST = (ExitCode.USAGE, ExitCode.DESTINATION, ExitCode.SIGN_IN_REFUSED, ExitCode.PBX)
"""The order in which a run would meet them: settings, destination, sign-in, PBX (docs/exit-codes.md)."""
_WORST: tuple[State, ...] = ("failed", "weak", "ok")
_OF_SECTION = {"settings": ExitCode.USAGE, "cluster": ExitCode.PBX, "pbx": ExitCode.PBX}


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


class BehaviourLine(msgspec.Struct, frozen=True, kw_only=True):
    """How the PBX behaves in one thing (see `archiver.proof.examination.behaviours`)."""

    name: str
    state: BehaviourState
    seen: str
    found: str
    matters: str
    advice: str


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome` is the worst state of all checks and behaviours; what could not be told does not count."""

    outcome: State
    exit_code: int
    sections: list[Section]
    behaviours: list[BehaviourLine]


@dataclass(frozen=True, slots=True)
class Examined:
    """A section as it was examined."""

    name: str
    place: str = ""
    checks: Sequence[Check] = ()
    not_examined: str = ""
    behaviours: Sequence[Behaviour] = ()


def doctor_report(parts: Iterable[Examined]) -> DoctorReport:
    """The report of these sections."""
    parts = tuple(parts)
    checks = [(part.name, check) for part in parts for check in part.checks]
    behaviours = [behaviour for part in parts for behaviour in part.behaviours]
    states = {check.state for _, check in checks} | {behaviour.state for behaviour in behaviours}
    codes = [_code(section, check) for section, check in checks if check.state == "failed"]
    codes += [behaviour.exit_code for behaviour in behaviours if behaviour.state == "failed"]
    return DoctorReport(
        outcome=next((state for state in _WORST if state in states), "ok"),
        exit_code=_exit_code(codes),
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
        behaviours=[
            BehaviourLine(
                name=one.name,
                state=one.state,
                seen=one.seen,
                found=one.found,
                matters=one.matters,
                advice=one.advice,
            )
            for one in behaviours
        ],
    )


def _code(section: str, check: Check) -> ExitCode:
    return check.exit_code or _OF_SECTION.get(section, ExitCode.DESTINATION)


def _exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """The first that a run would end with; zero when nothing failed."""
    found = set(codes)
    return next((code for code in (*FIRST, *sorted(found)) if code in found), ExitCode.DONE)
