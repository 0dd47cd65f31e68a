"""A drawing becomes part of the page: matplotlib's SVG, cleaned for inlining.

Owns what makes several drawings live on one page in light and dark: ids that nothing refers to go,
the others get the figure's name in front; sentinel colours become CSS variables, with the light
theme's value where no style sheet is allowed; styles become attributes, which no policy forbids;
sizes leave for CSS to decide; a title and a description are added for those who cannot see it. Name
spaces and links to the outside go too.
"""

import re
from xml.etree import ElementTree

INK = "#010203"
MUTED = "#010204"
GRID = "#010205"
PAPER = "#010206"
VERMILLION = "#d55e00"
PURPLE = "#cc79a7"
GREEN = "#009e73"
BLUE = "#0072b2"
GREY = "#767676"

_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted,#5a6068)",
    GRID: "var(--grid,#e3e5e8)",
    PAPER: "var(--paper,#fff)",
    VERMILLION: f"var(--vermillion,{VERMILLION})",
    PURPLE: f"var(--purple,{PURPLE})",
    GREEN: f"var(--green,{GREEN})",
    BLUE: f"var(--blue,{BLUE})",
    GREY: f"var(--grey,{GREY})",
}
_DROPPED = {"metadata", "style"}  # the style sheet would rule the whole page
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT_SIZE = re.compile(r"[\d.]+px")
_COLOUR = re.compile("|".join(_VARIABLES))
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")


def inline_svg(text: str, name: str, title: str, description: str) -> str:
    """Return the drawing as markup for the inside of an HTML page.

    Args:
        text: An SVG document as matplotlib writes it with `svg.fonttype` none.
        name: Of the figure; unique on the page, letters and hyphens.
        title: What a screen reader says first.
        description: What the drawing shows, in a sentence.
    """
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in _DROPPED:
                parent.remove(child)
    referred = {found for element in root.iter() for found in _referred(element)}
    for element in root.iter():
        _clean(element, name, referred)
    _drop_empty(root)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": box,
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "class": "drawing",
        }
    )
    for position, (tag, words) in enumerate([("title", title), ("desc", description)]):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _clean(element: ElementTree.Element, name: str, referred: set[str]) -> None:
    """Rename one element, its ids and references, and shorten its numbers."""
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    attributes.update(_read_style(attributes.pop("style", "")))
    identity = attributes.pop("id", None)
    if identity in referred:
        attributes["id"] = f"{name}-{identity}"
    if attributes.get("href", "").startswith("#"):
        attributes["href"] = f"#{name}-{attributes['href'][1:]}"
    for key, value in attributes.items():
        if key in {"id", "href"}:
            continue
        value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
        value = _COLOUR.sub(lambda found: _VARIABLES[found[0]], value)
        attributes[key] = _DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", value)
    element.attrib.clear()
    element.attrib.update(attributes)
    if element.tag != "text":
        element.text = None
    element.tail = None


def _read_style(style: str) -> dict[str, str]:
    """Return a style as attributes; of a font only the size, the page chooses the letters."""
    attributes = {}
    for declaration in filter(None, map(str.strip, style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        size = _FONT_SIZE.search(value)
        if key == "font" and size:
            attributes["font-size"] = size[0]
        elif not key.startswith("font") or key == "font-size":
            attributes[key] = value
    return attributes


def _referred(element: ElementTree.Element) -> list[str]:
    found = [match for value in element.attrib.values() for match in _REFERENCE.findall(value)]
    found += [value[1:] for key, value in element.attrib.items() if _local(key) == "href"]
    return found


def _drop_empty(element: ElementTree.Element) -> None:
    for child in list(element):
        _drop_empty(child)
        if child.tag in {"g", "defs"} and not len(child):
            element.remove(child)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
