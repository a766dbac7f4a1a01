"""Notifications: apprise tells a real server of failures, once of a recovery, and of nothing when all is well."""

import fcntl
import os
import re
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, key, recordings, rig, until
from listener import Listener, Reply, listener

from archiver.errors import ExitCode
from archiver.logs import Redaction
from archiver.monitoring.health import Health, News, read_health, turned, untold, write_health
from archiver.monitoring.messages import Ending, message_of
from archiver.monitoring.secrets_in_urls import secret_parts
from archiver.simulator import Fault, Status, Switches

TOKEN = "4f2c8d1e9b7a4c35"
SECRET_WORDS = ("simulator", TOKEN)


@pytest.fixture
def ear() -> Iterator[Listener]:
    with listener() as it:
        yield it


def watched(it: Rig, ear: Listener, *more: str, **pbx: object) -> None:
    url = f"json://{ear.address}/{TOKEN}"
    it.configure(monitoring={"notify_urls": [url, *more]}, pbx={"max_retries": 0} | pbx)


def told(ear: Listener) -> list[tuple[str, str, str]]:
    """What came since it was last asked: type, title, body."""
    found = [(heard.json["type"], heard.json["title"], heard.json["message"]) for heard in ear.heard]
    ear.heard.clear()
    return found


def broken(folder: Path, module: str, error: str) -> dict[str, str]:
    """An environment in which a library can't be imported."""
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(f"raise {error}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_each_bad_night_is_told_with_since_when_and_the_first_good_one_once(tmp_path: Path, ear: Listener) -> None:
    rows = recordings(3)
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=503), times=2)
    with rig(tmp_path, rows, faults=[fault]) as it:
        watched(it, ear)
        first = it.run()
        [(kind, title, body)] = told(ear)
        assert (first.code, kind) == (3, "failure")
        assert re.fullmatch(r"archiver run on \S+: exit code 3", title)
        assert str(it.root) in body
        assert "3 listed: 2 archived now, 0 before, 1 pending" in body
        assert "- pending: server_error" in body
        assert "What to do: usually nothing" in body
        assert f".archiver/reports/{first.json['run_id']}.json" in body
        assert "Bad since" not in body
        began = re.search(r"exit code 3\) at (\S+ \S+ UTC)", body)
        assert began is not None

        # A night later: simulated by what is remembered of the first.
        earlier = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        write_health(it.root, "run", Health(earlier, 3), durable=False)
        assert it.run().code == 3
        [(kind, _, body)] = told(ear)
        assert kind == "failure"
        assert f"Bad since: {earlier:%Y-%m-%d %H:%M:%S} UTC" in body

        assert it.run().code == 0
        [(kind, title, body)] = told(ear)
        assert (kind, title.rpartition(": ")[2]) == ("success", "well again")
        assert f"after it had been bad since {earlier:%Y-%m-%d %H:%M:%S} UTC" in body
        assert "3 listed: 1 archived now, 2 before, 0 pending" in body

        assert it.run().code == 0
        assert told(ear) == []


