"""Keys are injective, safe on every file system, and refused when they are not ours (`faults.md` rows 37 to 39, 68)."""

import unicodedata
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.errors import InvalidKey, SettingsError
from archiver.keys import KeyTemplate, check_key, safe_id, sidecar_key, tombstone_key

DEFAULT = "{account_id}/{start:%Y/%m/%d}/{recording_id}.{extension}"
NASTY = [
    "", ".", "..", "../../etc/x", "/abs", "..\\..\\x", "a\0b", "CON", "con", "Nul", "com1", "a" * 300, "%2e%2e%2f",
    "~/.ssh/x", "-rf", "=cmd()",
    "\ud800", "\r\nFAKE LOG", "A", "a", "é", "e\u0301", "x.v2", "x.json", "x.tombstone", "x.tombstone.json",
    "h_", "h_" + "0" * 32, "a ", "a.",
]  # fmt: skip
IDS = st.one_of(
    st.text(max_size=60), st.sampled_from(NASTY), st.from_regex(r"[0-9]{6}-[0-9a-fA-F]{1,32}", fullmatch=True)
)
TIMES = st.integers(86400, 230 * 365 * 86400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONES = st.sampled_from(
    ["UTC", "Europe/Madrid", "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu"]
)


def folded(text: str) -> str:
    """What a file system that folds case and normalises makes of a name."""
    return unicodedata.normalize("NFD", text).casefold()


@given(IDS)
def test_a_safe_id_is_one_plain_segment_of_a_valid_key(an_id: str) -> None:
    safe = safe_id(an_id)
    assert check_key(safe) == safe
    assert "/" not in safe
    assert "." not in safe
    assert folded(safe) == safe
    assert len(safe) <= 128


@given(IDS, IDS)
@example("CON", "con")
@example("É", "é")
def test_two_ids_share_a_safe_id_only_when_they_are_the_same(one: str, other: str) -> None:
    assert (folded(safe_id(one)) == folded(safe_id(other))) == (one == other)


@given(IDS)
def test_nobody_can_choose_an_id_that_lands_on_anothers_hash(an_id: str) -> None:
    assert safe_id(safe_id(an_id)) == safe_id(an_id) or safe_id(an_id).startswith("h_")
    hashed = safe_id("É" + an_id)
    assert safe_id(hashed) != hashed


@pytest.mark.parametrize("name", ["con", "prn", "aux", "nul", "com0", "com1", "com9", "lpt0", "lpt1", "lpt9"])
def test_device_names_never_become_file_names(name: str) -> None:
    assert safe_id(name).startswith("h_")


def test_ordinary_recording_ids_stay_readable() -> None:
    an_id = "202205-04f5c2bd1a7e4d0fbd0c9a3b6c1f8e2d"
    assert safe_id(an_id) == an_id


@given(st.tuples(IDS, IDS, st.integers(1, 30)), st.tuples(IDS, IDS, st.integers(1, 30)), TIMES)
@example(("a", "x", 1), ("a", "x.tombstone", 1), datetime(2022, 5, 6, tzinfo=UTC))
def test_recordings_and_versions_never_share_a_media_sidecar_or_tombstone_key(
    one: tuple[str, str, int], other: tuple[str, str, int], dated_at: datetime
) -> None:
    template = KeyTemplate(DEFAULT, UTC)
    made = []
    for account, recording, version in (one, other):
        key = template.key(
            account_id=account, recording_id=recording, dated_at=dated_at, extension="mp3", version=version
        )
        made.append((folded(key), folded(sidecar_key(key)), folded(tombstone_key(key))))
    assert (made[0] == made[1]) == (one == other)
    # One tombstone stands for all versions of a recording.
    assert len({*made[0], *made[1]}) == (3 if one == other else 5 if one[:2] == other[:2] else 6)


@given(IDS, IDS, TIMES, ZONES, st.sampled_from(["mp3", "wav", "ogg", "bin"]))
def test_every_key_of_a_template_is_valid_and_names_the_local_day(
    account: str, recording: str, dated_at: datetime, zone: str, extension: str
) -> None:
    template = KeyTemplate(DEFAULT, ZoneInfo(zone))
    key = template.key(account_id=account, recording_id=recording, dated_at=dated_at, extension=extension)
    assert check_key(key) == key
    assert check_key(sidecar_key(key)).endswith(".json")
    assert check_key(tombstone_key(key)).endswith(".tombstone.json")
    day = dated_at.astimezone(ZoneInfo(zone))
    assert key.split("/")[1:4] == [f"{day.year:04}", f"{day.month:02}", f"{day.day:02}"]


@given(st.text(max_size=40))
@example("a/../b")
@example("a/.archiver/b")
@example(".archiver/ledger")
def test_a_key_is_either_refused_or_stays_where_it_says(key: str) -> None:
    try:
        assert check_key(key) == key
    except InvalidKey:
        return
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert "\\" not in key
    assert not any(segment in {"", ".", ".."} or segment[0] in ".-~" for segment in key.split("/"))


@pytest.mark.parametrize("key", ["x" * 200, "/".join(["abc"] * 256), "a/b.mp3", "=", "_", "A.b-c=d"])
def test_keys_up_to_the_limits_are_valid(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["x" * 201, "/".join(["abc"] * 257), "a\n", "a/b\n", "a//b", "a/", "/a", "", *NASTY[1:5]]
)
def test_keys_over_the_limits_or_with_strange_segments_are_refused(key: str) -> None:
    with pytest.raises(InvalidKey):
        check_key(key)


def test_a_refused_key_is_shown_on_one_printable_line() -> None:
    with pytest.raises(InvalidKey) as caught:
        check_key("\r\nFAKE LOG\x1b[31m")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "template",
    [
        DEFAULT,
        "{account_id}/{recording_id}.{extension}",
        "archive/{account_id}/{start:%Y-%m}/{recording_id}.{extension}",
        "{start:year=%Y/month=%m}/{account_id}/{recording_id}.{extension}",
        "{start:%G-W%V}/{account_id}/{start:%j/%H}/{recording_id}.{extension}",
    ],
)
def test_templates_of_every_allowed_shape_give_valid_keys(template: str) -> None:
    at = datetime(2022, 5, 6, 23, 30, tzinfo=UTC)
    key = KeyTemplate(template, UTC).key(account_id="a", recording_id="r", dated_at=at, extension="mp3")
    assert check_key(key).endswith("/r.mp3")


