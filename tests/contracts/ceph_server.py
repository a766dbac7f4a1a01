"""Starts a throw-away Ceph of one node on loopback: a monitor, an OSD in memory, and the S3 gateway, in about 13 s.

No manager, no systemd, nothing outside its own folder. Needs the programs that `s3_servers.CEPH` names.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from s3_servers import answers, free_port, started, wait_for

_CONF = """
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{mon_port_v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
mon data = {dir}/mon
osd data = {dir}/osd
run dir = {dir}/run
admin socket = {dir}/run/$cluster-$name.asok
crash dir = {dir}
keyring = {dir}/keyring
log file = {dir}/$name.log
mon cluster log file = {dir}/cluster.log
pid file =
osd objectstore = memstore
memstore device bytes = 6442450944
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd max object name len = 4096
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
mon pg warn min per osd = 0
mon data avail crit = 1
mon data avail warn = 2
auth allow insecure global id reclaim = true
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw s3 auth use keystone = false
rgw enable usage log = false
rgw crypt require ssl = false
"""


def start_ceph(at: Path, *, key: str, secret: str) -> str:
    """Start one in an empty folder; its address. What was started ends with the session."""
    for part in ("mon", "osd", "run"):
        (at / part).mkdir(parents=True)
    port, mon_port, mon_port_v1, fsid = free_port(), free_port(), free_port(), str(uuid.uuid4())
    conf = at / "ceph.conf"
    conf.write_text(_CONF.format(fsid=fsid, dir=at, port=port, mon_port=mon_port, mon_port_v1=mon_port_v1))
    environment = {**os.environ, "CEPH_CONF": str(conf)}

    def run(*command: str, seconds: float = 60) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        return done.stdout

    addresses = f"[v2:127.0.0.1:{mon_port},v1:127.0.0.1:{mon_port_v1}]"
    monmap, keyring = str(at / "monmap"), str(at / "keyring")
    run("monmaptool", "--create", "--clobber", "--addv", "a", addresses, "--fsid", fsid, monmap)
    run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    rights = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *rights)
    fewer = ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
    run("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", *fewer)
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def asked(*command: str) -> Callable[[], str]:
        def ask() -> str:
            try:
                return run(*command, seconds=5)
            except (AssertionError, subprocess.TimeoutExpired):
                time.sleep(0.1)
                return ""

        return ask

    log = at / "mon.out"
    mon = started(["ceph-mon", "-f", "-i", "a", "--keyring", keyring], log, environment)
    mon_stat, osd_stat = asked("ceph", "mon", "stat"), asked("ceph", "osd", "stat")
    wait_for(lambda: bool(mon_stat()), mon, log)
    osd_id = str(uuid.uuid4())
    run("ceph", "osd", "new", osd_id)
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    log = at / "osd.out"
    osd = started(["ceph-osd", "-f", "-i", "0"], log, environment)
    wait_for(lambda: "1 up" in osd_stat(), osd, log)
    log = at / "rgw.out"
    rgw = started(["radosgw", "-f", "-n", "client.admin"], log, environment)
    wait_for(lambda: answers(port), rgw, log)
    user = ("--uid=archiver", "--display-name=archiver", f"--access-key={key}", f"--secret-key={secret}")
    run("radosgw-admin", "user", "create", *user)
    return f"http://127.0.0.1:{port}"
