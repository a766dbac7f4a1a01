"""Clients against a live PBX: the archiver, and a bare one to see what the PBX itself can give."""

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from archiver.simulator import Credentials

from .archiver_settings import LOCAL_STORE, settings_toml
from .bench import Bench
from .corpus import ACCOUNT_ID, BEGIN, rows_by_day
from .launching import Ended, launch
from .live_pbx import LivePbx, Plan, Seen, living

BARE_CLIENT = Path(__file__).with_name("bare_client.py")


@dataclass(frozen=True)
class Live:
    """One run: what the client took, what it reported (nothing, if it is the bare one), what the PBX saw."""

    ended: Ended
    report: dict[str, Any]
    seen: Seen


def archive(bench: Bench, plan: Plan, *, concurrency: int, requests_per_s: float, at_most_s: float | None) -> Live:
    """Archive all that a fresh PBX has into a fresh folder; after `at_most_s` it is asked to stop.

    Raises:
        RuntimeError: it ended without a report.
    """
    chosen, root = bench.chosen, bench.targets.fresh()
    settings = chosen.work / "settings.toml"
    with living(plan, chosen.work) as pbx:
        text = settings_toml(
            base_url=pbx.base_url,
            ca_file=None,
            page_size=chosen.page_size,
            concurrency=concurrency // chosen.processes,
            processes=chosen.processes,
            requests_per_s=requests_per_s,
            store=LOCAL_STORE.format(durable="false"),
            root=root,
        )
        settings.touch(mode=0o600)
        settings.write_text(text, encoding="ascii")
        until = BEGIN + timedelta(days=plan.workload.days)
        period = ["--since", f"{BEGIN:%Y-%m-%d}", "--until", f"{until:%Y-%m-%d}"]
        command = [chosen.archiver, "--settings", str(settings), "-q", "run", *period, "--json"]
        password = {"ARCHIVER_PBX__PASSWORD": Credentials().password}
        ended = launch(command, chosen.work, password, crowd=chosen.processes > 1, at_most_s=at_most_s)
    said = ended.stdout.read_text(encoding="utf-8")
    if not said:
        raise RuntimeError(f"the archiver ended with {ended.exit_code}:\n{ended.told}")
    return Live(ended, json.loads(said), pbx.seen)


def fetch(bench: Bench, plan: Plan, *, concurrency: int) -> Live:
    """Fetch all media with the bare client, which saves nothing: what the PBX itself can give.

    Raises:
        RuntimeError: it failed.
    """
    requests = bench.chosen.work / "requests.json"
    with living(plan, bench.chosen.work) as pbx:
        requests.write_text(json.dumps(_heads(pbx)), encoding="ascii")
        where = urlsplit(pbx.base_url)
        command = [
            sys.executable,
            str(BARE_CLIENT),
            str(where.hostname),
            str(where.port),
            str(concurrency),
            str(requests),
        ]
        ended = launch(command, bench.chosen.work)
    if ended.exit_code or len(pbx.seen.ends) != plan.count:
        raise RuntimeError(f"the bare client ended with {ended.exit_code}:\n{ended.told}")
    return Live(ended, {}, pbx.seen)


def _heads(pbx: LivePbx) -> list[str]:
    headers = f"Authorization: Bearer {pbx.sign_in()}\r\nX-Account-ID: {ACCOUNT_ID}\r\nAccept: audio/mpeg"
    rows = (row for day in rows_by_day(pbx.plan.workload, None) for row in day)
    return [
        f"GET /api/v2/reports/recording/{row.recording_id} HTTP/1.1\r\nHost: pbx\r\n{headers}\r\n\r\n" for row in rows
    ]
