"""What the pages claim is what the tests, the recipes and the packages hold."""

import ast
import re

import pytest
from docs_pages import DOCS, ROOT

from compressor.config.recipes import all_recipes

_PUBLISHED = re.compile(r"teacher ([\d.]+), student alone ([\d.]+), SSKD ([\d.]+)\.")


def claimed_tests() -> list[tuple[str, str]]:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)


def test_every_promise_names_a_test() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8").partition("## What was tried")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| Claim", "| ---"))]
    assert len(rows) == len(claimed_tests()) >= 50


@pytest.mark.parametrize(("file", "name"), claimed_tests())
def test_the_test_of_a_promise_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def ledger_rows() -> dict[str, list[str]]:
    text = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row[0].startswith("sskd-") and len(row) == 7}


def test_the_ledger_and_the_recipes_agree_on_what_was_published() -> None:
    pairs = {name: recipe for name, recipe in all_recipes().items() if re.fullmatch(r"sskd-\w+-\w+", name)}
    rows = ledger_rows()
    assert set(rows) == set(pairs)
    assert len(rows) == 11
    for name, row in rows.items():
        file = ROOT / "zoo" / "compressor_zoo" / "recipes" / f"{name}.toml"
        found = _PUBLISHED.search(file.read_text(encoding="utf-8"))
        assert found is not None
        assert [row[0], row[1], row[4]] == list(found.groups())


def test_the_baselines_of_the_ledger_are_the_published_ones() -> None:
    # Rows "KD" and "CRD" of the table in SSKD's README, in the ledger's order.
    kd = [74.92, 73.54, 70.66, 73.33, 72.98, 67.37, 67.35, 73.81, 74.07, 74.45, 74.83]
    crd = [76.04, 75.52, 71.68, 75.90, 74.06, 68.49, 70.32, 74.42, 75.46, 75.72, 75.96]
    assert [float(row[2]) for row in ledger_rows().values()] == kd
    assert [float(row[3]) for row in ledger_rows().values()] == crd


def test_a_measured_cell_is_empty_or_gives_its_seeds() -> None:
    for row in ledger_rows().values():
        assert row[5] == "not measured" or re.fullmatch(r"\d\d\.\d\d( ± \d\.\d\d)? \(n = \d+.*\).*", row[5])


def test_the_licence_is_the_one_the_package_names() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_page_names_a_recipe_that_does_not_exist() -> None:
    known = set(all_recipes()) | {"sskd-TEACHER-STUDENT"}
    for page in DOCS.rglob("*.md"):
        told = set(re.findall(r"`(sskd-[\w-]+)`", page.read_text(encoding="utf-8")))
        assert told <= known, page.name