def test_nothing_is_told_while_all_is_well(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        assert [it.run().code, it.command("verify").code, it.run().code] == [0, 0, 0]
        doctor = it.command("doctor")
        assert (doctor.code, "apprise knows the address" in doctor.out) == (0, True)
        assert TOKEN not in doctor.out + doctor.err
        assert told(ear) == []


def test_damage_is_told_until_it_is_repaired_and_runs_are_told_apart_from_it(tmp_path: Path, ear: Listener) -> None:
    rows = recordings(2)
    with rig(tmp_path, rows) as it:
        watched(it, ear)
        assert it.run().code == 0
        (it.root / key(rows[0])).write_bytes(b"damaged")
        assert it.command("verify").code == 7
        [(kind, title, body)] = told(ear)
        assert (kind, " verify on " in title) == ("failure", True)
        assert "2 recordings looked at, findings: 1, repaired: 0" in body
        assert "- size" in body
        assert it.run().code == 0
        assert told(ear) == []
        assert it.command("verify", "--repair").code == 0
        [(kind, title, body)] = told(ear)
        assert (kind, " verify on " in title, "repaired: 1" in body) == ("success", True, True)


def test_a_reconciliation_with_something_left_is_told(tmp_path: Path, ear: Listener) -> None:
    rows = recordings(2)
    with rig(tmp_path, rows) as it:
        watched(it, ear)
        assert it.run().code == 0
        (it.root / key(rows[0])).unlink()
        assert it.command("reconcile", "--since", SINCE, "--until", UNTIL).code == 3
        [(kind, title, body)] = told(ear)
        assert (kind, " reconcile on " in title) == ("failure", True)
        assert "- gone" in body


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        ("login", 4, "the login was refused"),
        ("gone", 5, "the destination can't be used"),
        ("in_use", 6, "in use by another run"),
        ("pbx", 8, "the PBX could not be reached"),
        ("settings", 2, "pbx.page_size"),
        ("period", 2, "--since"),
        ("bug", 1, "RuntimeError"),
    ],
)
def test_a_run_that_could_not_even_begin_is_told(
    tmp_path: Path, ear: Listener, case: str, code: int, said: str
) -> None:
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        assert it.run().code == 0
        env: dict[str, str] = {}
        since = SINCE
        with (it.root / ".archiver" / "lock").open("rb") as lock:
            match case:
                case "login":
                    env = {"ARCHIVER_PBX__PASSWORD": "wrong-password"}
                case "gone":
                    shutil.rmtree(it.root)
                    env = {"ARCHIVER_STORE__LOCAL__ROOT": str(it.root / "not" / "mounted")}
                case "in_use":
                    fcntl.flock(lock, fcntl.LOCK_EX)
                case "pbx":
                    it.base_url = "http://127.0.0.1:1"
                    watched(it, ear)
                case "settings":
                    watched(it, ear, page_size=0)
                case "period":
                    since = "someday"
                case _:
                    env = broken(tmp_path / "broken", "aiofiles", "RuntimeError('not found by any test')")
            found = it.command("run", "--since", since, "--until", UNTIL, "--json", env=env)
        assert found.code == code
        [(kind, title, body)] = told(ear)
        assert (kind, title.rpartition(": ")[2]) == ("failure", f"exit code {code}")
        assert said in body
        assert "What to do: " in body
        assert not [word for word in (*SECRET_WORDS, "wrong-password") if word in body + title]


def test_a_run_that_ends_by_a_signal_is_told_to_nobody(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(40), switches=Switches(media_think_time_s=0.15)) as it:
        watched(it, ear)
        started = it.start("run", "--since", SINCE, "--until", UNTIL)
        until(lambda: it.pbx.stats.media > 0)
        started.signal(signal.SIGTERM)
        assert started.wait().code == 143
        assert told(ear) == []


def test_without_the_extra_a_run_is_refused_before_it_begins_and_the_doctor_says_so(
    tmp_path: Path, ear: Listener
) -> None:
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        env = broken(tmp_path / "broken", "apprise", "ImportError('not installed')")
        for command in (("run", "--since", SINCE), ("verify",), ("reconcile", "--since", SINCE)):
            said = it.command(*command, env=env)
            assert (said.code, said.out) == (2, "")
            assert "pip install 'recording-archiver[notify]'" in said.err
        assert it.pbx.stats.requests == 0
        assert not it.root.exists()
        doctor = it.command("doctor", env=env)
        assert doctor.code == 2
        assert "recording-archiver[notify]" in doctor.out
        # Nobody needs it who is not to be notified.
        it.configure()
        assert it.command("run", "--since", SINCE, "--until", UNTIL, env=env).code == 0
        assert "apprise" not in it.command("doctor", env=env).out


def test_an_address_that_apprise_does_not_know_is_refused_by_its_number(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear, f"nonsense://{TOKEN}")
        said = it.run()
        assert (said.code, it.pbx.stats.requests) == (2, 0)
        assert "number 2" in said.err
        assert TOKEN not in said.err
        # The other address is good, and this, too, is a run that could not begin.
        assert [title.rpartition(": ")[2] for _, title, _ in told(ear)] == ["exit code 2"]


