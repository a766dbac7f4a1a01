"""The page in a real browser: it shows, loads nothing, complains of nothing, can be read by everybody, and is looked at."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import page_facts
import pytest
from archive_rig import ACCOUNTS, BEGIN_UNIX_S, SINCE, rig
from chromium import Browser, browser
from page_hostile import PAYLOADS, hostile

from archiver.reports.page.rendering import page_of
from archiver.reports.page.values import PageFacts
from archiver.simulator.hostile import hostile_recordings

KEPT = Path(__file__).parent.parent / "build" / "page"
"""Where the pictures stay, for people to look at."""
# Each text's colour against the nearest ground that is not see-through, as WCAG counts contrast.
CONTRASTS = """(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const line = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(line);
                     return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
                        if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.matches('title, desc')) continue;
    const style = getComputedStyle(e), ink = parts(e.closest('svg') ? style.fill : style.color);
    const [low, high] = [lum(ink), lum(ground(e))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found; })()"""
# What is wider than the window, though nothing lets it scroll.
OVERFLOW = "[document.documentElement.scrollWidth, window.innerWidth]"


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path / "profile") as found:
        yield found


def written(folder: Path, facts: PageFacts, name: str = "page.html") -> Path:
    file = folder / name
    file.write_text(page_of(facts), "utf-8")
    return file


@pytest.mark.parametrize("name", ["fine", "troubles", "many", "empty"])
async def test_it_shows_without_network_errors_or_scripts_in_every_surrounding(
    name: str, shown: Browser, tmp_path: Path
) -> None:
    made: dict[str, Callable[[], PageFacts]] = {
        "fine": page_facts.facts,
        "troubles": lambda: page_facts.facts(bad=True, parties=True),
        "many": lambda: page_facts.facts(accounts=20, first=date(2019, 3, 1), bad=True),
        "empty": lambda: replace(page_facts.facts(accounts=1), ledger_is_there=False, accounts=[], volumes=[], runs=[]),
    }
    file = written(tmp_path, made[name]())
    await shown.look(width=1100)
    await shown.open(file)
    assert await shown.evaluate("document.title") == "Recording archive, 23 Nov 2026, 09:15"
    for surrounding, width, scheme in (("light", 1100, "light"), ("dark", 1100, "dark"), ("phone", 360, "light")):
        await shown.look(width=width, scheme=scheme)
        contrasts: list[tuple[float, str]] = await shown.evaluate(CONTRASTS)
        assert len(contrasts) > 50
        assert not [each for each in contrasts if each[0] < 4.5], surrounding
        wide, window = await shown.evaluate(OVERFLOW)
        assert wide <= window, surrounding
        assert (await shown.screenshot(KEPT / f"{name}-{surrounding}.png")).startswith(b"\x89PNG")
    assert (await shown.printed(KEPT / f"{name}.pdf")).startswith(b"%PDF")
    assert shown.messages == []
    assert shown.requests == [file.as_uri()]
    assert await shown.evaluate("document.scripts.length") == 0


async def test_what_it_draws_is_there_and_its_numbers_open(shown: Browser, tmp_path: Path) -> None:
    await shown.open(written(tmp_path, page_facts.facts(bad=True)))
    drawn = (
        "[...document.querySelectorAll('svg[role=img]')]"
        ".map(e => [e.getBoundingClientRect().width, e.querySelectorAll('path').length])"
    )
    charts: list[tuple[float, int]] = await shown.evaluate(drawn)
    assert len(charts) == 5
    assert all(width > 300 and paths > 0 for width, paths in charts)
    filled = "getComputedStyle(document.querySelector('.complete')).fill"
    assert await shown.evaluate(filled) == "rgb(31, 111, 178)"
    high = "document.querySelector('.account details').getBoundingClientRect().height"
    closed = await shown.evaluate(high)
    await shown.evaluate("document.querySelector('.account summary').click()")
    assert await shown.evaluate(high) > closed + 200
    assert shown.messages == []


async def test_a_screen_reader_is_told_what_each_chart_shows(shown: Browser, tmp_path: Path) -> None:
    await shown.open(written(tmp_path, page_facts.facts(bad=True)))
    tree = await shown.ask("Accessibility.getFullAXTree")
    nodes: list[dict[str, Any]] = [node for node in tree["nodes"] if not node["ignored"]]
    images = [node["name"]["value"] for node in nodes if node["role"]["value"] == "image"]
    assert any("days complete, 5 incomplete" in name for name in images)
    assert any("busiest day began on" in name for name in images)
    landmarks = {node["role"]["value"] for node in nodes}
    assert {"banner", "main", "navigation", "contentinfo", "heading", "table", "columnheader", "rowheader"} <= landmarks
    headings = [node["name"]["value"] for node in nodes if node["role"]["value"] == "heading"]
    assert headings[0] == "Recording archive"


async def test_hostile_metadata_run_nothing_and_load_nothing(shown: Browser, tmp_path: Path) -> None:
    for number, payload in enumerate(PAYLOADS):
        file = written(tmp_path, hostile(payload), f"{number}.html")
        await shown.open(file)
        assert await shown.evaluate("document.scripts.length + document.images.length + frames.length") == 0, payload
        assert await shown.evaluate("typeof window.owned") == "undefined", payload
    assert shown.dialogs == []
    assert shown.messages == []
    assert {request.rpartition("/")[2] for request in shown.requests} == {f"{n}.html" for n in range(len(PAYLOADS))}
    await shown.screenshot(KEPT / "hostile.png")


async def test_a_script_that_came_in_all_the_same_would_not_run(shown: Browser, tmp_path: Path) -> None:
    html = page_of(page_facts.facts()).replace(
        "</body>", "<script>window.owned = 1</script><img src=x onerror='owned=1'></body>"
    )
    file = tmp_path / "page.html"
    file.write_text(html, "utf-8")
    await shown.open(file)
    assert await shown.evaluate("typeof window.owned") == "undefined"
    assert json.dumps(shown.messages).count("Content Security Policy") >= 2


async def test_an_archive_of_hostile_recordings_has_a_harmless_page(shown: Browser, tmp_path: Path) -> None:
    rows = list(hostile_recordings(ACCOUNTS[0], BEGIN_UNIX_S))
    with rig(tmp_path / "rig", rows) as the_rig:
        the_rig.configure(pbx={"max_retries": 0})
        assert the_rig.run().code == 3
        said = the_rig.command("report", "--html", "page.html", "--with-parties", "--since", SINCE)
        assert said.code == 0, said
        file = the_rig.folder / "page.html"
    await shown.open(file)
    assert await shown.evaluate("document.querySelectorAll('main section').length") == 9
    assert await shown.evaluate("document.scripts.length + document.images.length + frames.length") == 0
    assert "quarantined" in await shown.evaluate("document.querySelector('#left').innerText")
    assert (shown.messages, shown.dialogs, shown.requests) == ([], [], [file.as_uri()])
