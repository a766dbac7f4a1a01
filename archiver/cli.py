"""The command line: commands → settings → one library call → exit code. The only place that prints or shows tqdm."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
import stamina.instrumentation
import structlog

from archiver import __version__, asked, words
from archiver.cli_audit import audit
from archiver.engine.loop import run_tuned
from archiver.errors import ArchiverError, ExitCode, SettingsError
from archiver.logs import Redaction, configure, to_stream
from archiver.progress import Progress

T = TypeVar("T")


@dataclass
class Context:
    """What the options before the command said."""

    settings_file: Path | None
    quiet: bool
    redaction: Redaction
    stop_signal: list[int] = field(default_factory=list)

    def settings(self) -> Any:
        """The settings, with their secrets hidden from the log."""
        from archiver.settings import load

        found = load(self.settings_file)
        self.redaction.hide([found.pbx.password.get_secret_value()])
        return found

    def told(
        self, work: Callable[[asyncio.Event], Coroutine[Any, Any, T]], words: Callable[[T], str], as_json: bool
    ) -> T:
        """What a coroutine comes to, said on stdout, for commands that live in modules of their own."""
        report = _loop(self, work)
        _say(report, words, as_json)
        return report


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--settings", "settings_file", type=click.Path(path_type=Path), help="Settings file. [default: ./settings.toml]"
)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, and only warnings in the log.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.version_option(__version__, prog_name="archiver")
@click.pass_context
def cli(context: click.Context, settings_file: Path | None, verbose: bool, quiet: bool, log_format: str) -> None:
    """Archive call recordings from a FonoUC (Kazoo) PBX, and prove that none is missing, partial or altered."""
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    level = "debug" if verbose else "warning" if quiet else "info"
    redaction = configure(level=level, log_format=log_format, write=to_stream())
    # Our own retries are counted in the report; the library's log lines would show errors before redaction.
    stamina.instrumentation.set_on_retry_hooks(())
    context.obj = Context(settings_file, quiet, redaction)


_since = click.option("--since", metavar="T", help="ISO date or date-time, or an age such as 7d, 36h.")
_until = click.option("--until", metavar="T", help="Likewise; the period ends before it. [default: now]")
_accounts = click.option("--account", "account_ids", metavar="ID", multiple=True, help="Only this account; repeatable.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@cli.command()
@_since
@_until
@_accounts
@click.option("--dry-run", is_flag=True, help="Walk the listing, write nothing, say what would be archived.")
@click.option("--retry-missing", is_flag=True, help="Try listed recordings that are missing at the source again.")
@click.option(
    "--i-understand-compliance-is-final",
    "compliance_accepted",
    is_flag=True,
    help="Accept, once for this archive, that objects locked in COMPLIANCE mode can't be removed by anybody.",
)
@_json
@click.pass_obj
def run(
    context: Context,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    dry_run: bool,
    retry_missing: bool,
    compliance_accepted: bool,
    as_json: bool,
) -> None:
    """Archive: with --since a backfill of [since, until), without it the nightly run. Due retries come along."""
    from archiver.archiving import run_archive, started_pool
    from archiver.assembly import RunRequest
    from archiver.inspection import run_plan
    from archiver.reports.run_report import exit_code

    settings = context.settings()
    more = {"retry_missing": retry_missing, "compliance_accepted": compliance_accepted}
    request = asked.request(RunRequest, settings, since, until, account_ids, **more)
    if dry_run:
        plan_report = _loop(context, lambda _: run_plan(settings, request, compare=True))
        _say(plan_report, words.plan_words, as_json)
        _leave(ExitCode.LEFT if plan_report.windows_incomplete else ExitCode.DONE)
    # Before there is any thread: the progress bar has one.
    pool = started_pool(settings)
    with _progress(context) as progress:
        result = _loop(context, lambda stop: run_archive(settings, request, stop=stop, watcher=progress, pool=pool))
    _say(result.report, words.run_words, as_json)
    _leave(exit_code(result.tally, result.pages, result.ended, signal=next(iter(context.stop_signal), None)))


@cli.command()
@_json
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Show per account: covered through, recordings and bytes by status, oldest pending, last run."""
    from archiver.inspection import run_status

    settings = context.settings()
    _say(_loop(context, lambda _: run_status(settings)), words.status_words, as_json)


