"""The commands about the audit trail."""

import click

from archiver.cli.context import Context, as_json, leave, say
from archiver.errors import ExitCode


@click.group()
def audit() -> None:
    """Check or show the audit trail: who did what, when, in which run, and with what result."""


@audit.command()
@as_json
@click.pass_obj
def check(context: Context, as_json: bool) -> None:
    """Say whether the trail is whole: every record bound to the one before it; exit code 7 where it was cut or edited."""
    from archiver.cli.words.audit import trail_words
    from archiver.evidence import run_audit_check

    settings = context.settings()
    report = context.loop(lambda _: run_audit_check(settings))
    say(report, trail_words, as_json)
    leave(ExitCode.DONE if report.whole else ExitCode.DAMAGE)


@audit.command()
@click.option("--last", metavar="N", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@as_json
@click.pass_obj
def show(context: Context, last: int, as_json: bool) -> None:
    """Show the last records of the trail, oldest first."""
    from archiver.cli.words.audit import records_words
    from archiver.evidence import run_audit_show

    settings = context.settings()
    say(context.loop(lambda _: run_audit_show(settings, last)), records_words, as_json)
