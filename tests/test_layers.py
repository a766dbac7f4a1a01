"""The rooms of the house, read from the imports: who may know whom, and where each driver lives."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "archiver"

# What a module may import of the house. The longest prefix that fits decides; a name stands for itself and what is in it.
WORDS = {"check", "errors", "recording", "keys", "window", "sidecar", "whole_files", "cells"}
PROMISES = {"pbx.base", "pbx.listing", "pbx.payloads", "stores.base", "pbx.probe", "pbx.memory"}
PROMISES |= {"ledger.base", "ledger.values", "ledger.base_repair", "ledger.values_reconciling", "ledger.values_sealing"}
PROMISES |= {"ledger.values_rebuilding", "ledger.values_exporting", "ledger.values_reporting"}
PROMISES |= {"ledger.base_retention", "ledger.values_retention", "ledger.base_claims", "ledger.values_claims"}
WORK = {"pipeline", "proof", "reports"}
BELOW_ASSEMBLY = WORDS | WORK | {"pbx", "stores", "ledger"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "check": {"errors"},
    "recording": set(),
    "whole_files": set(),
    "cells": set(),
    "window": {"errors"},
    "keys": {"errors"},
    "sidecar": {"recording"},
    "pbx": WORDS | {"pbx"},
    "stores": WORDS | {"stores"},
    "ledger": WORDS | {"ledger"},
    "pipeline": WORDS | PROMISES | {"pipeline"},
    "proof": WORDS | PROMISES | WORK,
    "reports": WORDS | PROMISES | WORK,
    "monitoring": WORDS | {"monitoring"},
    "engine.loop": set(),
    "engine": WORDS | PROMISES | {"pipeline", "engine"},
    "settings": WORDS | {"settings"},
    "destination": WORDS | {"stores", "settings"},
    "assembly": BELOW_ASSEMBLY | {"engine", "settings", "destination"},
    "evidence": BELOW_ASSEMBLY | {"settings", "assembly", "destination"},
    "commands.demo": {"assembly", "commands", "engine", "settings", "simulator"} | WORK,
    "commands": BELOW_ASSEMBLY
    | {"", "commands", "engine", "monitoring", "settings", "assembly", "destination", "evidence"},
    "logs": set(),
    "cli.words": WORDS | WORK | {"cli.words", "evidence", "commands.demo"},
    "cli": WORDS
    | WORK
    | {"", "cli", "commands", "settings", "assembly", "evidence", "monitoring.secrets_in_urls"}
    | {"engine.loop", "logs", "simulator"},
    "__main__": {"cli"},
    "simulator": {"simulator"},
    "": set(),
}

# Where a library from outside may be imported; one that is not named here may be imported nowhere.
DRIVERS: dict[str, set[str]] = {
    "aiofiles": {"pipeline.threads", "stores"},
    "aiohttp": {"pbx.session", "pbx.media", "pbx.foreign", "monitoring.heartbeat"},
    "apprise": {"monitoring.notifications"},
    "bagit": {"proof.export"},
    "alembic": {"ledger.schema", "ledger.migrations"},
    "boto3": {"stores.s3"},
    "botocore": {"stores.s3"},
    "click": {"cli"},
    "dask": {"engine.cluster"},
    "distributed": {"engine.cluster"},
    "jinja2": {"reports.page"},
    "markupsafe": {"reports.page"},
    "msgspec": {"pbx.payloads", "proof", "reports", "evidence", "commands", "cli"},
    "mutagen": {"pipeline.audio"},
    "prometheus_client": {"reports.metrics", "commands.metrics_port"},
    "psycopg": {"ledger.postgresql", "ledger.complaints"},
    "pydantic": {"settings"},
    "pydantic_settings": {"settings"},
    "sqlalchemy": {"ledger"},
    "sqlite3": {"ledger"},
    "stamina": {"pbx.retrying", "cli"},
    "structlog": {"logs", "cli", "engine.cluster"},
    "tqdm": {"cli.progress"},
    "uvloop": {"engine.loop"},
    "yarl": {"pbx.session"},
}
# Promises are read by everyone, so they bring no driver along.
BARE = {
    "ledger.base",
    "ledger.values",
    "ledger.values_reconciling",
    "ledger.values_sealing",
    "ledger.values_rebuilding",
    "ledger.values_exporting",
    "ledger.values_reporting",
    "ledger.values_retention",
    "ledger.values_claims",
    "stores.base",
    "pbx.base",
    "pbx.probe",
}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base_manager"}


def name_of(file: Path) -> str:
    """`archiver/pbx/base.py` is `pbx.base`; the package itself is ``."""
    parts = list(file.relative_to(HOUSE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): ast.parse(file.read_text("utf-8")) for file in sorted(HOUSE.rglob("*.py"))}
NAMES = sorted(MODULES)


def within(name: str, room: str) -> bool:
    return name == room or (room != "" and name.startswith(room + "."))


def imports(name: str) -> Iterator[str]:
    """Every module that a module imports, those inside functions too."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively, which this test does not read"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("archiver.") in MODULES else node.module


