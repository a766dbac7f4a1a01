"""The commands that need no PBX: the simulator on its own, and the demo against it."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from archiver.cli.context import Context, as_json, leave, tell
from archiver.cli.words.rehearsal import SimulatorAccess, demo_words, simulator_words
from archiver.errors import ExitCode, SettingsError


@click.command()
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
            access = SimulatorAccess(
                base_url=base_url,
                username=the_pbx.credentials.username,
                domain=the_pbx.credentials.domain,
                password=the_pbx.credentials.password,
                account_ids=corpus.account_ids,
                ca_file=certificate.certificate if certificate else None,
                begin=begin,
                recordings=recordings,
            )
            tell(simulator_words(access, Path.cwd() / "simulator-archive"))

        try:
            tell(serve(the_pbx, announce))
        except OSError as error:
            raise SettingsError(f"--port {port}: {error.strerror or error}") from None


@click.command()
@click.option("--recordings", type=click.IntRange(1, 100_000), default=300, show_default=True)
@click.option("--to", "root", type=click.Path(path_type=Path), default="demo-archive", show_default=True)
@as_json
@click.pass_obj
def demo(context: Context, recordings: int, root: Path, as_json: bool) -> None:
    """Archive a simulated PBX into a folder and verify every byte: no settings, no credentials, no network."""
    from archiver.commands.demo import run_demo
    from archiver.reports.run_report import exit_code

    with context.progress() as progress:
        found = context.loop(lambda stop: run_demo(root.absolute(), recordings=recordings, stop=stop, watcher=progress))
    result, verified = found.run, found.verified
    if as_json:
        tell(msgspec.json.encode({"run": result.report, "verified": verified}).decode())
    else:
        tell(demo_words(found, str(root)))
    code = exit_code(result.tally, result.pages, result.ended, signal=context.stopped_by)
    leave(ExitCode.DAMAGE if verified.findings and code is ExitCode.DONE else code)
