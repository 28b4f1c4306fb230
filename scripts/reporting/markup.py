# SPDX-License-Identifier: Apache-2.0
"""HTML that cannot be broken by a name: whatever is not Markup already is escaped."""

import html
from pathlib import Path

from shared.command_line import printable

STYLE = Path(__file__).with_name("style.css")
VOID = ("meta", "img", "br")
# Even if a name got past the escaping: no script runs, and nothing is fetched.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


NEWLINE = Markup("\n")  # which escape() would make visible


def escape(text: str) -> Markup:
    """Any text, control characters and bytes that are no UTF-8 among it, as HTML."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def element(name: str, /, *content: str, **attributes: object) -> Markup:
    """<name attributes>content</name>; `class_` stands for class, `stroke_width` for stroke-width."""
    words = [f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()]
    start = f"<{name}{''.join(words)}>"
    return Markup(start if name in VOID else f"{start}{join(*content)}</{name}>")


def join(*parts: str) -> Markup:
    return Markup("".join(map(escape, parts)))


def page(title: str, *content: str) -> Markup:
    """A whole document."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    ]
    body = element("main", *(join(part, NEWLINE) for part in content))
    return Markup(f"<!DOCTYPE html>\n{element('html', element('head', *head), element('body', body), lang='en')}\n")


def paragraph(*content: str, **attributes: object) -> Markup:
    return element("p", *content, **attributes)


def section(title: str, *content: str) -> Markup:
    return element("section", element("h2", title), *content)


def table(heads: list[str], rows: list[list[str]], label: str, numeric_from: int) -> Markup:
    """A table that scrolls within itself. `numeric_from`: the first column of numbers."""

    def cell(kind: str, column: int, content: str, **attributes: object) -> Markup:
        if column >= numeric_from:
            attributes["class_"] = "number"
        return element(kind, content, **attributes)

    head = element("tr", *(cell("th", column, text, scope="col") for column, text in enumerate(heads)))
    body = [element("tr", *(cell("td", column, text) for column, text in enumerate(row))) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *(join(row, NEWLINE) for row in body)))
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=label)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
