"""The template, filled in. Every value passes one gate: made harmless, then escaped; the page may load and run nothing."""

import base64
import hashlib
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from archiver.reports.page import wording
from archiver.reports.page.palette import DARK, LIGHT, declarations
from archiver.reports.page.values import PageFacts
from archiver.reports.page.verdict import Verdict
from archiver.reports.page.view import extent_of, took, view_of
from archiver.reports.page.volumes import LOOKS

_TEMPLATES = ("page.html.j2", "charts.html.j2", "sections.html.j2", "page.css")


def page_of(facts: PageFacts) -> str:
    """The page as HTML: one file without scripts, which loads nothing. Holds no surrogates, so that UTF-8 can say it."""
    texts = {name: files(__package__).joinpath("templates", name).read_text("utf-8") for name in _TEMPLATES}
    style = _style(texts.pop("page.css"))
    hidden = wording.numberless if not facts.with_parties else str

    def gate(value: object) -> object:
        # Markup is what our own templates made; everything else may have come from anywhere.
        return value if isinstance(value, Markup) else wording.harmless(str(value))

    environment = Environment(
        autoescape=True,
        finalize=gate,
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "at": lambda when: wording.at(when, facts.zone),
        "iso": wording.iso,
        "count": wording.count,
        "size": wording.size,
        "words": wording.words,
        "on": wording.on,
        "counted": wording.counted,
        "numberless": hidden,
        "extent": extent_of,
        "took": took,
        "coded": _coded,
    }
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    sheet = Markup(style)  # noqa: S704 - our own file
    return environment.get_template("page.html.j2").render(
        view=view_of(facts),
        facts=facts,
        looks=LOOKS,
        style=sheet,
        style_digest=digest,
    )


def verdict_of(facts: PageFacts) -> Verdict:
    """The page's verdict alone, for whoever tells it in another way."""
    return view_of(facts).verdict


def _coded(text: str) -> Markup:
    """One of our own sentences, whose words between backticks are set as code."""
    parts = [wording.harmless(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if ordinal % 2 else escape(part) for ordinal, part in enumerate(parts)
    )


def _style(sheet: str) -> str:
    """The style sheet with its colours; the meta tag names its digest, so that no other style counts."""
    light, dark = declarations(LIGHT), declarations(DARK)
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    lines = (line.strip() for line in sheet.splitlines())
    return colours + "\n" + "\n".join(line for line in lines if line and not line.startswith("/*"))
