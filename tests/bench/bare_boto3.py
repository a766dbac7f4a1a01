"""The least that anything on boto3 can do: GET each medium, PUT it, read its head. No digest, no sidecar, no ledger.

`python bare_boto3.py SOURCE_URL BUCKET ENDPOINT_URL THREADS NAMES`, the last a file. One client for all threads.
"""

import http.client
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.config import Config


def copy_all(source_url: str, bucket: str, endpoint_url: str, threads_count: int, names: list[str]) -> None:
    """Copy every name, `threads_count` at once.

    Raises:
        RuntimeError: something was not copied whole.
    """
    source = urlsplit(source_url)
    config = Config(
        max_pool_connections=threads_count,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
        s3={"addressing_style": "path"},
    )
    client = boto3.Session().client("s3", region_name="us-east-1", endpoint_url=endpoint_url, config=config)
    left, taking, copied = iter(names), threading.Lock(), []

    def copy_some() -> None:
        connection = http.client.HTTPConnection(source.hostname or "", source.port)
        while True:
            with taking:
                name = next(left, None)
            if name is None:
                return
            connection.request("GET", source.path + name)
            body = connection.getresponse().read()
            client.put_object(Bucket=bucket, Key=name, Body=body)
            if client.head_object(Bucket=bucket, Key=name)["ContentLength"] == len(body):
                copied.append(name)

    threads = [threading.Thread(target=copy_some) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(copied) != len(names):
        raise RuntimeError(f"{len(copied)} of {len(names)} were copied whole")


if __name__ == "__main__":
    copy_all(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]).read_text().split())
