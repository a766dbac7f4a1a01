"""docs/scaling.md against Dask, the program and the wire: what it tells operators to type exists, and TLS works as told."""

from pathlib import Path

import pytest
import trustme
from archive_rig import assert_holds_all, recordings, rig
from cluster_rig import dask_cluster
from postgres_server import postgres


def tls_as_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The page's variables, in the environment of everybody."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        issued = authority.issue_cert("127.0.0.1")
        for name, what in (("CERT", issued.cert_chain_pems[0]), ("KEY", issued.private_key_pem)):
            path = folder / f"{role}-{name}.pem"
            what.write_to_path(str(path))
            monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__{name}", str(path))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(folder / "ca.pem"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")


def test_a_run_over_tls_archives_and_who_has_no_certificate_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls_as_told(monkeypatch, tmp_path)
    rows = recordings(20)
    with rig(tmp_path / "rig", rows) as it, dask_cluster(tmp_path / "dask", "one", "two", scheme="tls") as cluster:
        it.configure(ledger={"url": postgres().url("over_tls")}, cluster={"scheduler": cluster.address})
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, 20), said
        assert_holds_all(it, rows)
        for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"):
            monkeypatch.delenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}")
        without = it.run()
        assert without.code == 2, without
        assert "TLS" in without.err
