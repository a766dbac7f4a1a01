"""Who is measured with a bucket as the destination: the archiver, and rclone as a raw copier."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3_kinds import CREDENTIALS
from s3_proxy import proxied
from s3_servers import RCLONE, end, start_rclone

from .contenders import CONCURRENCY, Contest, Measure
from .launching import launch

ARCHIVED, COPIED = "recordings", "copied"
BARE = Path(__file__).with_name("bare_boto3.py")


@dataclass
class S3Contest(Contest):
    """A contest whose contenders fill a bucket on `rclone serve s3`.

    Each run gets an empty bucket in a fresh folder and a server of its own, so that none finds what another left in the
    server's memory. The bucket's folder is what is checked, since the server keeps each object as a plain file.
    """

    sidecars: bool = True
    endpoint_url: str = ""

    def archive(self, *, durable: bool = False) -> Measure:
        """Archive the corpus into a fresh bucket, check it, and see that a second run fetches and puts nothing."""
        with self._bucket(ARCHIVED) as folder:
            self.settle()
            measure = self._run_archiver(durable=durable)
            self.check_report(measure, archived=len(self.corpus.sizes))
            self.check_files(folder, self.corpus.keys, with_sidecars=self.sidecars)
            self._check_second_run(durable=durable)
            self.check_files(folder, self.corpus.keys, with_sidecars=self.sidecars)
        return measure

    def rclone(self) -> Measure:
        """Copy all media into a fresh bucket with rclone, which reads the web server's index and asks for each size."""
        many = str(CONCURRENCY)
        command = [str(RCLONE), "copy", "--transfers", many, "--checkers", many, "--s3-no-check-bucket"]
        command += ["--ca-cert", str(self.pbx.ca_file)] if self.scheme == "https" else []
        with self._bucket(COPIED) as folder:
            self.settle()
            before = self.pbx.served()
            ended = launch([*command, ":http:", f":s3:{COPIED}"], self.work, self._environment())
            if ended.exit_code:
                raise RuntimeError(f"rclone ended with {ended.exit_code}:\n{ended.told}")
            self.check_files(folder, {name: name for name in self.corpus.sizes}, with_sidecars=False)
        measure = self.measure(ended, before)
        if measure.requests_served < measure.count:
            raise RuntimeError(f"rclone sent {measure.requests_served} requests for {measure.count} recordings")
        return measure

    def boto3(self) -> Measure:
        """Copy all media with boto3 and nothing else: what the archiver could reach if it checked and kept nothing."""
        names = self.work / "names"
        names.write_text("\n".join(self.corpus.sizes))
        command = [sys.executable, str(BARE), self.pbx.plain_url("http"), COPIED]
        with self._bucket(COPIED) as folder:
            self.settle()
            before = self.pbx.served()
            ended = launch([*command, self.endpoint_url, str(CONCURRENCY), str(names)], self.work, self._environment())
            if ended.exit_code:
                raise RuntimeError(f"boto3 ended with {ended.exit_code}:\n{ended.told}")
            self.check_files(folder, {name: name for name in self.corpus.sizes}, with_sidecars=False)
        return self.measure(ended, before)

    def _check_second_run(self, *, durable: bool) -> None:
        """Run the archiver again, with somebody between it and the bucket who counts.

        Raises:
            RuntimeError: it fetched or put something.
        """
        direct = self.endpoint_url
        with proxied(behind=direct) as proxy:
            self.endpoint_url = proxy.endpoint_url
            try:
                self.check_report(self._run_archiver(durable=durable), archived=0)
            finally:
                self.endpoint_url = direct
        if not proxy.requests or proxy.count("PUT"):
            raise RuntimeError(f"a second run made {len(proxy.requests)} requests, {proxy.count('PUT')} of them PUTs")

    @contextmanager
    def _bucket(self, name: str) -> Iterator[Path]:
        """An empty bucket on a server that has just started; gives the folder behind it."""
        self.target = self.targets.fresh()
        served = self.target / "served"
        (served / name).mkdir(parents=True)
        process, server = start_rclone(served, self.work / "rclone.log")
        self.endpoint_url = server.endpoint_url
        try:
            yield served / name
        finally:
            end(process)

    def _store_settings(self, *, durable: bool) -> str:
        return f"""
[archive]
store = "s3"
sidecar = {str(self.sidecars).lower()}
durable = {str(durable).lower()}

[store.s3]
bucket = "{ARCHIVED}"
region = "us-east-1"
endpoint_url = "{self.endpoint_url}"
"""

    def _environment(self) -> dict[str, str]:
        """The key for both; rclone reads its settings from here, too, and from no file."""
        named = {"S3_PROVIDER": "Rclone", "S3_ENV_AUTH": "true", "S3_ENDPOINT": self.endpoint_url}
        named |= {"HTTP_URL": self.pbx.plain_url(self.scheme), "CONFIG": os.devnull}
        return super()._environment() | CREDENTIALS | {f"RCLONE_{name}": value for name, value in named.items()}


def rclone_version() -> str:
    """As in `rclone v1.75.2`."""
    said = subprocess.run([str(RCLONE), "version"], check=True, capture_output=True, text=True)
    return said.stdout.splitlines()[0]
