"""Cells of an export's table: nothing in them is a formula, wherever a spreadsheet splits them, and each can be undone."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.cells import CUT, MOST_LETTERS, harmless, line_of, original
from archiver.simulator.hostile import HOSTILE_TEXTS, HUGE_NAME

STARTERS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - spreadsheets take the wide ones too
anything = st.text(st.characters(codec=None), max_size=60)
pointed = st.text(st.sampled_from([*"=+-@'\";,|\t\r\n \\ua0", "\x00", "\ud800", "\u2028", "＝"]), max_size=30)  # noqa: RUF001


@given(anything | pointed)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    assert not harmless(text).lstrip().startswith(tuple(STARTERS))


@given(anything | pointed)
def test_no_part_of_a_cell_begins_like_a_formula_in_a_spreadsheet_that_splits_it_elsewhere(text: str) -> None:
    for part in re.split(r'[;,|"\t]', line_of([text, text]).decode()):
        assert not part.strip(" ").startswith(tuple(STARTERS.replace("\r", "").replace("\n", "")))


@given(anything | pointed)
def test_every_cell_gives_its_text_back(text: str) -> None:
    assert original(harmless(text)) == text


@given(st.lists(anything | pointed, min_size=2, max_size=5))
def test_a_row_is_one_line_and_read_back_by_any_reader_of_csv(texts: list[str]) -> None:
    line = line_of(texts)
    assert (line.count(b"\n"), line[-2:]) == (1, b"\r\n")
    (row,) = csv.reader(io.StringIO(line.decode()), strict=True)
    assert [original(cell) for cell in row] == texts


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS.values(), "+49 30 1234", "'quoted", '5;"=1+1', "a,-b", "\t=x"])
def test_what_an_intruder_writes_is_harmless_and_can_be_undone(text: str) -> None:
    assert original(harmless(text)) == text
    assert harmless(text)[:1] not in set(STARTERS)


@pytest.mark.parametrize("text", ["Jim One", "1655@pbx.example", "O'Neil", "2024-05-06T09:00:00Z", "", "a=b", "3-4"])
def test_what_is_harmless_anyway_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_a_number_with_its_country_gets_an_apostrophe() -> None:
    assert harmless("+49301234") == "'+49301234"


def test_a_cell_that_would_run_over_into_the_next_row_is_cut_and_says_so() -> None:
    cell = harmless(HUGE_NAME)
    assert (len(cell), cell.endswith(CUT)) == (MOST_LETTERS + len(CUT), True)
    assert harmless("N" * MOST_LETTERS) == "N" * MOST_LETTERS
