"""A figure as an <svg> element for a page: in the page's colours, beside others, and readable aloud."""

from __future__ import annotations

import io
import re
from itertools import count
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from squish_pl.benchmark.report.themes import LIGHT, TITLE, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {colour: f"var({name})" for name, colour in LIGHT.items()}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_POINTER = re.compile(r"(?<=url\(#)[^)]+|(?<=^#).+")
_numbers = count(1)


def themed_svg(figure: Figure) -> str:
    """An <svg> element with text kept as text and the theme's colours as CSS variables.

    The variables are --chart-ink, --chart-faint (grid), --chart-surface (background) and --chart-1 to --chart-8;
    `themes.LIGHT` has their values on a light page. Only a heat map's shades stay as they are. The figure's label
    becomes the element's <title>; a title drawn into the figure is left out, since a page has a heading for it. No id
    is used twice in a process.
    """
    root = ElementTree.fromstring(_svg(figure))
    for element in root.iter():
        element.tag = _plain(element.tag)
        for name in [name for name in element.attrib if "}" in name]:  # xlink:href, which is href nowadays
            element.set(_plain(name), element.attrib.pop(name))
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    for parent in list(root.iter("defs")):  # a style there would hold for the whole page
        for style in parent.findall("style"):
            parent.remove(style)

    prefix = f"chart{next(_numbers)}-"
    used = {found for element in root.iter() for value in element.attrib.values() for found in _POINTER.findall(value)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for name, value in element.attrib.items():
            if name == "style":
                value = _COLOUR.sub(lambda match: _VARIABLES.get(match[0], match[0]), value)
            value = _POINTER.sub(lambda match: prefix + match[0], value)
            element.set(name, prefix + value if name == "id" else value)

    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    root.attrib.update(
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        width=f"{width / 72 * 96:.0f}",
        height=f"{height / 72 * 96:.0f}",
        style="max-width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt",
    )
    title = ElementTree.Element("title")
    title.text = str(figure.get_label())
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _svg(figure: Figure) -> str:
    titles = figure.findobj(lambda artist: artist.get_gid() == TITLE)
    buffer = io.StringIO()
    with drawing({"svg.fonttype": "none"}):
        for artist in titles:
            artist.set(visible=False, in_layout=False)
        try:
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        finally:
            for artist in titles:
                artist.set(visible=True, in_layout=True)
    return buffer.getvalue()


def _plain(name: str) -> str:
    """A tag or attribute without its namespace."""
    return name.rpartition("}")[2]