def test_a_service_that_takes_nothing_changes_no_exit_code_and_a_recovery_is_told_later(
    tmp_path: Path, ear: Listener
) -> None:
    rows = recordings(2)
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=503))
    with rig(tmp_path, rows, faults=[fault]) as it:
        watched(it, ear)
        assert it.run().code == 3
        assert len(told(ear)) == 1
        ear.replies = [Reply(500)]
        said = it.run()
        assert said.code == 0
        assert "monitoring.notify_urls, number 1" in said.err
        assert "monitoring.notify_urls, number 1" in said.json["notes"][0]
        assert TOKEN not in said.out + said.err
        assert {kind for kind, _, _ in told(ear)} == {"success"}
        ear.replies = [Reply(200)]
        assert it.run().code == 0
        assert [kind for kind, _, _ in told(ear)] == ["success"]
        assert it.run().code == 0
        assert told(ear) == []


def test_a_failure_is_told_though_it_cannot_be_remembered(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        assert it.run().code == 0
        (it.root / ".archiver" / "monitoring").write_text("no folder")
        it.base_url = "http://127.0.0.1:1"
        watched(it, ear)
        said = it.run()
        assert said.code == 8
        assert ".archiver/monitoring can't be written" in said.err
        assert [kind for kind, _, _ in told(ear)] == ["failure"]


def test_what_is_remembered_is_private_and_nonsense_is_nothing(tmp_path: Path) -> None:
    (tmp_path / ".archiver").mkdir()
    assert read_health(tmp_path, "run") is None
    at = datetime(2026, 11, 3, 1, 30, tzinfo=UTC)
    write_health(tmp_path, "run", Health(at, 8), durable=True)
    file = tmp_path / ".archiver" / "monitoring" / "run.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_health(tmp_path, "run") == Health(at, 8)
    for nonsense in ("", "{", "[]", '{"bad_since": 1, "exit_code": 2}', '{"bad_since": null}', '{"bad_since":"x"}'):
        file.write_text(nonsense)
        assert read_health(tmp_path, "run") is None


def test_since_when_it_is_bad_begins_anew_after_a_good_one() -> None:
    nights = [datetime(2026, 11, day, tzinfo=UTC) for day in range(1, 7)]
    health, news = turned(None, 3, nights[0])
    assert (health, news) == (Health(nights[0], 3), News.FAILED)
    health, news = turned(health, 8, nights[1])
    assert (health, news) == (Health(nights[0], 8), News.FAILED)
    # Nobody could be told of the recovery: it is news again, and a new failure has a new beginning.
    quiet = untold(health)
    assert turned(quiet, 0, nights[2]) == (Health(None, 0), News.RECOVERED)
    assert turned(quiet, 3, nights[3]) == (Health(nights[3], 3), News.FAILED)
    assert turned(Health(None, 0), 0, nights[4]) == (Health(None, 0), None)
    assert turned(None, 0, nights[5]) == (Health(None, 0), None)


@pytest.mark.parametrize(
    "code", [code for code in ExitCode if code and code not in {ExitCode.SIGINT, ExitCode.SIGTERM}]
)
def test_a_message_has_plain_words_for_every_exit_code_and_no_number_or_secret(code: ExitCode) -> None:
    redaction = Redaction()
    redaction.hide(["hunter2-secret"])
    reasons = [(f"pending: call from +34600123456, {n}", n) for n in range(1, 8)]
    ending = Ending("run", code, datetime(2026, 11, 3, tzinfo=UTC), error="hunter2-secret\nline", reasons=reasons)
    said = message_of(
        ending, News.FAILED, None, host="here", place="/srv", clean=lambda line: str(redaction.clean(line))
    )
    assert not said.good
    assert f"(exit code {int(code)})" in said.body
    assert "What to do: " in said.body
    assert "34600123456" not in said.body
    assert "hunter2" not in said.body
    assert "and 2 more reasons" in said.body


def test_every_part_of_an_address_that_may_be_a_token_is_hidden_and_plain_words_are_not() -> None:
    url = "slack://workspace_bot@TokenAAAAA/TokenBBBBB/Token%2FCCCC?key=QueryToken"
    parts = set(secret_parts(url))
    assert {url, "TokenAAAAA", "TokenBBBBB", "Token%2FCCCC", "Token/CCCC", "QueryToken", "workspace_bot"} <= parts
    mail = "mailtos://archiver:pa%20ss@mail.example.com/notifications"
    assert set(secret_parts(mail)) == {mail, "archiver:pa%20ss", "archiver:pa ss", "pa%20ss", "pa ss"}
    assert set(secret_parts("https://[")) == {"https://["}
