"""Pure work on half-open spans of Unix seconds, for the calendar: what is not held yet, and what a cut leaves."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A half-open interval `[start, end)` of Unix seconds."""

    start: int
    end: int


def not_held(wanted: Span, held: Iterable[Span]) -> Iterator[Span]:
    """The parts of `wanted` outside every held span, in order; `held` is disjoint and in order."""
    start = wanted.start
    for span in held:
        if span.end <= start:
            continue
        if span.start >= wanted.end:
            break
        if span.start > start:
            yield Span(start, span.start)
        start = span.end
    if start < wanted.end:
        yield Span(start, wanted.end)


def remainders(span: Span, cut: Span) -> Iterator[Span]:
    """What is left of `span` at either side when `cut` is taken out of it."""
    before = Span(span.start, min(span.end, cut.start))
    after = Span(max(span.start, cut.end), span.end)
    return (rest for rest in (before, after) if rest.start < rest.end)