@cli.command()
@_since
@_until
@_accounts
@_json
@click.pass_obj
def plan(context: Context, since: str | None, until: str | None, account_ids: tuple[str, ...], as_json: bool) -> None:
    """Walk the listing only: recordings, bytes, hours at the configured limits, free space, by month."""
    from archiver.assembly import RunRequest
    from archiver.inspection import run_plan

    if since is None:
        raise click.UsageError("plan needs --since")
    settings = context.settings()
    request = asked.request(RunRequest, settings, since, until, account_ids)
    report = _loop(context, lambda _: run_plan(settings, request, compare=False))
    _say(report, words.plan_words, as_json)
    _leave(ExitCode.LEFT if report.windows_incomplete else ExitCode.DONE)


@cli.command()
@_json
@click.pass_obj
def doctor(context: Context, as_json: bool) -> None:
    """Look at settings, store, ledger and PBX, and say what to mend; archives nothing."""
    from archiver.examination import examine

    report = examine(context.settings_file, hide=context.redaction.hide)
    _say(report, words.doctor_words, as_json)
    _leave(ExitCode(report.exit_code))


@cli.command()
@click.option(
    "--level",
    type=click.Choice(["presence", "size", "full"]),
    default="full",
    show_default=True,
    help="How deep to look.",
)
@_since
@_until
@click.option(
    "--sample",
    "sample_percent",
    metavar="PERCENT",
    type=click.FloatRange(0.01, 100),
    help="Only the next so many per cent: after enough such runs everything was looked at once.",
)
@click.option("--repair", is_flag=True, help="Fetch again what is damaged or gone, beside what lies there.")
@_json
@click.pass_obj
def verify(
    context: Context,
    level: str,
    since: str | None,
    until: str | None,
    sample_percent: float | None,
    repair: bool,
    as_json: bool,
) -> None:
    """Compare ledger, sidecars and stored objects, both ways; everything that does not agree is named, exit code 7."""
    from archiver.inspection import VerifyRequest, run_verify
    from archiver.proof.verify import Level
    from archiver.repairing import run_repair

    settings = context.settings()
    period = asked.period(settings, since, until)
    request = VerifyRequest(Level(level), period, sample_percent)
    if repair:
        with _progress(context) as progress:
            report = _loop(context, lambda stop: run_repair(settings, request, stop=stop, watcher=progress))
    else:
        report = _loop(context, lambda stop: run_verify(settings, request, stop=stop))
    _say(report, words.verify_words, as_json)
    if context.stop_signal:
        _leave(ExitCode(128 + context.stop_signal[0]))
    unmended = len(report.findings) > report.repaired
    _leave(ExitCode.DAMAGE if unmended else ExitCode.DESTINATION if report.not_recorded else ExitCode.DONE)


@cli.command()
@_since
@_until
@_accounts
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the days as CSV into this file, too.")
@_json
@click.pass_obj
def reconcile(
    context: Context,
    since: str | None,
    until: str | None,
    account_ids: tuple[str, ...],
    csv_file: Path | None,
    as_json: bool,
) -> None:
    """Compare CDRs, listing and archive day by day; archives the CDRs, and fetches recordings that only CDRs name."""
    from archiver import reconcile_words
    from archiver.proof.completeness import as_csv
    from archiver.reconciling import ReconcileRequest, run_reconcile

    if since is None:
        raise click.UsageError("reconcile needs --since")
    settings = context.settings()
    request = asked.request(ReconcileRequest, settings, since, until, account_ids)
    if csv_file is not None:
        asked.check_result_file("--csv", csv_file)
    with _progress(context) as progress:
        result = _loop(context, lambda stop: run_reconcile(settings, request, stop=stop, watcher=progress))
    _say(result.report, reconcile_words.reconcile_words, as_json)
    if csv_file is not None:
        asked.write_result_file("--csv", csv_file, as_csv(result.report.days))
    _leave(result.exit_code(signal=next(iter(context.stop_signal), None)))