BAD_FOLDERS = [
    "x",
    "x{account_id}",
    "../{account_id}",
    "/{account_id}",
    ".archiver/{account_id}",
    "{account_id}/",
    "{account_id}/{start}",
    "{account_id}/{start:%c}",
    "{account_id}/{start:}",
    "{account_id}/{start:%Y/../x}",
    "{account_id}/{start:/%Y}",
    "{account_id}/{start:%Y/}",
    "{account_id}/{start:-%Y}",
    "{account_id}/{start:%Y//%m}",
    "{account_id}/{name}",
    "{account_id}/{recording_id.__class__}",
    "{account_id}/{{x}}",
    "{account_id}/é",
    "{account_id}/a b",
    "{account_id}/" + "x" * 201,
    "{account_id}" + "/abc" * 300,
    "{account_id}/{start:" + "%Y" * 60 + "}",
]
BAD_TEMPLATES = ["", "{recording_id}", "{account_id}/{recording_id}", "{recording_id}.{extension}"]


@pytest.mark.parametrize("template", [*BAD_TEMPLATES, *(f + "/{recording_id}.{extension}" for f in BAD_FOLDERS)])
def test_templates_that_could_mix_recordings_or_leave_the_archive_are_refused(template: str) -> None:
    with pytest.raises(SettingsError, match="key_template"):
        KeyTemplate(template, UTC)


@pytest.mark.parametrize(("media", "sidecar"), [("a/b.mp3", "a/b.json"), ("a/b.v2.wav", "a/b.v2.json")])
def test_a_sidecar_stands_beside_its_media(media: str, sidecar: str) -> None:
    assert sidecar_key(media) == sidecar


@pytest.mark.parametrize(
    ("media", "tombstone"), [("a/b.mp3", "a/b.tombstone.json"), ("a/b.v2.wav", "a/b.tombstone.json")]
)
def test_one_tombstone_stands_where_all_versions_of_a_recording_were(media: str, tombstone: str) -> None:
    assert tombstone_key(media) == tombstone


def test_a_template_whose_longest_tombstone_would_be_no_key_is_refused() -> None:
    folders = "/".join(["abc"] * 183)
    ending = "/{recording_id}.{extension}"
    for filler, taken in (("x" * 19, True), ("x" * 20, False)):
        template = "{account_id}/" + filler + "/" + folders + ending
        if taken:
            KeyTemplate(template, UTC)
        else:
            with pytest.raises(SettingsError, match="too long"):
                KeyTemplate(template, UTC)
