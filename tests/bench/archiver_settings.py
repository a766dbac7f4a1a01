"""The settings file that the archiver is measured with."""

from pathlib import Path

from .corpus import ACCOUNT_ID

LOCAL_STORE = """
[archive]
store = "local"
sidecar = true
durable = {durable}
"""


def settings_toml(
    *,
    base_url: str,
    ca_file: Path | None,
    page_size: int,
    concurrency: int,
    processes: int,
    store: str,
    root: Path,
    requests_per_s: float = 0.0,
) -> str:
    """`store` is the text of [archive] and, if need be, [store.s3]; one process is the default and goes unsaid."""
    several = f"processes = {processes}" if processes > 1 else ""
    return f"""
[pbx]
base_url = "{base_url}"
username = "archiver"
domain = "example"
account_ids = ["{ACCOUNT_ID}"]
ca_file = "{ca_file or ""}"
page_size = {page_size}

[transfer]
concurrency = {concurrency}
{several}
requests_per_s = {requests_per_s}

{store}
[store.local]
root = "{root}"
"""


def settings_without_pbx(root: Path) -> str:
    """For commands that ask no PBX anything."""
    return settings_toml(
        base_url="http://127.0.0.1:1",
        ca_file=None,
        page_size=1000,
        concurrency=8,
        processes=1,
        store=LOCAL_STORE.format(durable="false"),
        root=root,
    )
