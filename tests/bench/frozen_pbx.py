"""A frozen PBX: nginx serves a corpus's pages and media from files and costs next to nothing beside a client."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from archiver.simulator import make_certificate

from .corpus import ACCOUNT_ID, BEGIN, DAY_S, OVERLAP, Frozen


def _part(document: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


# Good until the year 2100: the shape of a real one, with nothing behind it.
TOKEN = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part({'exp': 4_102_444_800})}.c2lnbmF0dXJl"
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "X-Account-ID": ACCOUNT_ID,
    "Accept": "audio/mpeg",
    "Accept-Encoding": "identity",
}
LOGIN = json.dumps({"user": {}, "access_token": TOKEN, "refresh_token": TOKEN})

_CONFIGURATION = """
%(user)s
daemon off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log %(folder)s/error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  etag off;
  server_tokens off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  ssl_certificate %(certificate)s;
  ssl_certificate_key %(key)s;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:sessions:1m;
  server {
    listen 127.0.0.1:%(http_port)d;
    listen 127.0.0.1:%(https_port)d ssl;
    root %(corpus)s;
    types { }
    default_type application/json;
    location = /status { stub_status; }
    location = /api/v2/login { return 200 '%(login)s'; }
    location = /api/v2/reports/recordings { try_files /pages/$arg_endDate-$arg_startKey.json =404; }
    location = /api/v2/reports/cdrs { return 200 '{"data":[],"page_size":0}'; }
    location /plain/ { default_type audio/mpeg; autoindex on; alias %(corpus)s/media/; }
    location /api/v2/reports/recording/ { default_type audio/mpeg; %(media)s }
  }
}
"""


@dataclass(frozen=True)
class FrozenPbx:
    """A running frozen PBX, at one URL for each scheme."""

    corpus: Frozen
    base_urls: dict[str, str]
    ca_file: Path
    _asked: list[int] = field(default_factory=list)

    def media_url(self, scheme: str, recording_id: str) -> str:
        return f"{self.base_urls[scheme]}/api/v2/reports/recording/{recording_id}"

    def plain_url(self, scheme: str) -> str:
        """The same media once more, as an index of files with links to each."""
        return f"{self.base_urls[scheme]}/plain/"

    def served(self) -> tuple[int, int]:
        """How many connections and requests nginx has taken so far, those of this question not counted."""
        with urlopen(f"{self.base_urls['http']}/status") as answer:
            connections, _, requests = (int(number) for number in answer.read().splitlines()[2].split())
        self._asked.append(1)
        return connections - len(self._asked), requests - len(self._asked)

    def walk(self, scheme: str) -> None:
        """Sign in, walk all pages and fetch one recording, with a client that is none of those measured.

        Raises:
            RuntimeError: the pages don't add up to the corpus.
        """
        base = self.base_urls[scheme]
        context = ssl.create_default_context(cafile=str(self.ca_file)) if scheme == "https" else None

        def get(path: str, data: bytes | None = None) -> bytes:
            with urlopen(Request(base + path, data, HEADERS), context=context) as answer:
                return bytes(answer.read())

        token = json.loads(get("/api/v2/login", b"{}"))["access_token"]
        cdrs = json.loads(get("/api/v2/reports/cdrs?startDate=0&endDate=1&pageSize=1000"))["data"]
        begin, until = int(BEGIN.timestamp()), int(self.corpus.until.timestamp())
        sizes: dict[str, int] = {}
        row_count = page_count = 0
        for end in [*range(begin + DAY_S, until, DAY_S), until + int(OVERLAP.total_seconds())]:
            cursor = ""
            while True:
                path = f"/api/v2/reports/recordings?startDate={end - DAY_S}&endDate={end}&pageSize=1000"
                page = json.loads(get(path + (f"&startKey={cursor}" if cursor else "")))
                page_count += 1
                row_count += len(page["recordings"])
                for row in page["recordings"]:
                    (attachment,) = row["_attachments"].values()
                    sizes[row["_id"]] = attachment["length"]
                cursor = page.get("next_start_key") or ""
                if not cursor:
                    break
        some = next(iter(sizes))
        media = get(f"/api/v2/reports/recording/{some}")
        expected: Any = (TOKEN, [], self.corpus.sizes, len(self.corpus.sizes), self.corpus.page_count, sizes[some])
        if (token, cdrs, sizes, row_count, page_count, len(media)) != expected:
            raise RuntimeError(f"the frozen PBX in {self.corpus.folder} is not what its index says: remove it")


@contextmanager
def serving(corpus: Frozen, nginx: str) -> Iterator[FrozenPbx]:
    """Serve a corpus over http and https on free loopback ports."""
    with tempfile.TemporaryDirectory(prefix="frozen-pbx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate = make_certificate(folder)
        ports = {"http": _free_port(), "https": _free_port()}
        shared = corpus.workload.shares_media
        text = _CONFIGURATION % {
            "user": "user root;" if os.geteuid() == 0 else "",
            "folder": folder,
            "corpus": corpus.folder.resolve(),
            "certificate": certificate.certificate,
            "key": certificate.key,
            "http_port": ports["http"],
            "https_port": ports["https"],
            "login": LOGIN,
            "media": "try_files /tiny.mp3 =404;" if shared else f"alias {corpus.folder.resolve()}/media/;",
        }
        (folder / "nginx.conf").write_text(text, encoding="ascii")
        command = [nginx, "-p", name, "-e", f"{name}/error.log", "-c", f"{name}/nginx.conf"]
        server = subprocess.Popen(command)
        try:
            _await(server, ports.values(), folder / "error.log")
            urls = {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}
            yield FrozenPbx(corpus, urls, certificate.certificate)
        finally:
            server.terminate()
            server.wait()


def find_nginx() -> str:
    """The nginx program, which Debian puts where only root looks.

    Raises:
        RuntimeError: it is not installed.
    """
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError("the benchmark needs nginx (Debian: apt-get install nginx-light)")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(server: "subprocess.Popen[bytes]", ports: Any, log: Path) -> None:
    for port in ports:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None:
                    break
                time.sleep(0.05)
        else:
            raise RuntimeError(f"nginx does not listen on port {port}")
        if server.poll() is not None:
            raise RuntimeError(f"nginx ended: {log.read_text(encoding='utf-8') if log.exists() else ''}")
