"""A killed run (row 57): the next one goes on from there, nothing is lost, doubled, partial or left lying about."""

import random
import signal
import sys
import time
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, assert_holds_all, conserved, key, media, recordings, rig, until

from archiver.simulator import Switches

KILLS = 12
RECORDINGS = 40
IN_FLIGHT = 4


@pytest.mark.parametrize("ordinal", range(KILLS))
def test_a_run_killed_at_any_moment_is_finished_by_the_next_row_57(tmp_path: Path, ordinal: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    rows = recordings(RECORDINGS)
    source = {key(row): media(row) for row in rows}
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.01)) as it:
        it.configure(transfer={"concurrency": 4})
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        # One in four is killed while it starts up or lists, the others somewhere between two media requests.
        if ordinal % 4 == 0:
            time.sleep(chance.uniform(0.1, 1.0))
        else:
            asked = chance.randrange(1, RECORDINGS)
            until(lambda: it.pbx.stats.media >= asked or started.process.poll() is not None)
            time.sleep(chance.uniform(0, 0.01))
        started.signal(signal.SIGKILL)
        assert started.wait().code in {-signal.SIGKILL, 0}
        for name, data in it.media().items():
            assert data == source[name], name
        asked, stored = it.pbx.stats.media, len(it.media())
        said = it.run()
        report = said.json
        assert (said.code, report["outcome"], report["listed"]) == (0, "complete", RECORDINGS)
        assert conserved(report)
        assert report["archived"] + report["already_archived"] == RECORDINGS
        assert_holds_all(it, rows)
        assert max(it.pbx.stats.media_gets.values()) <= 2
        # Nothing that was stored when the run died is fetched again; some requests were still on their way to be counted.
        assert it.pbx.stats.media <= RECORDINGS + asked - stored + IN_FLIGHT
        assert it.run().json["already_archived"] == RECORDINGS


def test_a_run_killed_again_and_again_still_comes_to_its_end_row_59(tmp_path: Path) -> None:
    rows = recordings(RECORDINGS)
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.02)) as it:
        it.configure(transfer={"concurrency": 2})
        for _ in range(5):
            before = it.pbx.stats.media
            started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
            until(lambda before=before: it.pbx.stats.media >= before + 4)  # type: ignore[misc]
            started.signal(signal.SIGKILL)
            started.wait()
        said = it.run()
        assert said.code == 0
        assert_holds_all(it, rows)
