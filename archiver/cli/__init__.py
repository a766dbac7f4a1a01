"""The command line: commands → settings → one library call → exit code. The only place that prints or shows tqdm."""

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import stamina.instrumentation
import structlog

from archiver import __version__
from archiver.cli.archive import doctor, plan, run, status
from archiver.cli.audit import audit
from archiver.cli.context import Context
from archiver.cli.export import export
from archiver.cli.ledger import ledger
from archiver.cli.proof import explain, rebuild, reconcile, verify
from archiver.cli.rehearsal import demo, simulator
from archiver.cli.report import report
from archiver.cli.retention import hold, retention
from archiver.errors import ArchiverError, ExitCode
from archiver.logs import configure, to_stream


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


for command in (
    run, status, plan, doctor, verify, reconcile, explain, rebuild, retention, hold, audit, export, report, ledger,
    simulator, demo,
):  # fmt: skip
    cli.add_command(command)


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
