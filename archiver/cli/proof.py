"""The commands that prove and mend: verify, reconcile, explain, rebuild."""

from pathlib import Path
from typing import NoReturn

import click

from archiver.cli import asked
from archiver.cli.context import Context, accounts, as_json, leave, say, scheduler, since, until
from archiver.cli.watched import watched
from archiver.cli.words.explain import explain_words
from archiver.cli.words.verify import verify_words
from archiver.errors import ExitCode


@click.command()
@click.option(
    "--level",
    type=click.Choice(["presence", "size", "full"]),
    default="full",
    show_default=True,
    help="How deep to look.",
)
@since
@until
@click.option(
    "--sample",
    "sample_percent",
    metavar="PERCENT",
    type=click.FloatRange(0.01, 100),
    help="Only the next so many per cent: after enough such runs everything was looked at once.",
)
@click.option("--repair", is_flag=True, help="Fetch again what is damaged or gone, beside what lies there.")
@scheduler
@as_json
@click.pass_obj
def verify(
    context: Context,
    level: str,
    since: str | None,
    until: str | None,
    sample_percent: float | None,
    repair: bool,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Compare ledger, sidecars and stored objects, both ways; everything that does not agree is named, exit code 7."""
    with watched(context, "verify", notify=True, flags={"cluster.scheduler": scheduler}) as watch:
        from archiver.commands.inspection import VerifyRequest
        from archiver.commands.proving_far import verify_anywhere
        from archiver.proof.verification.verify import Level

        settings = watch.settings
        period = asked.period(settings, since, until)
        request = VerifyRequest(Level(level), period, sample_percent)
        if repair:
            from archiver.commands.repairing import run_repair

            with context.progress() as progress:
                report = context.measured(
                    settings,
                    "verify",
                    lambda stop, watcher: run_repair(settings, request, stop=stop, watcher=watcher),
                    watcher=progress,
                )
        else:
            with context.progress() as progress:
                report = context.measured(
                    settings,
                    "verify",
                    lambda stop, watcher: verify_anywhere(settings, request, stop=stop, watcher=watcher),
                    watcher=progress,
                )
        unmended = len(report.findings) > report.repaired
        code = ExitCode.DAMAGE if unmended else ExitCode.DESTINATION if report.not_recorded else ExitCode.DONE
        code = context.code_of_signal or code
        say(watch.ended(code, report), verify_words, as_json)
        leave(code)


@click.command()
@since
@until
@accounts
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the days as CSV into this file, too.")
@scheduler
@as_json
@click.pass_obj
def reconcile(
    context: Context,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    csv_file: Path | None,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Compare CDRs, listing and archive day by day; archives the CDRs, and fetches recordings that only CDRs name."""
    if since is None:
        raise click.UsageError("reconcile needs --since")
    with watched(context, "reconcile", notify=True, flags={"cluster.scheduler": scheduler}) as watch:
        from archiver.cli.words.reconcile import reconcile_words
        from archiver.commands.proving_far import reconcile_anywhere
        from archiver.commands.reconciling import ReconcileRequest
        from archiver.proof.reconciliation.completeness import as_csv

        settings = watch.settings
        request = asked.request(ReconcileRequest, settings, since, until, account_ids)
        if csv_file is not None:
            asked.check_result_file("--csv", csv_file)
        with context.progress() as progress:
            result = context.measured(
                settings,
                "reconcile",
                lambda stop, watcher: reconcile_anywhere(settings, request, stop=stop, watcher=watcher),
                watcher=progress,
            )
        code = result.exit_code(signal=context.stopped_by)
        say(watch.ended(code, result.report), reconcile_words, as_json)
        if csv_file is not None:
            asked.write_result_file("--csv", csv_file, as_csv(result.report.days))
        leave(code)


@click.command()
@click.argument("recording_id")
@as_json
@click.pass_obj
def explain(context: Context, recording_id: str, as_json: bool) -> None:
    """Show everything known of one recording: each try and its reason, object, digests, and what the store shows now."""
    from archiver.commands.inspection import run_explain

    settings = context.settings()
    say(context.loop(lambda _: run_explain(settings, recording_id)), explain_words, as_json)


@click.command()
@click.option("--full", is_flag=True, help="Read the recordings too, to the last byte, and compare them.")
@click.option(
    "--adopt",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Take over what another tool saved in DIR, without downloading it.",
)
@since
@until
@accounts
@as_json
@click.pass_obj
def rebuild(
    context: Context,
    full: bool,
    folder: Path | None,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a new ledger from the archive alone, or bring an old one up to date; --adopt takes recordings over."""
    from archiver.cli.words.rebuild import rebuild_words

    if folder is not None:
        if full:
            raise click.UsageError("--full and --adopt exclude each other: what is adopted is read anyhow")
        _adopt(context, folder, since, until, account_ids, as_json)
    if since or until or account_ids:
        raise click.UsageError("--since, --until and --account need --adopt: a rebuild takes in the whole archive")
    from archiver.commands.restoring import RebuildRequest, run_rebuild

    with watched(context, "rebuild") as watch:
        settings = watch.settings
        report = context.measured(
            settings, "rebuild", lambda stop, _: run_rebuild(settings, RebuildRequest(full), stop=stop), listen=False
        )
        code = context.code_of_signal or (ExitCode.LEFT if report.problems_total else ExitCode.DONE)
        say(watch.ended(code, report), rebuild_words, as_json)
        leave(code)


def _adopt(
    context: Context, folder: Path, since: str | None, until: str | None, account_ids: tuple[str, ...], as_json: bool
) -> NoReturn:
    from archiver.assembly import RunRequest
    from archiver.cli.words.rebuild import adopt_words
    from archiver.commands.adopting import run_adopt

    with watched(context, "adopt") as watch:
        settings = watch.settings
        request = asked.request(RunRequest, settings, since, until, account_ids)
        with context.progress() as progress:
            report = context.measured(
                settings,
                "rebuild",
                lambda stop, watcher: run_adopt(settings, request, folder, stop=stop, watcher=watcher),
                watcher=progress,
                listen=False,
            )
        code = context.code_of_signal or ExitCode(report.exit_code)
        say(watch.ended(code, report), adopt_words, as_json)
        leave(code)
