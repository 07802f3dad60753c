"""Where in a TOML file a setting was written, so that a message can name the line."""

import re

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]")
_ENTRY = re.compile(r"""\s*([\w."' \t-]+?)\s*=""")
_AROUND = re.compile(r"""[\s"']""")


def lines_of(text: str) -> dict[str, int]:
    """Return the line of each dotted key and table, counted from 1; the first one where a name stands twice.

    Good enough for messages: a line inside a text of many lines may be taken for a setting.
    """
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _AROUND.sub("", header[1])
            found.setdefault(table, number)
        elif entry := _ENTRY.match(line):
            key = _AROUND.sub("", entry[1])
            found.setdefault(f"{table}.{key}" if table else key, number)
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """Return the line of a key, or else that of the table around it."""
    while key not in lines and "." in key:
        key = key.rpartition(".")[0]
    return lines.get(key)
