"""docs/doctor.md and the code know the same checks and behaviours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from test_doctor import LOCAL, PBX

from archiver.proof.examination.behaviours import Name

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "doctor.md").read_text("utf-8")
EXAMINERS = [
    *(ROOT / "archiver" / "proof" / "examination").glob("*.py"),
    *(
        ROOT / "archiver" / name
        for name in ("commands/examination.py", "commands/pbx_profile.py", "commands/cluster_checks.py")
    ),
    *(ROOT / "archiver" / "stores").glob("*_doctor.py"),
    *(ROOT / "archiver" / "ledger").glob("*_doctor.py"),
]
NAMED_BY_STEPS = {"behaviours", "conditional", "digests", "lock", "lock_setup", "read_back", "versions"}
"""Checks whose name is a variable where they fail, and those of the steps of a trial."""


def checks_in_the_code() -> Iterator[str]:
    for path in EXAMINERS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"Check", "failed", "guarded"}
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value)


def rows(title: str, column: int) -> list[str]:
    """The names in a column of the table under a title."""
    section = PAGE[PAGE.index(f"## {title}") :].partition("\n## ")[0]
    cells = [line.split(" | ")[column] for line in section.splitlines() if line.startswith("| ")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_check_has_its_row_and_no_row_is_of_a_check_that_is_gone() -> None:
    known = set(checks_in_the_code()) | LOCAL | PBX | NAMED_BY_STEPS
    assert len(known) > 30
    assert set(rows("Checks", 1)) == known


def test_every_behaviour_has_its_row_in_the_order_of_the_report() -> None:
    assert rows("How the PBX behaves", 0) == [str(name) for name in Name]


def test_every_short_word_of_a_behaviour_is_in_the_table() -> None:
    """Those that stand in the code as they are; numbers and seconds are made when they are seen."""
    section = PAGE[PAGE.index("## How the PBX behaves") :]
    for path in (ROOT / "archiver" / "proof" / "examination").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Behaviour":
                word = node.args[1] if len(node.args) > 1 else None
                if isinstance(word, ast.Constant) and word.value:
                    assert f"`{word.value!s}`" in section, f"{path.name}:{node.lineno}"


def test_the_readme_and_the_page_of_exit_codes_point_here() -> None:
    assert "(docs/doctor.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "(doctor.md)" in (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
