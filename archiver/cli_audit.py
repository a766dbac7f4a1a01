"""The commands about the audit trail."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import click

from archiver.errors import ExitCode

T = TypeVar("T")


class Telling(Protocol):
    """What the options before the command said, and how a report is told (see `cli.Context`)."""

    def settings(self) -> Any:
        """The settings."""
        ...

    def told(
        self, work: Callable[[asyncio.Event], Coroutine[Any, Any, T]], words: Callable[[T], str], as_json: bool
    ) -> T:
        """What a coroutine comes to, said on stdout."""
        ...


_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group()
def audit() -> None:
    """Check or show the audit trail: who did what, when, in which run, and with what result."""


@audit.command()
@_json
@click.pass_obj
def check(context: Telling, as_json: bool) -> None:
    """Say whether the trail is whole: every record bound to the one before it; exit code 7 where it was cut or edited."""
    from archiver import proof_words
    from archiver.evidence import run_audit_check

    settings = context.settings()
    report = context.told(lambda _: run_audit_check(settings), proof_words.trail_words, as_json)
    raise click.exceptions.Exit(ExitCode.DONE if report.whole else ExitCode.DAMAGE)


@audit.command()
@click.option("--last", metavar="N", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@_json
@click.pass_obj
def show(context: Telling, last: int, as_json: bool) -> None:
    """Show the last records of the trail, oldest first."""
    from archiver import proof_words
    from archiver.evidence import run_audit_show

    settings = context.settings()
    context.told(lambda _: run_audit_show(settings, last), proof_words.records_words, as_json)
