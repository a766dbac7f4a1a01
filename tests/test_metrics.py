"""Metrics: what the file and the port say is what the archive is, at any time, and never stands in a command's way."""

import os
import signal
import socket
import stat
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import pytest
from archive_rig import ACCOUNTS, Rig, Said, key, recordings, rig, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Tally
from archiver.proof.evidence.audit import Details, Record, What
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level, Scope
from archiver.reports.fixity import Extent, Fixity, FixityHistory
from archiver.reports.metrics import Figures, LastTraffic, archive_families, text_of
from archiver.reports.metrics_live import Live, live_families
from archiver.reports.metrics_shapes import Name
from archiver.reports.status import AccountStatus, LastRun, StatusReport
from archiver.settings import Settings, load
from archiver.simulator import Fault
from archiver.simulator.actions import Action, Status, Surroundings
from archiver.whole_files import write_whole

T = TypeVar("T")
Labels = frozenset[tuple[str, str]]
DAY_1, DAY_2 = datetime(2026, 5, 6, tzinfo=UTC), datetime(2026, 5, 7, tzinfo=UTC)
Samples = dict[tuple[str, Labels], float]


def samples(text: str, *, openly: bool = False) -> Samples:
    """Every sample, by its name and labels; none stands twice."""
    found: Samples = {}
    for family in (open_metrics if openly else text_format)(text):
        assert family.documentation, family.name
        for sample in family.samples:
            name = (sample.name, frozenset(sample.labels.items()))
            assert name not in found
            found[name] = float(sample.value)
    return found


