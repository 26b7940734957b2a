"""Figures as files, and as inline SVG that follows the theme of an HTML page."""

from __future__ import annotations

import hashlib
import html
import io
import re
from pathlib import Path

from matplotlib.figure import Figure

from recbole_drex.errors import ConfigError
from recbole_drex.report.figures.style import INK, LIGHT, LIGHT_RANKS, styled
from recbole_drex.utils.files import replacing

_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@styled
def save(figure: Figure, path: Path, dpi: int = 200) -> Path:
    """Write a figure atomically on a white background; the same figure gives the same bytes.

    Args:
        figure: a figure of this package.
        path: output file ending with ``.png``, ``.svg`` or ``.pdf``.
        dpi: dots per inch of a PNG file.

    Returns:
        ``path``.

    Raises:
        ConfigError: another suffix.
        DataError: the file cannot be written.
    """
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in _METADATA:
        raise ConfigError(f"cannot write a figure as '{path.name}': its name must end with .{', .'.join(_METADATA)}")
    figure.patch.set_visible(True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=suffix, dpi=dpi, facecolor="white", metadata=_METADATA[suffix])
    figure.patch.set_visible(False)
    return path


@styled
def svg(figure: Figure) -> str:
    """A figure as an inline ``<svg>`` element for HTML.

    Text and axes use the page's ``currentColor`` and font. Series use the CSS variables ``--series-1`` to
    ``--series-8``, meant for :data:`recbole_drex.report.figures.style.LIGHT` (the default) and ``DARK``; ranks use
    ``--rank-1`` to ``--rank-4`` (``LIGHT_RANKS`` and ``DARK_RANKS``). The background is transparent, the rest of the
    page is not styled, and ids are unique to the figure. The same figure gives the same text.

    Returns:
        The element, as wide as its container, with ``role="img"`` and the figure's description as ``aria-label``.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA["svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", lambda tag: _with_theme(tag[0]), _with_own_ids(text))
    text = re.sub(r">\s+<", "><", text.strip())
    width, height = (float(size) for size in figure.get_size_inches() * 72)
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(str(figure.get_label()) or "figure")}" viewBox="0 0 {width:g} {height:g}" '
        f'style="width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt">'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: start, text)


def _with_theme(tag: str) -> str:
    """Replace the fixed colours and fonts of a tag by those of the page."""
    # Older versions of matplotlib write one "font" property, newer ones write size, weight and family separately.
    tag = re.sub(r"font: (?:(bold|700) )?(?:\w+ )*([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", tag)
    tag = re.sub(r"font-family: [^;\"]*;?|font-weight: ;", "", tag).replace(INK, "currentColor")
    for name, colours in (("series", LIGHT), ("rank", LIGHT_RANKS)):
        for number, colour in enumerate(colours, start=1):
            tag = tag.replace(colour, f"var(--{name}-{number}, {colour})")
    return tag


def _with_own_ids(text: str) -> str:
    """Make referenced ids unique to the figure, and remove all other ids."""
    key = "f" + hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in used else "", text)
    return re.sub(r'(url\(|href=")#', rf"\1#{key}-", text)
