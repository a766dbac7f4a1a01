"""The commands that archive, and that look ahead or back without touching anything."""

from typing import NoReturn

import click

from archiver.cli import asked
from archiver.cli.context import Context, accounts, as_json, leave, say, scheduler, since, until
from archiver.cli.watched import watched
from archiver.cli.words.doctor import doctor_words
from archiver.cli.words.run import plan_words, run_words
from archiver.cli.words.status import status_words
from archiver.errors import ExitCode


@click.command()
@since
@until
@accounts
@click.option("--dry-run", is_flag=True, help="Walk the listing, write nothing, say what would be archived.")
@click.option("--retry-missing", is_flag=True, help="Try listed recordings that are missing at the source again.")
@click.option(
    "--i-understand-compliance-is-final",
    "compliance_accepted",
    is_flag=True,
    help="Accept, once for this archive, that objects locked in COMPLIANCE mode can't be removed by anybody.",
)
@scheduler
@as_json
@click.pass_obj
def run(
    context: Context,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    dry_run: bool,
    retry_missing: bool,
    compliance_accepted: bool,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Archive: with --since a backfill of [since, until), without it the nightly run. Due retries come along."""
    more = {"retry_missing": retry_missing, "compliance_accepted": compliance_accepted}
    if dry_run:
        _rehearse(context, since, until, account_ids, more, as_json)
    with watched(context, "run", heartbeat=True, notify=True, flags={"cluster.scheduler": scheduler}) as watch:
        from archiver.assembly import RunRequest
        from archiver.commands.archiving import run_archive, started_pool
        from archiver.reports.run_report import exit_code

        settings = watch.settings
        request = asked.request(RunRequest, settings, since, until, account_ids, **more)
        # Before there is any thread: the progress bar has one.
        pool = started_pool(settings)
        with context.progress() as progress:
            result = context.measured(
                settings,
                "run",
                lambda stop, watcher: run_archive(settings, request, stop=stop, watcher=watcher, pool=pool),
                watcher=progress,
            )
        code = exit_code(result.tally, result.pages, result.ended, signal=context.stopped_by)
        say(watch.ended(code, result.report), run_words, as_json)
        leave(code)


def _rehearse(
    context: Context,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    more: dict[str, bool],
    as_json: bool,
) -> NoReturn:
    """What a run would do; nobody is told how it ends."""
    from archiver.assembly import RunRequest
    from archiver.commands.inspection import run_plan

    settings = context.settings()
    request = asked.request(RunRequest, settings, since, until, account_ids, **more)
    report = context.loop(lambda _: run_plan(settings, request, compare=True))
    say(report, plan_words, as_json)
    leave(ExitCode.LEFT if report.windows_incomplete else ExitCode.DONE)


@click.command()
@click.option(
    "--max-age", metavar="AGE", help="For monitoring: exit code 3 when something older than 26h, 2d or 1w is not done."
)
@as_json
@click.pass_obj
def status(context: Context, max_age: str | None, as_json: bool) -> None:
    """Show per account: covered through, recordings and bytes by status, oldest pending, last run."""
    from archiver.commands.inspection import run_status

    age = None if max_age is None else asked.age("--max-age", max_age)
    settings = context.settings()
    report = context.loop(lambda _: run_status(settings, max_age=age))
    say(report, status_words, as_json)
    leave(ExitCode.LEFT if report.alarms else ExitCode.DONE)


@click.command()
@since
@until
@accounts
@as_json
@click.pass_obj
def plan(context: Context, since: str | None, until: str | None, account_ids: tuple[str, ...], as_json: bool) -> None:
    """Walk the listing only: recordings, bytes, hours at the configured limits, free space, by month."""
    from archiver.assembly import RunRequest
    from archiver.commands.inspection import run_plan

    if since is None:
        raise click.UsageError("plan needs --since")
    settings = context.settings()
    request = asked.request(RunRequest, settings, since, until, account_ids)
    report = context.loop(lambda _: run_plan(settings, request, compare=False))
    say(report, plan_words, as_json)
    leave(ExitCode.LEFT if report.windows_incomplete else ExitCode.DONE)


@click.command()
@click.option("--write-profile", is_flag=True, help="Save how the PBX behaves, for runs and to compare with.")
@as_json
@click.pass_obj
def doctor(context: Context, write_profile: bool, as_json: bool) -> None:
    """Look at settings, store, ledger, cluster and PBX, and say what to mend; archives nothing."""
    from archiver.commands.examination import examine

    report = examine(context.settings_file, hide=context.redaction.hide, write_profile=write_profile)
    say(report, doctor_words, as_json)
    leave(ExitCode(report.exit_code))
