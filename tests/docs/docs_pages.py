"""The pages of the site and what stands in their code blocks."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = "", title: str | None = None) -> list[str]:
    """Return the code blocks of a page, by its path below ``docs/``, with this language and title."""
    text = (DOCS / page).read_text(encoding="utf-8")
    wanted = "" if title is None else f'title="{title}"'
    return [body for kind, more, body in _BLOCK.findall(text) if kind == language and wanted in more]


def written_pages() -> list[Path]:
    """Return every page that a person wrote."""
    return sorted(path for path in DOCS.rglob("*.md") if path.name != "cli.md")


def script(name: str) -> ModuleType:
    """Import a script that lies in ``docs/``, by its name without ending."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
