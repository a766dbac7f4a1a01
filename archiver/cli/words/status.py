"""The status, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, one_line, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.status import StatusReport


def status_words(report: "StatusReport") -> str:
    """The status."""
    lines = []
    for account in report.accounts:
        lines.append(f"Account {one_line(account.account_id)}")
        lines.append(f"  covered through   {account.covered_through or 'nothing yet'}")
        for status, count in account.recordings.items():
            volume = size(account.bytes[status]) if status in account.bytes else ""
            lines.append(f"  {status:<18}{count:>12,}   {volume}".rstrip())
        if account.oldest_pending:
            lines.append(
                f"  oldest pending    {account.oldest_pending}, next try {account.next_attempt or 'on demand'}"
            )
        lines += [
            f"  ! incomplete: {window['since']} to {window['until']}: {one_line(window['reason'])}"
            for window in account.windows_incomplete[:SHOWN]
        ]
    run = report.last_run
    if run is None:
        lines.append("No run yet.")
    else:
        lines.append(f"Last run {run.run_id}: {run.outcome or 'not finished'}, {run.ended_at or run.started_at}")
    if report.last_success is not None and (run is None or run.run_id != report.last_success.run_id):
        lines.append(f"Last success {report.last_success.run_id}: {report.last_success.ended_at}")
    for alarm in report.alarms:
        whose = f", account {one_line(alarm.account_id)}" if alarm.account_id is not None else ""
        lines.append(f"! ALARM ({alarm.reason}){whose}: {alarm.detail}")
    return "\n".join(lines)