cli.add_command(audit)


@cli.command()
@click.argument("recording_id")
@_json
@click.pass_obj
def explain(context: Context, recording_id: str, as_json: bool) -> None:
    """Show everything known of one recording: each try and its reason, object, digests, and what the store shows now."""
    from archiver.inspection import run_explain

    settings = context.settings()
    _say(_loop(context, lambda _: run_explain(settings, recording_id)), words.explain_words, as_json)


@cli.command()
@click.option("--full", is_flag=True, help="Read the recordings too, to the last byte, and compare them.")
@click.option(
    "--adopt",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Take over what another tool saved in DIR, without downloading it.",
)
@_since
@_until
@_accounts
@_json
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
    from archiver import rebuild_words

    if folder is not None:
        if full:
            raise click.UsageError("--full and --adopt exclude each other: what is adopted is read anyhow")
        _adopt(context, folder, since, until, account_ids, as_json)
    if since or until or account_ids:
        raise click.UsageError("--since, --until and --account need --adopt: a rebuild takes in the whole archive")
    from archiver.restoring import RebuildRequest, run_rebuild

    settings = context.settings()
    report = _loop(context, lambda stop: run_rebuild(settings, RebuildRequest(full), stop=stop))
    _say(report, rebuild_words.rebuild_words, as_json)
    if context.stop_signal:
        _leave(ExitCode(128 + context.stop_signal[0]))
    _leave(ExitCode.LEFT if report.problems_total else ExitCode.DONE)


