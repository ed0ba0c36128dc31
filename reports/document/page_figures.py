"""A matplotlib figure as SVG that lies inside a page: its text is text, its black is the page's, its marks say values.

What matplotlib writes is made for a file of its own: ids that clash with those of the next figure, a style sheet that
would hold for the whole page, style attributes that a content security policy refuses, and black on white.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_GREY = re.compile(r"#([0-9a-f]{2})\1\1", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_NUMBER = re.compile(r"-?\d+\.\d+")
_SHEET = {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # matplotlib's sheet, on the root alone


def inline_svg(svg: str, prefix: str, hovers: Mapping[str, str], about: str, hatches: set[str]) -> str:
    """Return a figure as an <svg> element.

    Args:
        svg: as matplotlib writes it; what carries a value has an id, the artist's gid.
        prefix: put before every id: no two figures of a page have the same.
        hovers: by gid, what a reader sees on pointing there.
        about: what the figure shows, for those who can't see it.
        hatches: ids of the hatches that figures before this one have put on the page; its own are added. A dotted one
            takes 40 kB, and is written once.
    """
    root = ET.fromstring(svg)
    _strip(root)
    own = _take_out(root, hatches)
    used = _referenced(root)
    new = {name: name if name in hatches or name in own else prefix + name for name in used}
    hatches |= own
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name in hovers:
            _add_title(element, hovers[name])
        if name in new:
            element.set("id", new[name])
        _refer(element, new)
        _style(element)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update(_SHEET | {"fill": "currentColor", "role": "img", "aria-label": about})
    ET.register_namespace("", _SVG)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return text.replace(f' xmlns="{_SVG}"', "", 1)  # an <svg> in HTML is SVG without saying so


def _strip(root: ET.Element) -> None:
    """Take out what speaks of a file (who made it) or to a whole page (the style sheet); write paths in short."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
        if "d" in parent.attrib:
            parent.set("d", _NUMBER.sub(_hundredths, " ".join(parent.attrib["d"].split())))
        if parent.tag != f"{{{_SVG}}}text" and not (parent.text or "").strip():
            parent.text = None
        if not (parent.tail or "").strip():
            parent.tail = None


def _hundredths(number: re.Match[str]) -> str:
    """Write a coordinate (points) to what can be seen: matplotlib writes millionths."""
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _take_out(root: ET.Element, hatches: set[str]) -> set[str]:
    """Take out the hatches that are on the page, and return the names of the others: they tell what is drawn."""
    own = set()
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.get("id", "")
            if child.tag == f"{{{_SVG}}}pattern" and name in hatches:
                parent.remove(child)
            elif child.tag == f"{{{_SVG}}}pattern":
                own.add(name)
    return own


def _referenced(root: ET.Element) -> set[str]:
    found = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            found.update(_REFERENCE.findall(value))
            if name == f"{{{_XLINK}}}href" and value.startswith("#"):
                found.add(value[1:])
    return found


def _refer(element: ET.Element, new: Mapping[str, str]) -> None:
    """Point to the new ids."""
    for name, value in list(element.attrib.items()):
        element.set(name, _REFERENCE.sub(lambda found: f"url(#{new[found[1]]})", value))
    link = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if link is not None:
        element.set("href", f"#{new[link[1:]]}" if link.startswith("#") else link)


def _add_title(element: ET.Element, text: str) -> None:
    title = ET.Element(f"{{{_SVG}}}title")
    title.text = text
    element.insert(0, title)
    element.set("class", "mark")


def _style(element: ET.Element) -> None:
    """Turn a style attribute into the attributes that say the same, in the page's ink."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name not in ("", "font-family"):  # the page's sheet names the font
            element.set(name, value)
    for name in ("fill", "stroke"):
        if name in element.attrib:
            element.set(name, _ink(element.attrib[name]))


def _ink(colour: str) -> str:
    """Return black as the page's ink, white as its paper, and grey as the mixture of the two."""
    grey = _GREY.fullmatch(colour)
    if grey is None:
        return colour
    share = round(100 * (1 - int(grey[1], 16) / 255))
    if share in (0, 100):
        return "currentColor" if share else "var(--paper)"
    return f"color-mix(in srgb, currentColor {share}%, var(--paper))"
