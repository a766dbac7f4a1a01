"""`doctor` and the certificate that the PBX shows: over a real handshake with the simulator."""

import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from archive_rig import Rig, Said, rig
from test_doctor import PBX, fresh, sections, states

from archiver.simulator.tls import make_certificate

HOST = "127.0.0.1"


def shown(
    tmp_path: Path,
    *names: str,
    authority: trustme.CA | None = None,
    trusted: trustme.CA | None = None,
    **times: Any,
) -> tuple[Said, Rig]:
    """What the doctor says of a certificate for these names, with this authority in `pbx.ca_file`."""
    authority = authority or trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **times).configure_cert(context)
    (trusted or authority).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with rig(tmp_path / "work", fresh(), tls=context) as it:
        it.configure(pbx={"ca_file": str(tmp_path / "ca.pem")})
        return it.command("doctor", "--json"), it


def test_a_certificate_that_is_trusted_is_described(tmp_path: Path) -> None:
    said, _ = shown(tmp_path, HOST, not_after=datetime.now(UTC) + timedelta(days=90, hours=1), common_name="the PBX")
    found = sections(said)["pbx"]
    assert (said.code, states(said, "pbx"), set(found)) == (0, {}, PBX | {"tls"})
    for word in ("TLSv1.3", HOST, "certificate of the PBX", "trustme", "(90 days)"):
        assert word in found["tls"]["found"], found["tls"]
    assert "TLS with a certificate that is trusted" in found["reachable"]["found"]


def test_one_that_ends_within_a_month_is_weak(tmp_path: Path) -> None:
    said, _ = shown(tmp_path, HOST, not_after=datetime.now(UTC) + timedelta(days=12, hours=1))
    assert (said.code, states(said, "pbx")) == (0, {"tls": "weak"})
    assert "(12 days)" in sections(said)["pbx"]["tls"]["found"]


@pytest.mark.parametrize(
    ("names", "times", "words", "advice"),
    [
        ([HOST], {"not_after": datetime(2026, 1, 1, tzinfo=UTC)}, "has expired", "renewed"),
        (
            [HOST],
            {"not_before": datetime(2190, 1, 1, tzinfo=UTC), "not_after": datetime(2191, 1, 1, tzinfo=UTC)},
            "is not valid yet",
            "clock",
        ),
        (["pbx.example", "backup.example"], {}, "it is for pbx.example, backup.example", "pbx.base_url"),
    ],
    ids=["expired", "not yet valid", "wrong host"],
)
def test_one_that_is_refused_fails_with_its_reason_and_nothing_is_asked(
    tmp_path: Path, names: list[str], times: dict[str, Any], words: str, advice: str
) -> None:
    said, it = shown(tmp_path, *names, **times)
    check = sections(said)["pbx"]["tls"]
    assert (said.code, states(said, "pbx")) == (8, {"tls": "failed"})
    assert words in check["found"]
    assert advice in check["advice"]
    assert it.pbx.stats.requests == 0


def test_one_of_an_unknown_authority_fails_and_says_ca_file(tmp_path: Path) -> None:
    said, it = shown(tmp_path, HOST, trusted=trustme.CA())
    check = sections(said)["pbx"]["tls"]
    assert (said.code, check["state"]) == (8, "failed")
    assert check["advice"].startswith("pbx.ca_file = ")
    assert it.pbx.stats.requests == 0


def test_one_that_is_signed_by_itself_fails_and_as_ca_file_it_is_trusted(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, days=20)
    with rig(tmp_path / "work", fresh(), tls=made.server_context()) as it:
        said = it.command("doctor", "--json")
        check = sections(said)["pbx"]["tls"]
        assert (said.code, states(said, "pbx")) == (8, {"tls": "failed"})
        assert "signed by itself" in check["found"]
        assert check["advice"].startswith("pbx.ca_file = ")
        it.configure(pbx={"ca_file": str(made.certificate)})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (0, {"tls": "weak"})
        # Nineteen and a part; twenty within the second in which it was made.
        assert re.search(r"\((19|20) days\)", sections(said)["pbx"]["tls"]["found"])


def test_a_port_that_does_not_speak_tls_is_unreachable(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.configure(pbx={"base_url": it.base_url.replace("http:", "https:"), "connect_timeout_s": 0.5})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (8, {"reachable": "failed"})
        assert "did not answer in time" in sections(said)["pbx"]["reachable"]["found"]
