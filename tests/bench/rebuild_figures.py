"""How fast a ledger is made anew from an archive's sidecars, and what it takes."""

import json
import statistics
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from archiver import sidecar
from archiver.keys import KeyTemplate
from archiver.pbx.payloads import recording_of
from archiver.recording import Fixity
from archiver.simulator import SimulatedRecording, Switches
from archiver.simulator.documents import Documents

from .archiver_settings import settings_without_pbx
from .bench import Bench, say
from .corpus import ACCOUNT_ID
from .launching import Ended, launch
from .tables import MIB

_SIDECARS = 200_000
_A_DAY = 2_000
_BEGIN_UNIX_S = 1_714_953_600
_MEDIA = b"\xff\xfb\x50\xc0" + bytes(12)


def rebuild(bench: Bench) -> None:
    """A new ledger from sidecars alone, the objects beside them tiny, since nothing of them is read."""
    chosen = bench.chosen
    count = max(1, round(_SIDECARS * chosen.scale))
    bench.targets.prepare(count * 9_000)
    root = bench.targets.fresh()
    say(f"makes {count} recordings with sidecars")
    begun_s = time.monotonic()
    _make(root, count)
    say(f"  made in {time.monotonic() - begun_s:.0f} s")
    rounds: list[Ended] = []
    for _ in range(chosen.rounds):
        time.sleep(chosen.settle)
        rounds.append(_rebuilt(bench, root, count))
    wall_s = statistics.median(one.wall_s for one in rounds)
    user_s, system_s = (statistics.median(getattr(one, name) for one in rounds) for name in ("user_s", "system_s"))
    row = [
        f"{count:,}",
        f"{wall_s:.1f}",
        f"{count / wall_s:,.0f}",
        f"{user_s:.1f} + {system_s:.1f}",
        f"{max(one.peak_rss_bytes for one in rounds) / MIB:,.0f}",
    ]
    about = (
        f"`archiver rebuild` after the ledger was deleted, the whole command, {chosen.rounds} times; the page "
        "cache is warm. It lists, reads and checks each sidecar, and enters it."
    )
    head = ["sidecars", "s", "sidecars/s", "CPU s (user + system)", "peak MiB"]
    bench.publish("rebuild", "A new ledger from the archive alone", about, head, [row])


def _rebuilt(bench: Bench, root: Path, count: int) -> Ended:
    for path in (root / ".archiver").glob("l*"):
        path.unlink()
    settings = bench.chosen.work / "rebuild.toml"
    text = settings_without_pbx(root)
    settings.write_text(text)
    settings.chmod(0o600)
    command = [bench.chosen.archiver, "--settings", str(settings), "rebuild", "--json"]
    ended = launch(command, bench.chosen.work, {"ARCHIVER_PBX__PASSWORD": "unused"})
    if ended.exit_code:
        raise RuntimeError(f"the archiver ended with {ended.exit_code}: {ended.told}")
    report = json.loads(ended.stdout.read_text())
    if (report["entered"], report["problems_total"]) != (count, 0):
        raise RuntimeError(f"{report['entered']} of {count} entered, {report['problems_total']} problems")
    say(f"  rebuild {ended.wall_s:8.2f} s {count / ended.wall_s:8.0f}/s {ended.peak_rss_bytes / MIB:.0f} MiB")
    bench.write_down("rebuild", {"sidecars": count, "wall_s": ended.wall_s, "peak_rss_bytes": ended.peak_rss_bytes})
    return ended


def _make(root: Path, count: int) -> None:
    """Recordings with sidecars as the archiver writes them, in one folder a day."""
    template = KeyTemplate("{account_id}/{start:%Y/%m/%d}/{recording_id}.{extension}", UTC)
    at = datetime.fromtimestamp(_BEGIN_UNIX_S, UTC)
    fixity = Fixity(len(_MEDIA), sha256(_MEDIA).digest())
    documents = Documents(Switches())
    for ordinal in range(count):
        start = _BEGIN_UNIX_S + 86_400 * (ordinal // _A_DAY) + ordinal % _A_DAY
        row = SimulatedRecording(
            account_id=ACCOUNT_ID, recording_id=f"202405-{ordinal:032x}", start_unix_s=start, duration_ms=6000
        )
        metadata = json.dumps(documents.recording(row)).encode()
        recording = recording_of(metadata, account_id=ACCOUNT_ID, recording_id=row.recording_id)
        if recording is None:
            raise RuntimeError("the simulator's metadata are not what they were")
        key = template.key(
            account_id=ACCOUNT_ID, recording_id=row.recording_id, dated_at=recording.dated_at, extension="mp3"
        )
        path = root / key
        if ordinal % _A_DAY == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_MEDIA)
        beside = sidecar.encode(
            recording,
            key=key,
            fixity=fixity,
            content_type="audio/mpeg",
            archived_at=at,
            run_id=f"run-{ordinal // _A_DAY}",
            source=f"https://pbx.example.com:9443/api/v2/reports/recording/{row.recording_id}",
        )
        path.with_suffix(".json").write_bytes(beside)
