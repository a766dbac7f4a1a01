"""The simulated PBX answers as the vendor's page says, and either way where the page is silent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from archiver.simulator import (
    GREGORIAN_OFFSET_S,
    BucketRule,
    BytesMedia,
    Corpus,
    Credentials,
    Mp3Media,
    SimulatedCdr,
    SimulatedRecording,
    Simulator,
    Switches,
)
from archiver.simulator.hostile import HOSTILE_TEXTS, hostile_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ACCOUNT, OTHER = "a" * 32, "b" * 32
NOON = int(datetime(2024, 5, 6, 12, tzinfo=UTC).timestamp())
MIDNIGHT_JUNE = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp())
SIGN_IN = {"username": "archiver", "password": "simulator", "domain": "example"}
AUDIO = {"Accept": "audio/mpeg"}


@dataclass
class Client:
    """A client that is signed in, and walks listings in the plainest way."""

    session: aiohttp.ClientSession
    pbx: Simulator
    token: str = ""

    async def sign_in(self) -> None:
        async with self.session.post("/api/v2/login", json=SIGN_IN) as answer:
            self.token = (await answer.json())["access_token"]

    async def get(
        self, path: str, *, account: str = ACCOUNT, headers: dict[str, str] | None = None, **query: Any
    ) -> tuple[int, Any, bytes]:
        asked = {"Authorization": f"Bearer {self.token}", "X-Account-ID": account} | (headers or {})
        url = URL(f"{self.pbx.base_url}/api/v2/reports/{path}", encoded=True).with_query(query or None)
        async with self.session.get(url, headers=asked) as answer:
            return answer.status, answer.headers, await answer.read()

    async def page(self, what: str = "recordings", **query: Any) -> dict[str, Any]:
        status, _, body = await self.get(what, **({"startDate": NOON - 50, "endDate": NOON + 50} | query))
        assert status == 200
        document: dict[str, Any] = json.loads(body)
        return document

    async def ids(self, **query: Any) -> list[str]:
        return [row["_id"] for row in (await self.page(**query))["recordings"]]

    async def walk(self, most: int = 10, **query: Any) -> list[list[str]]:
        """The ids of each page, up to so many pages."""
        pages: list[list[str]] = []
        key: dict[str, str] = {}
        while len(pages) < most:
            page = await self.page(**query, **key)
            pages.append([row["_id"] for row in page["recordings"]])
            if not page.get("next_start_key"):
                break
            key = {"startKey": page["next_start_key"]}
        return pages

    async def refused(self, **query: Any) -> int:
        return (await self.get("recordings", **query))[0]


@asynccontextmanager
async def signed_in(
    corpus: Corpus, *, clock: Callable[[], float] | None = None, **switches: Any
) -> AsyncIterator[Client]:
    more: dict[str, Any] = {"clock": clock} if clock else {}
    async with (
        Simulator(corpus, switches=Switches(**switches), **more) as pbx,
        aiohttp.ClientSession(pbx.base_url) as session,
    ):
        client = Client(session, pbx)
        await client.sign_in()
        yield client


def recording(recording_id: str, start_unix_s: int = NOON, duration_ms: int = 0, **more: Any) -> SimulatedRecording:
    return SimulatedRecording(
        account_id=ACCOUNT, recording_id=recording_id, start_unix_s=start_unix_s, duration_ms=duration_ms, **more
    )


def cdr(cdr_id: str, ended_unix_s: int = NOON, **more: Any) -> SimulatedCdr:
    return SimulatedCdr(
        account_id=ACCOUNT, cdr_id=cdr_id, ended_unix_s=ended_unix_s, billing_s=7, interaction_id="i", **more
    )


def at(*seconds: int) -> Corpus:
    """Recordings named a, b, c… at these seconds after noon."""
    return Corpus(recording(chr(ord("a") + place), NOON + second) for place, second in enumerate(seconds))


class TestSignIn:
    async def test_the_right_credentials_get_tokens_and_a_user_full_of_secrets(self) -> None:
        async with (
            Simulator(Corpus(), credentials=Credentials("u", "p4ssw0rd", "d")) as pbx,
            aiohttp.ClientSession(pbx.base_url) as session,
            session.post("/api/v2/login", json={"username": "u", "password": "p4ssw0rd", "domain": "d"}) as answer,
        ):
            body = await answer.json()
            claims = json.loads(base64.urlsafe_b64decode(body["access_token"].split(".")[1] + "=="))
            assert set(body) == {"user", "access_token", "refresh_token"}
            assert claims["exp"] - claims["iat"] == 3600
            secrets = {body["access_token"], body["refresh_token"], body["user"]["pvt_md5_auth"], "p4ssw0rd"}
            assert secrets < pbx.canaries
            assert pbx.stats.logins == 1

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (json.dumps(SIGN_IN | {"password": "wrong"}), 401),
            (json.dumps(SIGN_IN | {"domain": "wrong"}), 401),
            (json.dumps({"username": "archiver"}), 400),
            (json.dumps(SIGN_IN | {"password": 7}), 400),
            ("[]", 400),
            ("no json", 400),
            ("[" * 100_000, 400),
        ],
    )
    async def test_anything_else_is_refused_in_plain_text(self, body: str, status: int) -> None:
        async with (
            Simulator(Corpus()) as pbx,
            aiohttp.ClientSession(pbx.base_url) as session,
            session.post("/api/v2/login", data=body) as answer,
        ):
            assert (answer.status, answer.content_type) == (status, "text/plain")

    async def test_a_token_ends_with_its_lifetime_and_a_new_one_works(self) -> None:
        now = [float(NOON)]
        async with signed_in(at(0), clock=lambda: now[0], token_lifetime_s=60) as client:
            assert await client.refused(startDate=NOON - 9, endDate=NOON) == 200
            now[0] += 60
            assert await client.refused(startDate=NOON - 9, endDate=NOON) == 401
            await client.sign_in()
            assert await client.refused(startDate=NOON - 9, endDate=NOON) == 200

    async def test_every_token_can_be_ended_at_once(self) -> None:
        async with signed_in(at(0)) as client:
            client.pbx.expire_tokens()
            assert await client.refused() == 401

    async def test_no_token_a_forged_one_and_no_account_are_refused(self) -> None:
        async with signed_in(at(0)) as client:
            assert (await client.get("recordings", account=""))[0] == 400
            assert (await client.get("recordings", headers={"Authorization": ""}))[0] == 401
            client.token = client.token[:-2] + "xx"
            assert await client.refused() == 401
            assert (await client.get("recording/a", headers=AUDIO))[0] == 401

    @pytest.mark.parametrize(("play", "status"), [("forbidden", 403), ("not_found", 404), ("empty", 200)])
    async def test_an_unknown_account_is_refused_or_empty(self, play: str, status: int) -> None:
        async with signed_in(at(0), unknown_account=play) as client:
            found, _, body = await client.get("recordings", account=OTHER, startDate=NOON - 9, endDate=NOON + 9)
            assert found == status
            assert status != 200 or json.loads(body)["recordings"] == []

    async def test_errors_are_text_or_json(self) -> None:
        async with signed_in(at(0)) as client:
            _, headers, body = await client.get("nothing")
            assert (headers["Content-Type"], body) == ("text/plain; charset=utf-8", b"404 page not found")
        async with signed_in(at(0), error_bodies="json") as client:
            status, _, body = await client.get("recordings", endDate="x")
            assert (status, json.loads(body)["status"]) == (400, "error")

    async def test_a_wrong_path_is_404_and_a_wrong_verb_405(self) -> None:
        async with signed_in(at(0)) as client:
            assert (await client.get("else"))[0] == 404
            async with client.session.get("/api/v2/login") as answer:
                assert answer.status == 405
            async with client.session.post("/api/v2/reports/recordings") as answer:
                assert answer.status == 405


class TestListing:
    @pytest.mark.parametrize(("field", "ids"), [("pvt_created", ["late"]), ("start", ["early"])])
    async def test_a_window_filters_the_time_saved_or_the_start(self, field: str, ids: list[str]) -> None:
        corpus = Corpus([recording("late", NOON - 100, 100_000), recording("early", NOON, 100_000)])
        async with signed_in(corpus, time_field=field) as client:
            assert await client.ids() == ids

    @pytest.mark.parametrize(("unit", "in_s", "in_ms"), [("s", 1, 0), ("ms", 0, 1), ("either", 1, 1)])
    async def test_times_are_seconds_or_milliseconds_or_either(self, unit: str, in_s: int, in_ms: int) -> None:
        async with signed_in(at(0), time_unit=unit) as client:
            assert len(await client.ids()) == in_s
            assert len(await client.ids(startDate=(NOON - 9) * 1000, endDate=(NOON + 9) * 1000)) == in_ms

    @pytest.mark.parametrize(("bound", "ids"), [("inclusive", ["a", "b"]), ("exclusive", ["a"])])
    async def test_the_end_of_a_window_is_inclusive_or_not(self, bound: str, ids: list[str]) -> None:
        async with signed_in(at(0, 50), end_bound=bound) as client:
            assert await client.ids(startDate=NOON) == ids

    @pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
    @pytest.mark.parametrize(("order", "ids"), [("ascending", "abcde"), ("descending", "edcba")])
    async def test_pages_go_either_way_in_every_cursor_mode(self, cursor: str, order: str, ids: str) -> None:
        async with signed_in(at(1, 2, 3, 4, 5), order=order, cursor=cursor) as client:
            pages = await client.walk(pageSize=2)
            assert ["".join(page) for page in pages] == [ids[:2], ids[2:4], ids[4:]]

    @pytest.mark.parametrize(
        ("cursor", "pages"),
        [("inclusive", ["ab", "bcd", "d"]), ("exclusive", ["ab", "d"]), ("exact", ["ab", "cd"])],
    )
    async def test_ties_at_a_page_edge_repeat_or_are_lost_or_neither(self, cursor: str, pages: list[str]) -> None:
        # The page size grows with the second page, as a client's may.
        async with signed_in(at(1, 2, 2, 3), cursor=cursor) as client:
            first = await client.page(pageSize=2)
            found = [[row["_id"] for row in first["recordings"]]]
            key, size = first["next_start_key"], 3 if cursor == "inclusive" else 2
            if cursor == "inclusive":
                found.append(await client.ids(pageSize=size, startKey=key))
                found.append(await client.ids(pageSize=size, startKey=str(NOON + 3 + GREGORIAN_OFFSET_S)))
            else:
                found.append(await client.ids(pageSize=size, startKey=key))
            assert ["".join(page) for page in found] == pages

    async def test_an_inclusive_cursor_never_gets_past_more_ties_than_a_page(self) -> None:
        async with signed_in(at(1, 2, 2, 2, 3)) as client:
            pages = await client.walk(most=6, pageSize=2)
            assert ["".join(page) for page in pages] == ["ab", "bc", "bc", "bc", "bc", "bc"]

    async def test_an_exact_cursor_gets_past_any_number_of_ties_in_either_order(self) -> None:
        for order in ("ascending", "descending"):
            async with signed_in(at(1, 2, 2, 2, 2, 2, 3), cursor="exact", order=order) as client:
                pages = await client.walk(pageSize=2)
                assert sorted("".join(map("".join, pages))) == list("abcdefg")
                assert len(pages) == 4

    @pytest.mark.parametrize(
        ("place", "top", "inside"), [("top", True, False), ("in_data", False, True), ("both", True, True)]
    )
    async def test_the_cursor_stands_at_the_top_or_among_the_rows(self, place: str, top: bool, inside: bool) -> None:
        corpus = Corpus([recording("a"), recording("b", NOON + 1)], [cdr("x"), cdr("y", NOON + 1)])
        wanted = str(NOON + 1 + GREGORIAN_OFFSET_S)
        async with signed_in(corpus, recordings_cursor=place, cdrs_cursor=place) as client:
            for what, key in (("recordings", "recordings"), ("cdrs", "data")):
                page = await client.page(what, pageSize=1)
                assert page.get("next_start_key") == (wanted if top else None)
                assert (page[key][-1] == {"next_start_key": wanted, "page_size": 1}) is inside
                assert len(page[key]) == 1 + inside

    async def test_a_cdr_page_looks_like_the_vendors_sample(self) -> None:
        corpus = Corpus(cdrs=[cdr("202405-1-1@x", media_recording_id=("r", "s")), cdr("202405-1-2@x", NOON + 1)])
        async with signed_in(corpus) as client:
            row, cursor = (await client.page("cdrs", pageSize=1))["data"]
            assert row["timestamp"] == str(NOON + GREGORIAN_OFFSET_S)
            assert row["datetime"] == "2024-05-06 12:00:00 +0000 UTC"
            assert (row["billing_seconds"], row["media_recording_id"]) == ("7", ["r", "s"])
            assert cursor == {"next_start_key": str(NOON + 1 + GREGORIAN_OFFSET_S), "page_size": 1}
            row, cursor = (await client.page("cdrs", startKey=cursor["next_start_key"]))["data"]
            assert "media_recording_id" not in row
            assert cursor == {"page_size": 1}

    @pytest.mark.parametrize(("play", "told"), [("absent", ...), ("null", None), ("empty", "")])
    async def test_the_last_cursor_is_absent_or_null_or_empty(self, play: str, told: object) -> None:
        async with signed_in(at(0), last_cursor=play) as client:
            assert (await client.page()).get("next_start_key", ...) == told

    @pytest.mark.parametrize(("play", "rows"), [("list", []), ("null", None)])
    async def test_an_empty_page_is_an_empty_list_or_null(self, play: str, rows: object) -> None:
        async with signed_in(at(900), empty_page=play) as client:
            assert (await client.page())["recordings"] == rows
            assert (await client.page("cdrs"))["data"] == rows

    async def test_a_page_larger_than_the_cap_is_clamped_or_refused(self) -> None:
        async with signed_in(at(1, 2, 3), page_cap=2) as client:
            assert await client.ids(pageSize=500) == ["a", "b"]
        async with signed_in(at(1, 2, 3), page_cap=2, over_cap="refuse") as client:
            assert await client.refused(startDate=NOON, endDate=NOON + 9, pageSize=500) == 400
            assert await client.ids(pageSize=2) == ["a", "b"]

    async def test_without_a_page_size_the_servers_own_is_used(self) -> None:
        async with signed_in(at(1, 2, 3), default_page_size=2) as client:
            assert await client.ids() == ["a", "b"]

    async def test_a_window_that_is_too_long_is_refused_or_clamped(self) -> None:
        window = {"startDate": NOON - 10, "endDate": NOON + 3 * 86_400}
        corpus = at(0, 2 * 86_400)
        async with signed_in(corpus, max_range_days=1) as client:
            assert await client.refused(**window) == 400
        async with signed_in(corpus, max_range_days=1, over_range="clamp") as client:
            assert await client.ids(**window) == ["a"]
        async with signed_in(corpus, max_range_days=4) as client:
            assert await client.ids(**window) == ["a", "b"]

    async def test_a_call_over_a_months_end_is_seen_only_by_a_window_over_it(self) -> None:
        corpus = Corpus([recording("over", MIDNIGHT_JUNE - 60, 120_000), recording("june", MIDNIGHT_JUNE, 60_000)])
        window = {"startDate": MIDNIGHT_JUNE, "endDate": MIDNIGHT_JUNE + 3600}
        wider = window | {"startDate": MIDNIGHT_JUNE - 1}
        async with signed_in(corpus) as client:
            assert await client.ids(**window) == ["june"]
            assert await client.ids(**wider) == ["june", "over"]
        async with signed_in(corpus, per_month_databases=False) as client:
            assert await client.ids(**window) == ["june", "over"]

    async def test_a_wrongly_named_parameter_is_ignored_or_refused(self) -> None:
        wrong = {"startDate": NOON, "endDate": NOON + 9, "pageSize": 1, "start_key": NOON + 2 + GREGORIAN_OFFSET_S}
        async with signed_in(at(1, 2)) as client:
            assert await client.ids(**wrong) == ["a"]
        async with signed_in(at(1, 2), wrong_parameters="refuse") as client:
            assert await client.refused(**wrong) == 400

    @pytest.mark.parametrize(
        "wrong",
        [
            {"startDate": "x"},
            {"endDate": ""},
            {"endDate": NOON - 99},
            {"pageSize": 0},
            {"startKey": "x"},
            {"pageSize": "9" * 5000},
        ],
    )
    async def test_a_query_without_sense_is_refused(self, wrong: dict[str, Any]) -> None:
        async with signed_in(at(0)) as client:
            assert await client.refused(**({"startDate": NOON - 50, "endDate": NOON + 50} | wrong)) == 400

    @pytest.mark.parametrize("numbers", ["sample", "number", "text"])
    async def test_numbers_are_numbers_or_text(self, numbers: str) -> None:
        async with signed_in(Corpus([recording("a")], [cdr("x")]), numbers=numbers) as client:
            row = (await client.page())["recordings"][0]
            (entry,) = row["_attachments"].values()
            of_recordings = {
                type(value) for value in (row["start"], row["pvt_created"], row["duration_ms"], entry["length"])
            }
            assert of_recordings == {str if numbers == "text" else int}
            leg = (await client.page("cdrs"))["data"][0]
            assert type(leg["timestamp"]) is type(leg["billing_seconds"]) is (int if numbers == "number" else str)

    @pytest.mark.parametrize(
        ("kind", "told"),
        [("gregorian", NOON + GREGORIAN_OFFSET_S), ("unix", NOON), ("ms", NOON * 1000)],
    )
    async def test_a_cdrs_timestamp_is_gregorian_or_unix_or_milliseconds(self, kind: str, told: int) -> None:
        async with signed_in(Corpus(cdrs=[cdr("x")]), cdr_timestamp=kind) as client:
            assert (await client.page("cdrs"))["data"][0]["timestamp"] == str(told)

    @pytest.mark.parametrize(("play", "count"), [("one", 1), ("none", 0), ("several", 3)])
    async def test_there_are_no_or_one_or_several_attachments(self, play: str, count: int) -> None:
        async with signed_in(at(0), attachments=play) as client:
            row = (await client.page())["recordings"][0]
            assert len(row["_attachments"]) == count
            assert count == 0 or row["name"] in row["_attachments"]

    async def test_a_digest_is_empty_or_the_medias_md5(self) -> None:
        corpus = Corpus([recording("a", media=BytesMedia(b"abc"))])
        for play, told in (
            ("empty", ""),
            ("md5", "md5-" + base64.b64encode(hashlib.md5(b"abc").digest()).decode()),
        ):
            async with signed_in(corpus, digest=play) as client:
                (entry,) = (await client.page())["recordings"][0]["_attachments"].values()
                assert (entry["digest"], entry["length"]) == (told, 3)

    async def test_a_recording_is_listed_when_the_call_ends_or_later_and_its_media_may_follow(self) -> None:
        now = [float(NOON)]
        corpus = Corpus(
            [recording("a", NOON - 10, 20_000), recording("b", NOON, listed_at=NOON + 30, available_at=NOON + 60)]
        )
        corpus.add(recording("c", available_at=math.inf))
        async with signed_in(corpus, clock=lambda: now[0]) as client:

            async def seen() -> tuple[list[str], list[str]]:
                fetched = [name for name in "abc" if (await client.get(f"recording/{name}", headers=AUDIO))[0] == 200]
                return sorted(await client.ids()), fetched

            assert await seen() == (["c"], [])
            now[0] = NOON + 10
            assert await seen() == (["a", "c"], ["a"])
            now[0] = NOON + 30
            assert await seen() == (["a", "b", "c"], ["a"])
            now[0] = NOON + 60
            assert await seen() == (["a", "b", "c"], ["a", "b"])

    async def test_the_corpus_may_change_between_two_pages(self) -> None:
        corpus = at(1, 2, 3)
        async with signed_in(corpus) as client:
            key = (await client.page(pageSize=1))["next_start_key"]
            corpus.remove(ACCOUNT, "b")
            corpus.add(recording("z", NOON + 2))
            assert await client.ids(startKey=key) == ["z", "c"]


class TestMedia:
    @pytest.mark.parametrize(
        ("play", "statuses"), [("singular", [200, 404]), ("plural", [404, 200]), ("both", [200, 200])]
    )
    async def test_the_path_is_singular_or_plural_or_both(self, play: str, statuses: list[int]) -> None:
        async with signed_in(at(0), media_path=play) as client:
            found = [(await client.get(path, headers=AUDIO))[0] for path in ("recording/a", "recordings/a")]
            assert found == statuses

    async def test_the_answer_is_audio_or_metadata_unless_accept_asks_for_audio(self) -> None:
        audio = b"".join(Mp3Media(f"{ACCOUNT}/a", 0).chunks())
        async with signed_in(at(0)) as client:
            status, headers, body = await client.get("recording/a", headers={"Accept": "*/*"})
            assert (status, headers["Content-Type"]) == (200, "application/json")
            assert json.loads(body)["recordings"][0]["_id"] == "a"
            status, headers, body = await client.get("recording/a", headers=AUDIO)
            assert (status, headers["Content-Type"], body) == (200, "audio/mpeg", audio)
        async with signed_in(at(0), media_answer="audio") as client:
            assert (await client.get("recording/a"))[2] == audio

    @pytest.mark.parametrize("framing", ["content_length", "chunked", "close"])
    async def test_the_body_is_framed_by_length_or_chunks_or_the_end(self, framing: str) -> None:
        corpus = Corpus([recording("a", duration_ms=60_000)])
        async with signed_in(corpus, media_framing=framing) as client:
            _, headers, body = await client.get("recording/a", headers=AUDIO)
            assert body == b"".join(corpus.recordings[0].source.chunks())
            assert ("Content-Length" in headers) is (framing == "content_length")
            assert ("Transfer-Encoding" in headers) is (framing == "chunked")

    async def test_ranges_are_ignored_or_served(self) -> None:
        corpus = Corpus([recording("a", media=BytesMedia(b"0123456789"))])
        async with signed_in(corpus) as client:
            status, headers, body = await client.get("recording/a", headers=AUDIO | {"Range": "bytes=4-"})
            assert (status, body, "Accept-Ranges" in headers) == (200, b"0123456789", False)
        async with signed_in(corpus, ranges=True) as client:
            for asked, told, wanted in (
                ("bytes=4-", "bytes 4-9/10", b"456789"),
                ("bytes=2-3", "bytes 2-3/10", b"23"),
                ("bytes=-3", "bytes 7-9/10", b"789"),
            ):
                status, headers, body = await client.get("recording/a", headers=AUDIO | {"Range": asked})
                assert (status, headers["Content-Range"], body) == (206, told, wanted)
            assert (await client.get("recording/a", headers=AUDIO | {"Range": "bytes=10-"}))[0] == 416
            assert (await client.get("recording/a", headers=AUDIO | {"Range": "lines=1"}))[2] == b"0123456789"

    async def test_there_is_an_etag_or_none(self) -> None:
        async with signed_in(at(0)) as client:
            assert "ETag" not in (await client.get("recording/a", headers=AUDIO))[1]
        async with signed_in(at(0), etag=True) as client:
            tag = (await client.get("recording/a", headers=AUDIO))[1]["ETag"]
            assert (await client.get("recording/a", headers=AUDIO | {"If-None-Match": tag}))[0] == 304
            assert (await client.get("recording/a", headers=AUDIO | {"If-None-Match": '"x"'}))[0] == 200

    async def test_a_hostile_name_cannot_break_the_content_disposition(self) -> None:
        corpus = Corpus([recording("a", overrides={"name": 'x"\r\nX-Injected: 1'})])
        async with signed_in(corpus, content_disposition=True) as client:
            _, headers, _ = await client.get("recording/a", headers=AUDIO)
            assert "X-Injected" not in headers
            assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''x%22%0D%0AX-Injected%3A%201"

    async def test_the_media_of_hostile_ids_can_be_fetched(self) -> None:
        corpus = Corpus(hostile_ids(ACCOUNT, NOON - 100))
        async with signed_in(corpus) as client:
            # A URL parser takes dots away, an empty id is the listing, and a lone surrogate is no UTF-8.
            for text in set(HOSTILE_TEXTS.values()) - {"", ".", "..", HOSTILE_TEXTS["lone surrogate"]}:
                status, _, body = await client.get(f"recording/{quote(text, safe='')}", headers=AUDIO)
                assert (status, body[:3]) == (200, b"ID3"), text

    async def test_an_unknown_recording_and_one_of_another_account_are_not_found(self) -> None:
        corpus = at(0)
        corpus.add(SimulatedRecording(account_id=OTHER, recording_id="o", start_unix_s=NOON, duration_ms=1))
        async with signed_in(corpus) as client:
            assert (await client.get("recording/o", headers=AUDIO))[0] == 404
            assert (await client.get("recording/o", headers=AUDIO, account=OTHER))[0] == 200
            assert client.pbx.stats.media_gets == {(ACCOUNT, "o"): 1, (OTHER, "o"): 1}


class TestServer:
    async def test_the_token_bucket_refuses_what_comes_too_fast_per_account(self) -> None:
        corpus = at(0)
        corpus.add(SimulatedRecording(account_id=OTHER, recording_id="o", start_unix_s=NOON, duration_ms=1))
        async with signed_in(corpus, bucket=BucketRule(3, 0.01)) as client:
            answers = [await client.get("recording/a", headers=AUDIO) for _ in range(5)]
            assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
            assert "Retry-After" not in answers[-1][1]
            assert (await client.get("recording/o", headers=AUDIO, account=OTHER))[0] == 200
            assert client.pbx.stats.bucket_refusals == 2
        async with signed_in(corpus, bucket=BucketRule(1, 0.5, retry_after=True)) as client:
            await client.get("recording/a", headers=AUDIO)
            assert (await client.get("recording/a", headers=AUDIO))[1]["Retry-After"] == "2"

    async def test_the_token_bucket_fills_again(self) -> None:
        async with signed_in(at(0), bucket=BucketRule(1, 50)) as client:
            assert (await client.get("recording/a", headers=AUDIO))[0] == 200
            await asyncio.sleep(0.05)
            assert (await client.get("recording/a", headers=AUDIO))[0] == 200

    async def test_the_highest_numbers_at_once_are_counted(self) -> None:
        async with signed_in(at(0), media_think_time_s=0.05) as client:
            await asyncio.gather(*(client.get("recording/a", headers=AUDIO) for _ in range(7)), client.page())
            stats = client.pbx.stats
            assert (stats.highest_media_in_flight, stats.media_in_flight, stats.in_flight) == (7, 0, 0)
            assert 7 <= stats.highest_in_flight <= 8
            assert stats.media_gets[ACCOUNT, "a"] == stats.media == 7
            assert (stats.recordings_pages, stats.cdr_pages, stats.requests) == (1, 0, 9)
            assert stats.statuses == {200: 9}
            assert stats.connections_open == stats.connections_opened <= 8

    async def test_waits_are_kept(self) -> None:
        plays: tuple[tuple[dict[str, Any], str, float], ...] = (
            ({"round_trip_s": 0.1}, "recordings", 0.1),
            ({"media_think_time_s": 0.1}, "recording/a", 0.1),
            ({"bandwidth_bytes_per_s": 400_000.0}, "recording/a", 0.19),
        )
        for switches, path, least_s in plays:
            corpus = Corpus([recording("a", duration_ms=10_000)])
            async with signed_in(corpus, **switches) as client:
                loop = asyncio.get_running_loop()
                begun_at = loop.time()
                await client.get(path, headers=AUDIO)
                assert least_s <= loop.time() - begun_at < least_s + 1

    async def test_one_connection_carries_many_requests_even_when_they_come_at_once(self) -> None:
        async with Simulator(Corpus()) as pbx:
            reader, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
            writer.write(b"GET /a HTTP/1.1\r\nhOST: x\r\n\r\nGET /b HTTP/1.1\r\nCONNECTION: Close\r\n\r\n")
            answers = await reader.read()
            assert answers.count(b"HTTP/1.1 404 Not Found\r\n") == 2
            assert answers.count(b"Connection: close") == 1
            assert pbx.stats.connections_opened == 1
            writer.close()

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"\x16\x03\x01 nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
            (b"POST /api/v2/login HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
            (b"POST /api/v2/login HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        ],
    )
    async def test_a_request_out_of_bounds_is_refused(self, sent: bytes, status: bytes) -> None:
        async with Simulator(Corpus()) as pbx:
            reader, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
            writer.write(sent)
            assert (await reader.readline()).split(b" ")[1] == status
            writer.close()

    async def test_leaving_ends_every_connection_and_task_at_once(self) -> None:
        before = len(asyncio.all_tasks())
        async with signed_in(at(0), media_think_time_s=600) as client:
            waiting = asyncio.create_task(client.get("recording/a", headers=AUDIO))
            reader, writer = await asyncio.open_connection("127.0.0.1", client.pbx.port)
            while client.pbx.stats.media_in_flight == 0:  # noqa: ASYNC110 -- counted in the server
                await asyncio.sleep(0.01)
            loop = asyncio.get_running_loop()
            begun_at = loop.time()
            await client.pbx.__aexit__(None, None, None)
            assert loop.time() - begun_at < 0.5
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await waiting
            assert await reader.read() == b""
            writer.close()
            assert client.pbx.stats.connections_open == 0
        assert len(asyncio.all_tasks()) == before
