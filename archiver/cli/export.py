"""The command that hands recordings out."""

from pathlib import Path

import click

from archiver.cli import asked
from archiver.cli.context import Context, as_json, leave, say, since, until
from archiver.cli.watched import watched
from archiver.errors import ExitCode


@click.command()
@click.option(
    "--case", required=True, metavar="NAME", help="What it is for; names the bag, and stands in the audit trail."
)
@click.option(
    "--to", required=True, metavar="DIR", type=click.Path(path_type=Path), help="The folder to put the bag into."
)
@since
@until
@click.option("--account", "account_ids", metavar="ID", multiple=True, help="Only of this account; repeatable.")
@click.option(
    "--party",
    "parties",
    metavar="TEXT",
    multiple=True,
    help="Only with this number, name or address, or pattern with * and ?; repeatable.",
)
@click.option("--call-id", "call_ids", metavar="ID", multiple=True, help="Only of this call; repeatable.")
@click.option("--id", "recording_ids", metavar="ID", multiple=True, help="Only this recording; repeatable.")
@click.option(
    "--ids-file", metavar="FILE", type=click.Path(path_type=Path), help="Only the recordings named here, one id a line."
)
@click.option("--reference", default="", metavar="TEXT", help="Such as a file number; stands in the audit trail.")
@click.option("--by", default="", metavar="WHO", help="Who asked for it. [default: who is signed in]")
@as_json
@click.pass_obj
def export(
    context: Context,
    case: str,
    to: Path,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    parties: tuple[str, ...],
    call_ids: tuple[str, ...],
    recording_ids: tuple[str, ...],
    ids_file: Path | None,
    reference: str,
    by: str,
    as_json: bool,
) -> None:
    """Hand recordings out as a BagIt bag, with metadata, CDRs, a table and the audit trail's lines about them."""
    with watched(context, "export") as watch:
        from archiver.cli.words.export import export_words
        from archiver.commands.exporting import ExportRequest, run_export

        settings = watch.settings
        request = ExportRequest(
            case=case,
            to=to,
            period=asked.period(settings, since, until),
            account_ids=account_ids,
            parties=parties,
            call_ids=call_ids,
            recording_ids=recording_ids,
            ids_file=ids_file,
            reference=reference,
            by=by,
        )
        report = context.measured(settings, "export", lambda stop, _: run_export(settings, request, stop=stop))
        # Once a bag has its name, a signal came too late to stop anything.
        interrupted = context.code_of_signal if not report.bag else None
        code = interrupted or ExitCode(report.exit_code)
        say(watch.ended(code, report), export_words, as_json)
        leave(code)
