"""The file that Prometheus' node_exporter reads: whole at any time, and readable by everybody."""

import os
from contextlib import suppress
from pathlib import Path

_MODE = 0o644
"""node_exporter runs as a user of its own; there is nothing in it but figures and account ids."""


def write_metrics_file(path: Path, text: bytes) -> None:
    """Put the text in place of what stands there, at once; blocking.

    Raises:
        OSError: it can't be written; what stood there before still does.
    """
    # node_exporter passes over what does not end in .prom.
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        # A process of this number was killed at this very place.
        beside.unlink()
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), _MODE)
            file.flush()
            # A power loss must not leave an empty file under the name.
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
