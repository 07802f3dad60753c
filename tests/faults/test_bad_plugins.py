"""Row P1: a plugin that is broken in any way stops the runs that use it, with its name, and nothing else."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fault_runs import Stage, compare, distill
from hostile_doors import QUICK, Answer, ask, check, report

HEAD = """
    from dataclasses import dataclass
    from torch.nn import functional as F
    from compressor.distiller import Distiller, Needs

    @dataclass(frozen=True)
    class NoConfig:
        pass

    class Method(Distiller[NoConfig]):
        name = "NAME"
        Config = NoConfig
"""


def method(body: str, before: str = "") -> str:
    """Return a module with a method whose ``terms`` has the given body."""
    lines = textwrap.dedent(body).strip().splitlines()
    inner = "\n".join(f"            {line}" for line in lines)
    head = textwrap.dedent(HEAD)
    terms = textwrap.dedent(f"        def terms(self, batch, student, teacher):\n{inner}\n")
    return head + textwrap.indent(textwrap.dedent(before) + terms, "    ")


@dataclass(frozen=True)
class Broken:
    """A plugin's module and the words that tell the user what is wrong with it."""

    code: str
    says: str
    at: str = "import"


PACKAGE = "(package stranger_{} 2.5)"
PLUGINS: Mapping[str, Broken] = {
    "raising": Broken("raise RuntimeError('out of order')", "RuntimeError: out of order"),
    "leaving": Broken("import sys; sys.exit(0)", "SystemExit: 0"),
    "killing": Broken("import os; raise BaseException('gone')", "BaseException: gone"),
    "endless": Broken("while True:\n    pass", "it did not end within 1 seconds"),
    "stubborn": Broken(
        "while True:\n    try:\n        x = 1\n    except Exception:\n        pass", "it did not end within 1 seconds"
    ),
    "syntax": Broken("def (:", "SyntaxError"),
    "absent": Broken("", "AttributeError"),
    "module": Broken("Method = 3", "must be a subclass"),
    "function": Broken("def Method(*_):\n    return None", "must be a subclass"),
    "nameless": Broken(method("return {}").replace('"NAME"', '"other"'), "its `name` is 'other'"),
    "old": Broken(method("return {}", "contract_version = 0\n"), "it is written for contract 0"),
    "unfinished": Broken(textwrap.dedent(HEAD), "`terms` is not written"),
    "needy": Broken(method("return {}", "needs = 3\n"), "its `needs` must be a Needs"),
    "nothing": Broken(method("return {}"), "returned no terms", "run"),
    "list": Broken(method("return [student.logits.sum()]"), "returned a list, not a table", "run"),
    "number": Broken(method("return {'ce': 1.0}"), "term 'ce' is a float", "run"),
    "shapes": Broken(
        method("return {'ce': F.cross_entropy(student.logits, batch.labels, reduction='none')}"),
        "term 'ce' has shape (32,)",
        "run",
    ),
    "detached": Broken(
        method("return {'ce': F.cross_entropy(student.logits, batch.labels).detach()}"),
        "no term of phase 'student' has a gradient",
        "run",
    ),
    "falling": Broken(
        method("return {'ce': student.logits.sum() / (1 / 0)}"),
        "ZeroDivisionError: division by zero (in the plugin stranger_falling 2.5)",
        "run",
    ),
    "greedy": Broken(method("return {'x': student.stages[0].sum()}"), "were read but not served", "run"),
}


def install(site: Path, name: str, code: str, *, entry: str = "") -> None:
    """Install a distribution of one module with one method."""
    package = f"stranger_{name}"
    (site / f"{package}.py").write_text(code.replace("NAME", name))
    info = site / f"{package}-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[compressor.methods]\n{entry or name} = {package}:Method\n")


def test_broken_plugins_stop_the_runs_that_use_them_and_no_others(stage: Stage) -> None:
    place = stage.place()
    site = place / "site"
    site.mkdir()
    for name, broken in PLUGINS.items():
        install(site, name, broken.code)
    install(site, "usurper", method("return {}"), entry="crd")
    cases = [{"label": "plugins list", "arguments": ["plugins", "list"]}]
    cases += [
        {"label": name, "arguments": distill(name, out=f"out-{name}", **QUICK, training__batch_size=32)}
        for name in PLUGINS
    ]
    cases += [
        {"label": "usurper", "arguments": distill("crd", out="out-crd", **QUICK)},
        {"label": "sound", "arguments": distill("kd", out="out-kd", **QUICK)},
        {"label": "check", "arguments": ["plugins", "check", "raising"]},
        {"label": "compare", "arguments": compare("kd,falling,raising", **QUICK)},
        {"label": "list methods", "arguments": ["list", "methods"]},
    ]
    answers = {answer.label: answer for answer in ask(stage, place, cases, site=site, watched=False)}
    broken_runs = [answers[name] for name in PLUGINS]
    report("P1", [*broken_runs, answers["usurper"]])
    names = [broken.says for broken in PLUGINS.values()]
    check(broken_runs, names=names)
    imported = [answers[name] for name, broken in PLUGINS.items() if broken.at == "import"]
    assert [one.label for one in imported if f"(package stranger_{one.label} 2.5)" not in "".join(one.errors)] == []
    _check_others(answers)


def _check_others(answers: Mapping[str, Answer]) -> None:
    """Look at what must work beside broken plugins, and at the one that takes another's name."""
    check([answers[name] for name in ("plugins list", "sound", "list methods")], exits=(0,))
    assert all(f"stranger_{name} 2.5" in answers["plugins list"].said for name in PLUGINS)
    assert answers["usurper"].exit == 3
    assert "method 'crd' is claimed by" in answers["usurper"].errors[0]
    assert "stranger_usurper 2.5" in answers["usurper"].errors[0]
    assert answers["check"].exit == 3
    assert "RuntimeError: out of order" in answers["check"].said
    assert answers["compare"].exit == 5
    assert "out of order" in answers["compare"].said
    assert "division by zero" in answers["compare"].said
