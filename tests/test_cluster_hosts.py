"""A cluster of hosts with addresses, names and process ids of their own, one of which is cut off in the middle."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from archive_rig import SINCE, UNTIL, Rig, Started, assert_holds_all, conserved, recordings, rig, until
from cluster_rig import claims, dask_cluster
from hosts_apart import Host, forwarded, hosts
from postgres_server import postgres, schema_of

from archiver.simulator import Switches

ROWS = recordings(60)


@contextmanager
def under_way(folder: Path, schema: str) -> Iterator[tuple[Rig, list[Host], Started]]:
    """A run on two hosts that has stored a few recordings and has many to go; PBX, ledger and scheduler are elsewhere."""
    server = postgres()
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with (
        hosts("north", "south") as (address, both),
        rig(folder / "rig", ROWS, switches=Switches(media_think_time_s=0.1), tls=context) as it,
        forwarded(address, it.pbx.simulator.port) as pbx_port,
        forwarded(address, server.port) as server_port,
        dask_cluster(folder / "dask", host=address) as cluster,
    ):
        authority.issue_cert(address).configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        for host in both:
            cluster.start_worker(host.name, host=host)
        it.base_url = f"https://{address}:{pbx_port}"
        it.configure(
            pbx={"ca_file": str(folder / "ca.pem")},
            ledger={"url": server.url(schema).replace(f"127.0.0.1:{server.port}", f"{address}:{server_port}")},
            cluster={"scheduler": cluster.address},
            listing={"window_hours": 1, "overlap_hours": 1},
            transfer={"concurrency": 4, "requests_per_s": 0},
        )
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 12)
        yield it, both, running


def holders(schema: str, *states: str) -> set[str]:
    """The addresses of the hosts that had a parcel."""
    return {row.holder.split("//")[1].rpartition(":")[0] for row in claims(schema) if not states or row.state in states}


def test_hosts_with_addresses_names_and_process_ids_of_their_own_share_a_run(tmp_path: Path) -> None:
    with under_way(tmp_path, "hosts") as (it, both, running):
        said = running.wait()
        assert (said.code, said.json["archived"], said.json["outcome"]) == (0, 60, "complete"), said
        assert_holds_all(it, ROWS)
        assert max(it.pbx.stats.media_gets.values()) == 1
        assert holders("hosts") == {host.address for host in both}
        assert said.json["logins"] == 2


LATER = (
    pytest.mark.campaign,
    pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="runs behind `make campaign`"),
)


@pytest.mark.parametrize("returns", ["during the run", pytest.param("after the run", marks=LATER)])
def test_the_work_of_a_host_that_is_cut_off_is_done_by_the_other_and_its_return_does_no_harm(
    returns: str, tmp_path: Path
) -> None:
    schema = schema_of(tmp_path)
    with under_way(tmp_path, schema) as (it, both, running):
        until(lambda: bool(holders(schema, "held")))
        away = next(host for host in both if host.address in holders(schema, "held"))
        away.cut()
        until(lambda: away.address in holders(schema, "lost"))
        if returns == "during the run":
            away.mend()
        said = running.wait()
        away.mend()
        assert (said.code, said.json["listed"], said.json["archived"]) == (0, 60, 60), said
        assert conserved(said.json)
        assert_holds_all(it, ROWS)
        rows = claims(schema)
        for row in rows:
            if row.state == "lost":
                assert [other.state for other in rows if other.partition == row.partition].count("done") == 1
        assert holders(schema, "lost") == {away.address}
        again = it.command("run", "--since", SINCE, "--until", UNTIL, "--json")
        assert (again.code, again.json["already_archived"]) == (0, 60), again
        verified = it.command("verify", "--scheduler", "", "--json")
        assert (verified.code, verified.json["objects"], verified.json["findings"]) == (0, 60, [])
