"""The page of measurements is what the files of the benchmarks say."""

from docs_pages import DOCS

from benchmarks.page import NOT_MEASURED, page
from benchmarks.targets import TARGETS, Target, measured, reasons, results

STEP = Target("a step", "steps", "kd a:b", 1.5)
WHERE = {"machine": "m", "threads": 2, "python": "3", "torch": "2", "timm": "1", "commit": "abc"}


def test_page_is_generated_from_the_results() -> None:
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == page(results(), reasons())


def test_every_target_names_a_measured_case_or_is_told_as_not_measured() -> None:
    found = results()
    written = (DOCS / "performance.md").read_text(encoding="utf-8")
    for target in TARGETS:
        line = next(line for line in written.splitlines() if line.startswith(f"| {target.words} |"))
        value = measured(target, found)
        assert (NOT_MEASURED in line) == (value is None)
        assert value is None or f"{value:.2f}" in line


def test_what_is_not_reached_says_so_with_its_reason() -> None:
    target = TARGETS[0]
    row = {"case": target.case, "ratio": target.bound - 0.1, "memory_ratio": 1.2}
    written = page({"steps": {"rows": [row], "where": WHERE}}, {target.words: "a reason"})
    assert f"| at least {target.bound:g} | {target.bound - 0.1:.2f} | not reached: a reason |" in written
    better = page({"steps": {"rows": [row | {"ratio": target.bound}], "where": WHERE}}, {})
    assert f"| {target.bound:.2f} | reached |" in better


def test_a_bound_is_met_by_what_is_shown() -> None:
    assert STEP.reached(1.496)
    assert not STEP.reached(1.494)
    most = Target("seconds", "startup", "x", 0.35, least=False)
    assert most.reached(0.354)
    assert not most.reached(0.356)


def test_every_reason_belongs_to_a_target_that_is_not_reached() -> None:
    found = results()
    by_words = {target.words: target for target in TARGETS}
    for words in reasons():
        value = measured(by_words[words], found)
        assert value is not None
        assert not by_words[words].reached(value)