def inside(name: str) -> set[str]:
    """The modules of the house that a module imports."""
    return {
        found.removeprefix("archiver").removeprefix(".") for found in imports(name) if within(found, "archiver")
    } - {name}


def outside(name: str) -> set[str]:
    return {found.split(".")[0] for found in imports(name)} - {"archiver"}


@pytest.mark.parametrize("name", NAMES)
def test_a_module_imports_only_what_its_level_may(name: str) -> None:
    rooms = [room for room in MAY_IMPORT if within(name, room) and (room or not name)]
    assert rooms, f"archiver/{name} has no place in the table of levels"
    allowed = MAY_IMPORT[max(rooms, key=len)]
    wrong = {found for found in inside(name) if not any(within(found, other) for other in allowed)}
    assert not wrong, f"archiver.{name} may not import {sorted(wrong)}"


@pytest.mark.parametrize("name", NAMES)
def test_a_library_from_outside_is_imported_only_at_its_border(name: str) -> None:
    for library in outside(name):
        if library in DRIVERS:
            fits = any(within(name, place) or name.startswith(place + "_") for place in DRIVERS[library])
            assert fits, f"archiver.{name} imports {library}, which belongs in {sorted(DRIVERS[library])}"
        else:
            assert library in sys.stdlib_module_names, f"{library}, imported by archiver.{name}, is in no table"


@pytest.mark.parametrize("name", sorted({*WORDS, *BARE} | {name for name in NAMES if within(name, "simulator")}))
def test_words_promises_and_the_simulator_need_the_standard_library_only(name: str) -> None:
    assert not {library for library in outside(name) if library not in sys.stdlib_module_names}


def test_only_the_demo_and_the_command_line_know_the_simulator() -> None:
    known_by = {
        name for name in NAMES if not within(name, "simulator") for found in inside(name) if within(found, "simulator")
    }
    assert not {name for name in known_by if name != "commands.demo" and not within(name, "cli")}


def test_nobody_imports_in_a_circle() -> None:
    done: set[str] = set()

    def look(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for found in inside(name):
                look(found, (*path, name))
            done.add(name)

    for name in NAMES:
        look(name, ())


def test_every_module_has_a_name_that_says_what_it_is_for() -> None:
    assert not {part for name in NAMES for part in name.split(".")} & EMPTY_NAMES


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        name
        for name in NAMES
        for node in ast.walk(MODULES[name])
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & {"environ", "getenv"})
    }
    assert readers == {"settings.loading"}


def test_only_the_command_line_prints_and_leaves_the_process() -> None:
    callers: dict[str, set[str]] = {}
    for name in NAMES:
        for node in ast.walk(MODULES[name]):
            if isinstance(node, ast.Call):
                callers.setdefault(ast.unparse(node.func), set()).add(name)
    for call in ("print", "sys.exit", "os._exit", "exit", "sys.stdout.write"):
        # A process of a pool whose leader is gone has nobody to come back to.
        allowed = {"engine.child"} if call == "os._exit" else set()
        assert {name for name in callers.get(call, set()) - allowed if not within(name, "cli")} == set(), call
    for call in ("importlib.import_module", "__import__", "eval", "exec"):
        assert call not in callers, call


def test_the_table_names_no_room_that_is_gone() -> None:
    rooms = {name.split(".")[0] for name in NAMES}
    assert {name.split(".")[0] for name in MAY_IMPORT} <= rooms
    assert {place.split(".")[0] for places in DRIVERS.values() for place in places} <= rooms
