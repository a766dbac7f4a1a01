"""Object keys: from a recording to a name that is safe in every store, and the validator for names that come back.

Two different recordings never get the same key, and no key can leave the archive or be changed by a file system that
folds case or normalises Unicode (`faults.md` rows 37 to 39 and 68).
"""

import hashlib
import re
from datetime import UTC, datetime, tzinfo

from archiver.errors import InvalidKey, SettingsError

# Lower case only, so that folding file systems see no collision; no dot, so that `.v2` and extensions stay ours.
_PLAIN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}\Z")
_DEVICE_NAMES = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10))})
_HASHED_PREFIX = "h_"

_SEGMENT = r"[A-Za-z0-9_=][A-Za-z0-9._=-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z")
_ONE_SEGMENT = re.compile(rf"{_SEGMENT}\Z")
MAX_KEY_BYTES = 1024

AUDIT_PREFIX = ".archiver/audit/"
MANIFESTS_PREFIX = ".archiver/manifests/"
EVIDENCE_PREFIXES = (AUDIT_PREFIX, MANIFESTS_PREFIX)
"""Where evidence lies; nothing else under `.archiver` is ever an object."""

TOMBSTONE_ENDING = ".tombstone.json"
"""What the key of a tombstone ends in; no id holds a dot, so that nothing else does."""

_TEMPLATE_DATE = re.compile(r"\{start:([^{}]*)\}")
_TEMPLATE_DIRECTIVES = re.compile(r"(%[YmdHjVG]|[A-Za-z0-9_=/-])+\Z")
_TEMPLATE_ENDING = "/{recording_id}.{extension}"


def safe_id(an_id: str) -> str:
    """An id as a path segment: itself when it is plain lower case, else `h_` and 32 hex digits of its SHA-256.

    Injective but for SHA-256 collisions: plain ids that begin with `h_` are hashed too.
    """
    if _PLAIN_ID.match(an_id) and an_id not in _DEVICE_NAMES and not an_id.startswith(_HASHED_PREFIX):
        return an_id
    return _HASHED_PREFIX + hashlib.sha256(an_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def check_key(key: str) -> str:
    """The key itself when it is a valid relative key, ASCII, without `.`/`..` or empty segments.

    Raises:
        InvalidKey: for anything else.
    """
    if len(key) > MAX_KEY_BYTES or not _KEY.match(key):
        raise InvalidKey(f"not a valid object key: {key[:200]!a}")
    return key


def is_segment(name: str) -> bool:
    """Whether a name may stand in a key, as a folder or at its end."""
    return _ONE_SEGMENT.match(name) is not None


def check_object_key(key: str) -> str:
    """Likewise for whatever a store may hold: a relative key, or evidence under one of `EVIDENCE_PREFIXES`.

    Raises:
        InvalidKey: for anything else.
    """
    prefix = next((prefix for prefix in EVIDENCE_PREFIXES if key.startswith(prefix)), "")
    if prefix and len(key) <= MAX_KEY_BYTES and _KEY.match(key, len(prefix)):
        return key
    return check_key(key)


def sidecar_key(media_key: str) -> str:
    """The key of the sidecar that stands beside a media object: the same name, ending in `.json`."""
    return media_key.rpartition(".")[0] + ".json"


def tombstone_key(media_key: str) -> str:
    """The key of the tombstone that stands for all versions of a recording: the name up to its first dot, and an ending."""
    at = media_key.find(".", media_key.rfind("/") + 1)
    return (media_key if at < 0 else media_key[:at]) + TOMBSTONE_ENDING


class KeyTemplate:
    """`archive.key_template` with `archive.timezone`, checked once, then applied to recordings.

    Raises:
        SettingsError: the template could give two recordings one key, or leaves the allowed alphabet.
    """

    def __init__(self, template: str, timezone: tzinfo) -> None:
        self._template = template
        self._timezone = timezone
        self._check()

    def _check(self) -> None:
        template = self._template
        if not template.endswith(_TEMPLATE_ENDING):
            raise SettingsError(f"archive.key_template must end in '{_TEMPLATE_ENDING}', got {template!r}")
        folders = template.removesuffix(_TEMPLATE_ENDING)
        if "{account_id}" not in folders.split("/"):
            raise SettingsError("archive.key_template must have '{account_id}' as a folder of its own")
        for directives in _TEMPLATE_DATE.findall(folders):
            if not _TEMPLATE_DIRECTIVES.match(directives):
                raise SettingsError(
                    f"archive.key_template: {{start:{directives}}} may use %Y %m %d %H %j %V %G, "
                    "letters, digits, - _ = and /"
                )
        bare = _TEMPLATE_DATE.sub("0", folders).replace("{account_id}", "0")
        try:
            check_key(bare)
        except InvalidKey as error:
            raise SettingsError(
                f"archive.key_template: {template!r} may hold {{account_id}}, {{start:…}}, {{recording_id}}, "
                "{extension} and folders of letters, digits, - _ = and ."
            ) from error
        try:
            # The dates too must leave a valid key, also with the longest ids.
            longest = "a" * 128
            at = datetime(2000, 1, 1, tzinfo=UTC)
            key = self.key(account_id=longest, recording_id=longest, dated_at=at, extension="mp3", version=9999)
            check_key(tombstone_key(check_key(key)))
        except InvalidKey as error:
            raise SettingsError(
                f"archive.key_template: {template[:200]!r} makes keys with an empty or too long folder, "
                "or one that begins with -"
            ) from error

    def key(self, *, account_id: str, recording_id: str, dated_at: datetime, extension: str, version: int = 1) -> str:
        """The media key of a recording; versions after the first get `.v2`, `.v3` … before the extension."""
        name = safe_id(recording_id) + (f".v{version}" if version > 1 else "")
        return self._template.format(
            account_id=safe_id(account_id),
            start=dated_at.astimezone(self._timezone),
            recording_id=name,
            extension=extension,
        )
