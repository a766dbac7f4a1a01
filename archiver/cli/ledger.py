"""The commands about the ledger itself."""

import click

from archiver.cli.context import Context, as_json, leave, say
from archiver.errors import ExitCode


@click.group()
def ledger() -> None:
    """Move the ledger to another database."""


@ledger.command()
@click.option("--from", "source", metavar="URL", default="", help="The ledger to copy. [default: that of the settings]")
@click.option(
    "--to",
    "target",
    metavar="URL",
    required=True,
    help="postgresql://user@host/database, or sqlite:/// and a full path.",
)
@as_json
@click.pass_obj
def copy(context: Context, source: str, target: str, as_json: bool) -> None:
    """Copy the ledger to where there is none, row for row, and compare; nobody may work on the archive meanwhile.

    Who can list this machine's processes sees the addresses: leave a password out, and keep it in ~/.pgpass (0600), in
    the file that PGPASSFILE names, or in PGPASSWORD.
    """
    from archiver.cli.words.copying import copy_words
    from archiver.commands.copying import CopyRequest, run_copy
    from archiver.monitoring.secrets_in_urls import passwords

    settings = context.settings()
    for url in (source, target):
        context.redaction.hide(passwords(url))
    report = context.loop(lambda stop: run_copy(settings, CopyRequest(target, source), stop=stop))
    say(report, copy_words, as_json)
    leave(ExitCode.DONE if report.checked else context.code_of_signal or ExitCode.LEFT)
