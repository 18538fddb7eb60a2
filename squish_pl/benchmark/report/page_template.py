"""Pages of one HTML file that need nothing else: templates filled, with style, script and policy in them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from squish_pl.benchmark.findings import most_frequent
from squish_pl.benchmark.report import page_text
from squish_pl.benchmark.report.page_text import printable
from squish_pl.score.measures.base import score_title

_HOME = "squish_pl.benchmark.report"


def filled(
    template: str,
    title: str,
    facts: Mapping[str, str],
    scripts: Sequence[str],
    styles: Sequence[str] = (),
    home: str = _HOME,
    **values: Any,
) -> Iterator[str]:
    """Yields a page piece by piece.

    Args:
        template: An own file that extends page_base.html.j2.
        title: The page's heading.
        facts: Shown below it.
        scripts: Own files, run after page_common.js.
        styles: Own files that add to page.css.
        home: The package of the page's own files; the report's are at hand for every page.
        **values: What else the template needs.
    """
    own_file = partial(_own_file, home)
    script = "".join(map(own_file, ["page_common.js", *scripts]))
    return (
        _environment(home)
        .get_template(template)
        .generate(
            title=title,
            facts=facts,
            style=Markup("".join(map(own_file, ["page.css", *styles]))),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **values,
        )
    )


def _environment(home: str) -> Environment:
    """Escapes every text, and takes what HTML does not allow out of it."""

    def clean(value: object) -> object:
        return type(value)(printable(value)) if isinstance(value, str) else value

    environment = Environment(
        loader=FunctionLoader(partial(_own_file, home)),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for format_ in (
        page_text.number,
        page_text.share,
        page_text.dollars,
        page_text.duration,
        most_frequent,
        score_title,
    ):
        environment.filters[format_.__name__] = format_
    return environment


def _own_file(home: str, name: str) -> str:
    file = files(home).joinpath(name)
    return (file if file.is_file() else files(_HOME).joinpath(name)).read_text(encoding="utf-8")
