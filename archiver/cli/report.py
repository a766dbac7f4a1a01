"""The command that makes the page for people."""

from pathlib import Path

import click

from archiver.cli import asked
from archiver.cli.context import Context, as_json, say, since, until
from archiver.cli.words.report import report_words


@click.command()
@click.option("--html", "html_file", metavar="FILE", type=click.Path(path_type=Path), help="Where to write the page.")
@since
@until
@click.option(
    "--max-age", metavar="AGE", default="26h", show_default=True, help="What is older and not done counts as a problem."
)
@click.option("--with-parties", is_flag=True, help="Name caller and callee of the recordings under the problems.")
@as_json
@click.pass_obj
def report(
    context: Context,
    html_file: Path | None,
    since: str | None,
    until: str | None,
    max_age: str,
    with_parties: bool,
    as_json: bool,
) -> None:
    """Write one self-contained page that a manager can read: is everything fine, coverage, volumes, problems, fixity."""
    if html_file is None:
        raise click.UsageError("report needs --html FILE: the file to write the page into")
    from archiver.commands.reporting import PageRequest, run_report
    from archiver.reports.page.written import PageWritten

    age = asked.age("--max-age", max_age)
    settings = context.settings()
    asked.check_result_file("--html", html_file)
    request = PageRequest(asked.period(settings, since, until), age, with_parties)
    page = context.loop(lambda _: run_report(settings, request))
    asked.write_result_file("--html", html_file, page.html)
    written = PageWritten(path=str(html_file), bytes=len(page.html.encode()), figures=page.figures)
    say(written, report_words, as_json)