def of(found: Samples, name: Name, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def unix_s(stamp: str | None) -> float | None:
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "textfile_collector"
    folder.mkdir()
    return folder / "archiver.prom"


def agree(found: Samples, status: Mapping[str, Any]) -> None:
    """The metrics are what `status --json` says."""
    for account in status["accounts"]:
        name = account["account_id"]
        assert of(found, Name.COVERAGE, account_id=name) == (unix_s(account["covered_through"]) or 0)
        assert of(found, Name.WINDOWS_INCOMPLETE, account_id=name) == len(account["windows_incomplete"])
        assert of(found, Name.OLDEST_PENDING_CALL, account_id=name) == unix_s(account["oldest_pending"])
        assert of(found, Name.OLDEST_PENDING_LISTED, account_id=name) == unix_s(account["pending_since"])
        for each, count in account["recordings"].items():
            assert of(found, Name.RECORDINGS, account_id=name, status=each) == count
            assert of(found, Name.RECORDING_BYTES, account_id=name, status=each) == account["bytes"].get(each, 0)
    run, success = status["last_run"], status["last_success"]
    assert of(found, Name.LAST_RUN_START) == unix_s(run["started_at"])
    assert of(found, Name.LAST_RUN_END) == unix_s(run["ended_at"])
    assert of(found, Name.LAST_RUN_OUTCOME, outcome=run["outcome"] or "unfinished") == 1
    assert sum(value for (name, _), value in found.items() if name == Name.LAST_RUN_OUTCOME) == 1
    assert of(found, Name.LAST_SUCCESS) == (unix_s(success["ended_at"]) if success else 0)


def test_the_file_after_a_run_says_what_status_says(tmp_path: Path, file: Path) -> None:
    rows = recordings(6)
    faults = [
        Fault(on="media", recording_id=rows[2].recording_id, action=Status(code=404), times=-1),
        Fault(on="recordings", account_id=ACCOUNTS[1], action=Status(code=429), times=1),
    ]
    with rig(tmp_path, rows, faults=faults) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        said = it.run()
        assert said.code == 3
        found = samples(file.read_text())
        agree(found, it.command("status", "--json").json)
        assert of(found, Name.RECORDINGS, account_id=ACCOUNTS[0], status="pending") == 1
        assert of(found, Name.LAST_RUN_REFUSALS, reason="busy") == said.json["refusals"] == 1
        assert of(found, Name.LAST_RUN_REFUSALS, reason="sign_in") == said.json["login_refusals"] == 0
        assert of(found, Name.LAST_RUN_REQUESTS) == said.json["requests"]
        assert of(found, Name.LAST_RUN_RETRIES) == said.json["retries"]
        assert of(found, Name.LEDGER_UP) == 1
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_neither_recording_ids_nor_anything_else_of_a_call_stands_in_the_metrics(tmp_path: Path, file: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        it.run()
        (it.root / key(rows[0])).write_bytes(b"damaged")
        it.command("verify")
        text = file.read_text()
        assert "digest" in text or "size" in text
        assert not any(row.recording_id in text for row in rows)
        known = {"account_id", "status", "outcome", "reason", "level", "extent", "kind", "command", "version"}
        assert {label for _, labels in samples(text) for label, _ in labels} <= known


def test_what_one_command_found_the_next_one_does_not_wipe_out(tmp_path: Path, file: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        it.run()
        before = samples(file.read_text())
        assert of(before, Name.FINDINGS, level="full", kind="size") is None
        (it.root / key(rows[0])).write_bytes(b"damaged")
        assert it.command("verify", "--level", "size").code == 7
        damaged = samples(file.read_text())
        assert of(damaged, Name.FINDINGS, level="size", kind="size") == 1
        assert of(damaged, Name.FINDINGS, level="size", kind="digest") == 0
        assert of(damaged, Name.LAST_RUN_END) == of(before, Name.LAST_RUN_END)
        it.run()
        after = samples(file.read_text())
        verified = {"level": "size", "extent": "all"}
        assert of(after, Name.FINDINGS, level="size", kind="size") == 1
        assert of(after, Name.LAST_VERIFICATION, **verified) == of(damaged, Name.LAST_VERIFICATION, **verified)
        assert it.command("verify", "--repair").code == 0
        mended = samples(file.read_text())
        assert all(value == 0 for (name, _), value in mended.items() if name == Name.FINDINGS)
        agree(mended, it.command("status", "--json").json)


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--since", "2d"),
        ("verify",),
        ("verify", "--repair"),
        ("reconcile", "--since", "2d"),
        ("rebuild",),
        ("rebuild", "--adopt", "textfile_collector", "--since", "2d"),
    ],
    ids=" ".join,
)
def test_every_command_that_holds_results_writes_the_file_also_when_it_fails(
    tmp_path: Path, file: Path, command: tuple[str, ...]
) -> None:
    with rig(tmp_path, recordings(2)) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        assert it.run().code == 0
        file.unlink()
        it.command(*command)
        agree(samples(file.read_text()), it.command("status", "--json").json)
        file.unlink()
        # Whatever it needs, it has not.
        ledger = it.root / ".archiver" / "ledger.sqlite3"
        for beside in ledger.parent.glob("ledger*"):
            beside.unlink()
        ledger.mkdir()
        assert it.command(*command).code not in {0, 1}
        broken = samples(file.read_text())
        assert of(broken, Name.LEDGER_UP) == 0
        assert of(broken, Name.LAST_SUCCESS) is None


def test_status_and_plan_write_no_metrics(tmp_path: Path, file: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        it.command("status")
        it.command("plan", "--since", "2d")
        assert not file.exists()


def test_a_first_run_that_is_refused_leaves_metrics_that_alarm(tmp_path: Path, file: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        said = it.command("run", "--since", "2024-05-06", env={"ARCHIVER_PBX__PASSWORD": "wrong"})
        assert said.code == 4
        found = samples(file.read_text())
        assert of(found, Name.LAST_RUN_REFUSALS, reason="sign_in") == 1
        assert of(found, Name.LAST_RUN_OUTCOME, outcome="failed") == 1
        assert of(found, Name.LAST_SUCCESS) == 0
        assert {of(found, Name.COVERAGE, account_id=each) for each in ACCOUNTS} == {0}


def test_an_account_that_left_the_settings_is_counted_but_not_expected_to_be_covered(
    tmp_path: Path, file: Path
) -> None:
    with rig(tmp_path, recordings(4)) as it:
        assert it.run().code == 0
        it.configure(monitoring={"metrics_file": str(file)}, pbx={"account_ids": [ACCOUNTS[0]]})
        assert it.command("verify").code == 0
        found = samples(file.read_text())
        assert of(found, Name.RECORDINGS, account_id=ACCOUNTS[1], status="archived") == 2
        assert of(found, Name.COVERAGE, account_id=ACCOUNTS[1]) is None
        assert of(found, Name.COVERAGE, account_id=ACCOUNTS[0]) is not None


@pytest.mark.parametrize("wrong", ["folder", "absent"])
def test_a_file_that_cannot_be_written_is_a_warning_and_changes_nothing_else(
    tmp_path: Path, file: Path, wrong: str
) -> None:
    if wrong == "folder":
        file.mkdir()
    else:
        file.parent.rmdir()
    with rig(tmp_path, recordings(2)) as it:
        it.configure(monitoring={"metrics_file": str(file)})
        said = it.run()
        assert (said.code, said.json["outcome"]) == (0, "complete")
        assert "monitoring.metrics_file" in said.err
        assert "Traceback" not in said.err


def test_the_file_is_whole_at_any_time(file: Path) -> None:
    texts = [(letter * 100_000 + "\n").encode() for letter in "abcdef"]
    write_whole(file, texts[0], mode=0o644)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for text in texts * 20:
        write_whole(file, text, mode=0o644)
    done.set()
    reader.join()
    assert seen <= set(texts)
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_take_the_place_leaves_the_former_and_nothing_beside(file: Path) -> None:
    file.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(file, b"x", mode=0o644)
    assert list(file.parent.iterdir()) == [file]
    # A process of the same number that was killed while it wrote.
    file.rmdir()
    (file.parent / f"{file.name}.{os.getpid()}.new").write_bytes(b"torn")
    write_whole(file, b"whole", mode=0o644)
    assert [(path.name, path.read_bytes()) for path in file.parent.iterdir()] == [(file.name, b"whole")]


# The port.


@dataclass(frozen=True, slots=True)
class Gate(Action):
    """Keeps the whole PBX waiting, from the first matching request until it is opened."""

    reached: threading.Event
    opened: threading.Event

    def prepare(self, around: Surroundings) -> None:
        self.reached.set()
        assert self.opened.wait(60)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def scraped(port: int, *, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


@dataclass
class Held:
    """A run that waits for its last medium, and the port that tells of it."""

    it: Rig
    port: int
    opened: threading.Event
    running: Any

    def between(self, look: Callable[[], T]) -> tuple[Samples, T]:
        """What the port tells and what `look` sees once all is listed and nothing moves any more."""
        found: list[tuple[Samples, T]] = []

        def at_rest() -> bool:
            before, seen, after = samples(scraped(self.port)), look(), samples(scraped(self.port))
            found.append((after, seen))
            return before == after and of(after, Name.LISTED) == 8

        until(at_rest)
        return found[-1]

    def end(self) -> Said:
        self.opened.set()
        found = self.running.wait()
        assert isinstance(found, Said)
        return found


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    reached, opened = threading.Event(), threading.Event()
    gate = Fault(on="media", action=Gate(reached, opened), after=7)
    port = free_port()
    with rig(tmp_path, recordings(8), faults=[gate]) as it:
        it.configure(
            monitoring={"metrics_listen": f"127.0.0.1:{port}", "metrics_file": str(tmp_path / "archiver.prom")},
            transfer={"processes": request.param, "concurrency": 3, "requests_per_s": 0},
        )
        running = it.start("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json")
        try:
            assert reached.wait(60)
            yield Held(it, port, opened, running)
        finally:
            opened.set()
            running.wait()


def test_the_port_tells_of_a_run_while_it_goes_on_and_is_closed_at_its_end(held: Held) -> None:
    live, status = held.between(lambda: held.it.command("status", "--json").json)
    agree(live, status)
    assert (of(live, Name.COMMAND_START, command="run") or 0) > 1_700_000_000
    assert of(live, Name.UNDER_WAY) == 8 - (of(live, Name.ARCHIVED) or 0)
    assert (of(live, Name.REQUESTS) or 0) >= 3
    assert of(live, Name.CONCURRENCY_LIMIT) in {3, 6}
    assert of(live, Name.REFUSALS, reason="busy") == 0
    assert of(live, Name.LAST_RUN_OUTCOME, outcome="unfinished") == 1
    assert of(live, Name.LAST_RUN_END) is None
    said = held.end()
    assert (said.code, said.json["archived"], said.json["listed"]) == (0, 8, 8)
    with pytest.raises(OSError, match="refused"):
        scraped(held.port)


def test_both_text_formats_say_the_same(held: Held) -> None:
    plain, openly = held.between(
        lambda: scraped(held.port, accept="application/openmetrics-text; version=1.0.0"),
    )
    assert openly.endswith("# EOF\n")
    assert samples(openly, openly=True) == plain


def test_a_port_that_is_taken_is_a_warning_and_changes_nothing_else(held: Held) -> None:
    verified = held.it.command("verify", "--json")
    assert verified.code == 0
    assert f"127.0.0.1:{held.port}" in verified.err
    assert held.end().code == 0


def test_a_run_that_is_interrupted_writes_the_file_too(held: Held) -> None:
    held.running.signal(signal.SIGTERM)
    assert held.end().code == 143
    found = samples((held.it.folder / "archiver.prom").read_text())
    assert of(found, Name.LAST_RUN_OUTCOME, outcome="interrupted") == 1
    agree(found, held.it.command("status", "--json").json)


def test_whoever_connects_and_asks_nothing_keeps_no_run_from_its_end(held: Held) -> None:
    idle = HTTPConnection("127.0.0.1", held.port, timeout=30)
    idle.connect()
    try:
        assert held.end().code == 0
    finally:
        idle.close()


def test_every_metric_that_has_a_name_is_told_and_no_other() -> None:
    account = AccountStatus(
        account_id="a",
        covered_through="2026-05-06T00:00:00Z",
        recordings={"archived": 1},
        bytes={"archived": 1000},
        windows_incomplete=[],
        oldest_pending="2026-05-06T00:00:00Z",
        pending_since="2026-05-06T00:00:00Z",
        next_attempt=None,
    )
    run = LastRun(run_id="r", started_at="2026-05-06T00:00:00Z", ended_at="2026-05-06T01:00:00Z", outcome="complete")
    figures = Figures(
        version="1",
        account_ids=frozenset("a"),
        ledger_is_there=True,
        status=StatusReport(accounts=[account], last_run=run, last_success=None),
        last_traffic=LastTraffic(1, 2, 3, 4),
        fixity=Fixity({(Level.FULL, Extent.ALL): DAY_1}, {Level.FULL: {Kind.DIGEST: 2}}),
    )
    families = [*archive_families(figures), *live_families(Live("run", DAY_1, Tally(), Traffic()))]
    assert sorted({sample.name for family in families for sample in family.samples}) == sorted(Name)
    assert all(family.documentation.endswith(".") for family in families)
    assert of(samples(text_of(figures).decode()), Name.LAST_RUN_DURATION) == 3600


# What is allowed.


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "192.0.2.1:9464", "9464", "127.0.0.1", "127.0.0.1:0", ":9464", "[::]:1", "127.0.0.1:1/x"]
)
def test_a_port_that_others_could_reach_is_refused(tmp_path: Path, listen: str) -> None:
    with rig(tmp_path, []) as it:
        it.configure(monitoring={"metrics_listen": listen})
        said = it.run()
        assert said.code == 2
        assert "monitoring.metrics_listen" in said.err
        assert "loopback" in said.err


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "[::1]:9464", "localhost:9464", "127.8.8.8:65535"])
def test_a_loopback_port_is_taken_as_it_is_written(listen: str) -> None:
    settings = Settings.model_validate({"monitoring": {"metrics_listen": listen}})
    host, port = settings.monitoring.listening or ("", 0)
    assert f"{host}:{port}" == listen.replace("[", "").replace("]", "")