def _adopt(
    context: Context, folder: Path, since: str | None, until: str | None, account_ids: tuple[str, ...], as_json: bool
) -> NoReturn:
    from archiver import rebuild_words
    from archiver.adopting import run_adopt
    from archiver.assembly import RunRequest

    settings = context.settings()
    request = asked.request(RunRequest, settings, since, until, account_ids)
    with _progress(context) as progress:
        report = _loop(context, lambda stop: run_adopt(settings, request, folder, stop=stop, watcher=progress))
    _say(report, rebuild_words.adopt_words, as_json)
    if context.stop_signal:
        _leave(ExitCode(128 + context.stop_signal[0]))
    _leave(ExitCode(report.exit_code))


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9443, show_default=True, help="0 takes a free one.")
@click.option("--tls", is_flag=True, help="HTTPS with a certificate made on the spot (needs the openssl program).")
@click.option("--recordings", type=click.IntRange(0, 1_000_000), default=300, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--faults", type=click.Path(path_type=Path), help="Scripted faults, JSON or TOML (docs/simulator.md).")
def simulator(port: int, tls: bool, recordings: int, seed: int, faults: Path | None) -> None:
    """Run the PBX simulator on loopback until Ctrl-C, to try settings and to rehearse."""
    import tempfile
    from datetime import timedelta

    from archiver.simulator import Corpus, FaultScript, Simulator, make_certificate, serve

    try:
        script = FaultScript.load(faults) if faults else None
    except (OSError, ValueError) as error:
        raise SettingsError(f"--faults {faults}: {error}") from None
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    begin = end - timedelta(days=30)
    corpus = Corpus.generate(seed=seed, accounts=2, recordings=recordings, begin=begin, end=end, max_duration_s=600.0)
    with tempfile.TemporaryDirectory() as folder:
        certificate = None
        if tls:
            try:
                certificate = make_certificate(Path(folder))
            except RuntimeError as error:
                raise SettingsError(f"--tls: {error}") from None
        the_pbx = Simulator(corpus, faults=script, tls=certificate.server_context() if certificate else None, port=port)

        def announce(base_url: str) -> None:
            access = words.SimulatorAccess(
                base_url=base_url,
                username=the_pbx.credentials.username,
                domain=the_pbx.credentials.domain,
                password=the_pbx.credentials.password,
                account_ids=corpus.account_ids,
                ca_file=certificate.certificate if certificate else None,
                begin=begin,
                recordings=recordings,
            )
            _print(words.simulator_words(access, Path.cwd() / "simulator-archive"))

        try:
            _print(serve(the_pbx, announce))
        except OSError as error:
            raise SettingsError(f"--port {port}: {error.strerror or error}") from None


@cli.command()
@click.option("--recordings", type=click.IntRange(1, 100_000), default=300, show_default=True)
@click.option("--to", "root", type=click.Path(path_type=Path), default="demo-archive", show_default=True)
@_json
@click.pass_obj
def demo(context: Context, recordings: int, root: Path, as_json: bool) -> None:
    """Archive a simulated PBX into a folder and verify every byte: no settings, no credentials, no network."""
    from archiver.demo import run_demo
    from archiver.reports.run_report import exit_code

    with _progress(context) as progress:
        found = _loop(
            context, lambda stop: run_demo(root.absolute(), recordings=recordings, stop=stop, watcher=progress)
        )
    result, verified = found.run, found.verified
    if as_json:
        _print(msgspec.json.encode({"run": result.report, "verified": verified}).decode())
    else:
        _print(words.demo_words(found, str(root)))
    code = exit_code(result.tally, result.pages, result.ended, signal=next(iter(context.stop_signal), None))
    _leave(ExitCode.DAMAGE if verified.findings and code is ExitCode.DONE else code)


def main() -> NoReturn:
    """The entry point: every outcome becomes an exit code, every expected failure one line on stderr."""
    _open_what_is_closed()
    os.umask(0o077 | _umask())
    code = ExitCode.BUG
    try:
        # Without standalone mode click gives back what a command left with; a command that just ends gives None.
        code = ExitCode(cli(standalone_mode=False) or ExitCode.DONE)
    except click.exceptions.Exit as leaving:
        code = ExitCode(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except ArchiverError as error:
        _complain(str(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.SIGINT
    except BrokenPipeError:
        # Whoever read our output has left; that is no failure of the archive.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    except Exception:  # noqa: BLE001 - the last stop before the shell: a bug is logged with its traceback, exit 1
        structlog.get_logger().error("a bug in the archiver; please report it", exc_info=True)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    sys.exit(code)


def _progress(context: Context) -> contextlib.closing[Progress]:
    return contextlib.closing(Progress(quiet=context.quiet))


def _loop(context: Context, work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end; the first SIGINT, SIGTERM or SIGHUP sets its event, the second ends the process."""

    async def with_signals() -> T:
        stop = asyncio.Event()

        def on_signal(number: int) -> None:
            if context.stop_signal:
                # Nothing partial has a final name, and the ledger is durable by itself: there is nothing to wait for.
                os._exit(128 + context.stop_signal[0])
            context.stop_signal.append(signal.SIGTERM if number == signal.SIGHUP else number)
            structlog.get_logger().warning("stopping: work under way is finished first; a second signal ends at once")
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, on_signal, number)
        return await work(stop)

    return run_tuned(with_signals())


def _say(report: Any, to_words: Callable[[Any], str], as_json: bool) -> None:
    _print(msgspec.json.encode(report).decode() if as_json else to_words(report))


def _print(text: str) -> None:
    """A result on stdout, all of it: an unbuffered stream (PYTHONUNBUFFERED) drops what a pipe does not take at once."""
    try:
        rest = memoryview(f"{text}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) or 0 :]
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left; the exit code still tells how it went (click would make it 1).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(code: ExitCode) -> NoReturn:
    raise click.exceptions.Exit(code)


def _complain(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"archiver: {message}", file=sys.stderr)


def _open_what_is_closed() -> None:
    """Give closed standard streams (`>&-`) the null device, lest a file or a socket get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
