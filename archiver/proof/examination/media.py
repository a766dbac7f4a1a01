"""How the PBX serves media: heads of answers at both forms of the address, whose bodies are not taken."""

from archiver.errors import MediaNotThere, RequestRefused
from archiver.pbx.base import Framing
from archiver.pbx.probe import MediaSeen
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.fetching import Fetched
from archiver.proof.examination.scene import Scene
from archiver.recording import Recording

_AUDIO, _ANY, _JSON = "audio/mpeg", "*/*", "application/json"
_NO_RECORDING = "000000-" + "0" * 32
_FRAMINGS = {
    Framing.LENGTH: ("content_length", "media come with a Content-Length"),
    Framing.CHUNKED: ("chunked", "media come in chunks, whose end is marked"),
}


async def media_behaviours(scene: Scene, fetched: Fetched) -> list[Behaviour]:
    """What one recording's media tell that came; of the others only what needs none."""
    recording = fetched.recording
    heads: dict[str, MediaSeen] = {}

    async def path(scene: Scene) -> Behaviour:
        for one in scene.probe.media_paths if recording is not None else ():
            heads[one] = await _head(scene, recording, one, _AUDIO)
        return _path(scene.probe.media_paths, heads)

    async def answer(scene: Scene) -> Behaviour:
        working = next((one for one, head in heads.items() if _is_audio(head)), "")
        if not working or recording is None:
            return untold(Name.MEDIA_ANSWER, _none_came(fetched))
        head = await _head(scene, recording, working, _ANY)
        if head.content_type == _JSON:
            return Behaviour(Name.MEDIA_ANSWER, "json_unless_accept", "JSON comes unless Accept names audio/mpeg")
        return Behaviour(Name.MEDIA_ANSWER, "audio", "audio comes whatever Accept says")

    found = [await scene.look(Name.MEDIA_PATH, path), await scene.look(Name.MEDIA_ANSWER, answer), _framing(fetched)]
    served = next((head for head in heads.values() if _is_audio(head)), None)
    found += _of_head(served, fetched)
    return [*found, await scene.look(Name.NO_SUCH_RECORDING, _no_such_recording)]


def _path(paths: tuple[str, ...], heads: dict[str, MediaSeen]) -> Behaviour:
    name = Name.MEDIA_PATH
    served = [path for path in paths if path in heads and _is_audio(heads[path])]
    if not served:
        return untold(name, "no recording's media could be had")
    if len(served) > 1:
        return Behaviour(name, "both", "media are at both forms of the address, singular and plural")
    form = "plural" if "/recordings/" in served[0] else "singular" if "/recording/" in served[0] else "as_set"
    if served[0] == paths[0]:
        return Behaviour(name, form, f"media are at {served[0]}, as set")
    found = f"media are at {served[0]}, not at {paths[0]}, which is set and tried first"
    return Behaviour(name, form, found, "weak", f'pbx.recording_path = "{served[0]}"')


def _framing(fetched: Fetched) -> Behaviour:
    if fetched.framing is None:
        return untold(Name.MEDIA_FRAMING, _none_came(fetched))
    if fetched.framing in _FRAMINGS:
        return Behaviour(Name.MEDIA_FRAMING, *_FRAMINGS[fetched.framing])
    found = "media end with their connection, without a length or chunks"
    advice = "ask whoever runs the PBX, or a proxy before it, for Content-Length: a cut looks like an end"
    return Behaviour(Name.MEDIA_FRAMING, "close", found, "weak", advice)


def _of_head(head: MediaSeen | None, fetched: Fetched) -> list[Behaviour]:
    names = (Name.RANGES, Name.ETAG, Name.CONTENT_DISPOSITION)
    if head is None:
        return [untold(name, _none_came(fetched)) for name in names]
    whole = "a part was asked for, and the whole was going to come"
    return [
        Behaviour(
            Name.RANGES, "yes" if head.partial else "no", "one byte was asked for and came" if head.partial else whole
        ),
        Behaviour(Name.ETAG, "yes" if head.etag else "no", f"media come {_with(head.etag)} an ETag"),
        Behaviour(
            Name.CONTENT_DISPOSITION,
            "yes" if head.content_disposition else "no",
            f"media come {_with(head.content_disposition)} a file name (Content-Disposition)",
        ),
    ]


async def _no_such_recording(scene: Scene) -> Behaviour:
    """What a recording gets that does not exist."""
    head = await _head(scene, None, scene.probe.media_paths[0], _AUDIO)
    name = Name.NO_SUCH_RECORDING
    if isinstance(head.refusal, MediaNotThere):
        return Behaviour(name, "not_there", f"media that do not exist answer HTTP {head.http_status}")
    if isinstance(head.refusal, RequestRefused):
        return Behaviour(name, f"http_{head.http_status}", f"media that do not exist are refused: {head.refusal}")
    found = f"media that do not exist answer HTTP {head.http_status} with {head.content_type[:60] or 'no type'}"
    return Behaviour(
        name, "answered", found, "weak", "nothing to set: what is no audio is never archived, and tried again"
    )


async def _head(scene: Scene, recording: Recording | None, path: str, accept: str) -> MediaSeen:
    recording_id = _NO_RECORDING if recording is None else recording.recording_id
    return await scene.probe.media_head(scene.account_id, recording_id, path=path, accept=accept)


def _is_audio(head: MediaSeen) -> bool:
    return head.refusal is None and head.content_type != _JSON


def _with(there: bool) -> str:
    return "with" if there else "without"


def _none_came(fetched: Fetched) -> str:
    return "no recording's media came" if fetched.framing is None else "the media's address was not found again"
