"""The commands about retention and legal holds."""

from pathlib import Path
from typing import Any

import click

from archiver.cli import asked
from archiver.cli.context import Context, accounts, as_json, leave, say, since, until
from archiver.cli.watched import watched
from archiver.errors import ExitCode, SettingsError

_by = click.option("--by", "by", metavar="WHO", required=True, help="Who asks for it; it stands in the audit trail.")


@click.group()
def retention() -> None:
    """Plan and apply the retention rules of the settings; answer erasure requests; make locks longer."""


@retention.command("plan")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write every recording as CSV into this file.")
@accounts
@click.option("--until-date", "until_date", metavar="T", help="Plan for this date, not for today.")
@as_json
@click.pass_obj
def retention_plan(
    context: Context, csv_file: Path | None, account_ids: tuple[str, ...], until_date: str | None, as_json: bool
) -> None:
    """Show what the rules would remove now and when the rest may go, with the reason; changes nothing."""
    from archiver.cli.words.retention import plan_words
    from archiver.commands.retaining import RetentionRequest, run_retention_plan
    from archiver.proof.retention.plan import CSV_COLUMNS

    settings = context.settings()
    at = None if until_date is None else asked.later_time("--until-date", settings, until_date)
    request = RetentionRequest(account_ids, at)
    if csv_file is None:
        report = context.loop(lambda stop: run_retention_plan(settings, request, stop=stop))
    else:
        with asked.csv_file("--csv", csv_file) as write:
            write(CSV_COLUMNS)
            report = context.loop(lambda stop: run_retention_plan(settings, request, stop=stop, each=write))
            if context.stopped_by is not None:
                # What was written is no plan.
                leave(context.code_of_signal or ExitCode.BUG)
    say(report, plan_words, as_json)
    leave(context.code_of_signal or ExitCode.DONE)


@retention.command("apply")
@accounts
@as_json
@click.pass_obj
def retention_apply(context: Context, account_ids: tuple[str, ...], as_json: bool) -> None:
    """Remove what the plan says, each with a tombstone and an audit record first; a hold or a lock always wins."""
    with watched(context, "retention") as watch:
        from archiver.cli.words.retention import apply_words
        from archiver.commands.retaining import RetentionRequest, run_retention_apply

        settings = watch.settings
        request = RetentionRequest(account_ids)
        result = context.measured(
            settings,
            "retention",
            lambda stop, _: run_retention_apply(settings, request, stop=stop),
            listen=False,
        )
        code = result.exit_code(signal=context.stopped_by)
        say(watch.ended(code, result.report), apply_words, as_json)
        leave(code)


@retention.command("erase")
@click.argument("recording_id")
@_by
@click.option("--reference", metavar="TEXT", required=True, help="What the request is filed under.")
@click.option("--account", "account_id", metavar="ID", default="", help="Where several accounts have this id.")
@as_json
@click.pass_obj
def retention_erase(
    context: Context, recording_id: str, by: str, reference: str, account_id: str, as_json: bool
) -> None:
    """Remove one recording at somebody's request, unless a rule, a hold or a lock keeps it; says which and until when."""
    from archiver.cli.words.retention import erase_words
    from archiver.commands.erasing import EraseRequest, run_retention_erase

    settings = context.settings()
    request = EraseRequest(
        recording_id, asked.one_line("--by", by), asked.one_line("--reference", reference), account_id
    )
    report = context.loop(lambda stop: run_retention_erase(settings, request, stop=stop))
    say(report, erase_words, as_json)
    leave(ExitCode(report.exit_code))


@retention.command("extend")
@accounts
@as_json
@click.pass_obj
def retention_extend(context: Context, account_ids: tuple[str, ...], as_json: bool) -> None:
    """Make locks of the store longer where a rule keeps a recording longer than its lock; never shorter."""
    from archiver.cli.words.retention import extend_words
    from archiver.commands.erasing import run_retention_extend
    from archiver.commands.retaining import RetentionRequest

    settings = context.settings()
    report = context.loop(lambda stop: run_retention_extend(settings, RetentionRequest(account_ids), stop=stop))
    say(report, extend_words, as_json)
    leave(context.code_of_signal or (ExitCode.DESTINATION if report.not_recorded else ExitCode.DONE))


@click.group()
def hold() -> None:
    """Place, release and list legal holds: what one covers never expires while it is active."""


@hold.command("add")
@click.argument("name")
@click.option("--reason", metavar="TEXT", required=True, help="Why.")
@click.option("--reference", metavar="TEXT", required=True, help="What it is filed under, such as a case number.")
@_by
@click.option("--account", "account_id", metavar="ID", default="", help="Only recordings of this account.")
@since
@until
@click.option("--id", "recording_ids", metavar="ID", multiple=True, help="Only this recording; repeatable.")
@click.option(
    "--party",
    "users",
    metavar="PATTERN",
    multiple=True,
    help="Only calls with this user or number (* and ?); repeatable.",
)
@click.option("--everything", is_flag=True, help="Hold every recording; needed when there is no condition.")
@as_json
@click.pass_obj
def hold_add(
    context: Context,
    name: str,
    reason: str,
    reference: str,
    by: str,
    account_id: str,
    since: str | None,
    until: str | None,
    recording_ids: tuple[str, ...],
    users: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Place a legal hold on what meets all the conditions; works beside a run."""
    from archiver.cli.words.retention import holds_words
    from archiver.commands.holding import HoldRequest, run_hold_add

    conditions: list[Any] = [account_id, since, until, *recording_ids, *users]
    if everything == any(conditions):
        raise click.UsageError(
            "hold add needs a condition (--account, --since, --until, --id, --party) or --everything"
        )
    settings = context.settings()
    start, end = asked.either_times(settings, since, until)
    if account_id and account_id not in settings.pbx.account_ids:
        raise SettingsError(f"--account {account_id[:64]!a} is not one of pbx.account_ids in the settings")
    request = HoldRequest(
        asked.hold_name(name),
        asked.one_line("--reason", reason),
        asked.one_line("--reference", reference),
        asked.one_line("--by", by),
        account_id,
        start,
        end,
        tuple(asked.one_line("--id", each) for each in recording_ids),
        tuple(asked.one_line("--party", each) for each in users),
    )
    report = context.loop(lambda _: run_hold_add(settings, request))
    say(report, holds_words, as_json)
    leave(ExitCode.DESTINATION if report.not_recorded else ExitCode.DONE)


@hold.command("release")
@click.argument("name")
@_by
@click.option("--reason", metavar="TEXT", required=True, help="Why.")
@as_json
@click.pass_obj
def hold_release(context: Context, name: str, by: str, reason: str, as_json: bool) -> None:
    """Release a legal hold; somebody else than who placed it must do that."""
    from archiver.cli.words.retention import holds_words
    from archiver.commands.holding import run_hold_release

    settings = context.settings()
    by, reason = asked.one_line("--by", by), asked.one_line("--reason", reason)
    report = context.loop(lambda _: run_hold_release(settings, name, by=by, reason=reason))
    say(report, holds_words, as_json)
    leave(ExitCode.DESTINATION if report.not_recorded else ExitCode.DONE)


@hold.command("list")
@click.option("--all", "every", is_flag=True, help="Those that were released, too.")
@as_json
@click.pass_obj
def hold_list(context: Context, every: bool, as_json: bool) -> None:
    """Show the active legal holds; changes nothing."""
    from archiver.cli.words.retention import holds_words
    from archiver.commands.holding import run_hold_list

    settings = context.settings()
    say(context.loop(lambda _: run_hold_list(settings, every=every)), holds_words, as_json)