@pytest.mark.parametrize("name", ["archiver.prom", "/tmp/archiver.txt", "/tmp/.prom", "/tmp/a\nb.prom"])
def test_a_file_that_node_exporter_would_pass_over_is_refused(tmp_path: Path, name: str) -> None:
    with rig(tmp_path, []) as it:
        it.configure(monitoring={"metrics_file": name})
        said = it.run()
        assert said.code == 2
        assert "monitoring.metrics_file" in said.err
        assert ".prom" in said.err


def test_without_the_settings_there_are_no_metrics(tmp_path: Path) -> None:
    with rig(tmp_path, []) as it:
        assert load(it.settings_file).monitoring.metrics_file is None
        assert load(it.settings_file).monitoring.listening is None
        it.run()
        assert list(tmp_path.rglob("*.prom*")) == []


# What the audit trail comes to.


def verified(
    level: Level, *, at: datetime, complete: bool = True, share_from: int = 0, share: int = 10_000, period: bool = False
) -> Record:
    details = Details(
        level=level.value,
        complete=complete,
        share_from=share_from,
        share=share,
        since="2026-05-06T00:00:00Z" if period else None,
    )
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Record(seq=1, at=stamp, who="x", what=What.VERIFIED.value, details=details, previous="0")


def finding(kind: Kind, subject: str) -> Record:
    details = Details(kind=kind.value)
    return Record(
        seq=1,
        at="",
        who="x",
        what=What.FINDING.value,
        subject=subject,
        result=kind.value,
        details=details,
        previous="0",
    )


