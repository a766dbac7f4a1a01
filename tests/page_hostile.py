"""Facts in which every text that others could have given is hostile."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import page_facts

from archiver.ledger.values_reporting import DayVolume, FlagCount, ReasonCount
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level
from archiver.reports.page.values import HoldSummary, OpenFinding, PageFacts, Parties
from archiver.simulator.hostile import HOSTILE_TEXTS

PAYLOADS = (
    "<script>window.owned=1;alert(1)</script>",
    '"><img src=x onerror="window.owned=1">',
    "'><svg onload='window.owned=1'>",
    "</title></style></desc></svg><iframe src='javascript:parent.owned=1'></iframe>",
    "<!--",
    "-->",
    "]]>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}",
    "`<b>bold</b>`",
    "javascript:window.owned=1",
    "<a href='https://example.com/'>x</a><link rel=stylesheet href=//example.com/x.css>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'>",
    *HOSTILE_TEXTS.values(),
)


def hostile(text: str) -> PageFacts:
    """An archive with troubles in which this text stands wherever a text from outside can."""
    facts = page_facts.facts(bad=True, parties=True, first=date(2026, 8, 20), per_day=4)
    renamed = {account.account_id: f"{text}{number}" for number, account in enumerate(facts.accounts)}
    return replace(
        facts,
        archive=text,
        accounts=[
            replace(
                account,
                account_id=renamed[account.account_id],
                pieces=[replace(piece, reason=text if piece.reason else "") for piece in account.pieces],
            )
            for account in facts.accounts
        ],
        volumes=_with_accounts(facts, renamed),
        reasons=[
            ReasonCount(renamed[each.account_id], each.status, text, each.recordings) for each in facts.reasons[:1]
        ],
        flags=[FlagCount(text, text, 3)],
        named=[
            replace(
                each,
                recording_id=text,
                account_id=text,
                reason=text,
                detail=text,
                flags=[text] if each.flags else [],
                parties=Parties(text, text),
            )
            for each in facts.named
        ],
        alarms=[
            type(each)(account_id=text, reason=each.reason, since=None, detail=f"{text}. {text}")
            for each in facts.alarms
        ],
        runs=[replace(each, run_id=text, error=text) for each in facts.runs],
        findings=[OpenFinding(Kind.FOREIGN_OBJECT, text, Level.FULL, Parties(text, text))],
        holds=[
            HoldSummary(name=text, reason=text, reference=text, placed_by=text, placed_at=facts.made_at, covers=text)
        ],
    )


def _with_accounts(facts: PageFacts, renamed: Mapping[str, str]) -> list[DayVolume]:
    return [replace(each, account_id=renamed[each.account_id]) for each in facts.volumes]