def repaired(subject: str, result: str = "repaired") -> Record:
    return Record(seq=1, at="", who="x", what=What.REPAIRED.value, subject=subject, result=result, previous="0")


def counted(*records: Record) -> dict[tuple[Level, Kind], int]:
    history = FixityHistory()
    for record in records:
        history.see(record)
    return {(level, kind): count for level, kinds in history.fixity().findings.items() for kind, count in kinds.items()}


FOUND = (verified(Level.SIZE, at=DAY_1), finding(Kind.SIZE, "a.mp3"), finding(Kind.SIZE, "b.mp3"))


def test_a_verification_takes_back_what_it_looked_at_and_no_deeper_finding() -> None:
    assert counted(*FOUND) == {(Level.SIZE, Kind.SIZE): 2}
    assert counted(*FOUND, verified(Level.PRESENCE, at=DAY_2)) == {(Level.SIZE, Kind.SIZE): 2}
    for level in (Level.SIZE, Level.FULL):
        assert counted(*FOUND, verified(level, at=DAY_2)) == {}


def test_a_verification_that_was_stopped_or_of_a_period_takes_nothing_back_but_adds_what_it_finds() -> None:
    for record in (verified(Level.SIZE, at=DAY_2, complete=False), verified(Level.SIZE, at=DAY_2, period=True)):
        assert counted(*FOUND, record, finding(Kind.SIZE, "c.mp3")) == {(Level.SIZE, Kind.SIZE): 3}
        assert counted(*FOUND, record, finding(Kind.SIZE, "a.mp3")) == {(Level.SIZE, Kind.SIZE): 2}


def test_a_sample_takes_back_what_was_in_it() -> None:
    (inside,) = [n for n in range(10_000) if Scope(Level.SIZE, share_from=n, share=1).sampled("a.mp3")]
    assert counted(*FOUND, verified(Level.SIZE, at=DAY_2, share_from=inside, share=1)) == {(Level.SIZE, Kind.SIZE): 1}
    beside = (inside + 1) % 10_000
    assert counted(*FOUND, verified(Level.SIZE, at=DAY_2, share_from=beside, share=1)) == {(Level.SIZE, Kind.SIZE): 2}


def test_a_repair_takes_back_what_it_mended_whatever_found_it() -> None:
    again = (verified(Level.FULL, at=DAY_2), finding(Kind.DIGEST, "a.mp3"))
    assert counted(*FOUND, *again, repaired("a.mp3", "left")) == {(Level.FULL, Kind.DIGEST): 1}
    assert counted(*FOUND, *again, repaired("a.mp3")) == {}
    assert counted(*FOUND, repaired("a.mp3")) == {(Level.SIZE, Kind.SIZE): 1}


def test_the_last_verification_of_each_depth_and_extent_is_known_when_it_was_carried_through() -> None:
    history = FixityHistory()
    for record in (
        verified(Level.FULL, at=DAY_1),
        verified(Level.FULL, at=DAY_2, complete=False),
        verified(Level.FULL, at=DAY_2, share=500),
        verified(Level.SIZE, at=DAY_2, period=True),
    ):
        history.see(record)
    assert history.fixity().verified_at == {
        (Level.FULL, Extent.ALL): DAY_1,
        (Level.FULL, Extent.SAMPLE): DAY_2,
        (Level.SIZE, Extent.PERIOD): DAY_2,
    }


def test_records_of_a_later_version_are_passed_over() -> None:
    strange = Record(seq=1, at="", who="x", what="verified", details=Details(level="deeper"), previous="0")
    assert counted(strange, finding(Kind.SIZE, "a")) == {}
    odd = Record(seq=1, at="", who="x", what="finding", subject="a", result="odd", previous="0")
    assert counted(verified(Level.FULL, at=DAY_1), odd) == {}
