"""Plugins that are broken, contested or unfinished: only who uses them is told, and told everything."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed
from pathlib import Path

import pytest
from tiny_methods import plant

from compressor import registry
from compressor.errors import PluginError, UsageError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a stranger's distribution: a module, and a ``dist-info`` folder with its entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def made(package: str, code: str, *, group: str = registry.METHODS, **names: str) -> None:
        (site / f"{package}.py").write_text(textwrap.dedent(code))
        info = site / f"{package}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        lines = [f"{name} = {value}" for name, value in names.items()]
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")
        registry.forget()

    return made


FINE = """
    from dataclasses import dataclass
    from compressor.distiller import Distiller

    @dataclass(frozen=True)
    class NoConfig:
        pass

    class Fine(Distiller[NoConfig]):
        name = "fine"
        Config = NoConfig
        def terms(self, batch, student, teacher):
            return {"zero": student.logits.sum() * 0}
"""


def test_plugin_of_a_stranger_is_found_with_its_package(install: Install) -> None:
    install("stranger_fine", FINE, fine="stranger_fine:Fine")
    [entry] = registry.names(registry.METHODS)["fine"]
    assert (entry.value, entry.package) == ("stranger_fine:Fine", "stranger_fine 2.5")
    assert registry.load_method("fine").name == "fine"


def test_shipped_methods_come_through_the_same_door() -> None:
    names = registry.names(registry.METHODS)
    assert {"scratch", "kd", "fitnet", "crd", "sskd"} <= names.keys()
    for name in ("scratch", "kd", "fitnet", "crd", "sskd"):
        assert registry.load_method(name).name == name


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("this is no python", "SyntaxError: "),
        ("x = 1", "AttributeError: module 'stranger_broken' has no attribute 'Broken'"),
    ],
)
def test_plugin_that_cannot_be_imported_names_package_version_and_cause(
    code: str, fault: str, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "stranger_broken", raising=False)
    install("stranger_broken", code, broken="stranger_broken:Broken")
    with pytest.raises(PluginError) as caught:
        registry.load_method("broken")
    text = str(caught.value)
    assert text.startswith(f"method 'broken' (package stranger_broken 2.5) cannot be imported: {fault}")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "compress plugins check broken"
    assert registry.load_method("kd").name == "kd"  # nobody else's business


def test_ctrl_c_while_a_plugin_is_imported_is_not_swallowed(install: Install) -> None:
    install("stranger_slow", "raise KeyboardInterrupt", slow="stranger_slow:Slow")
    with pytest.raises(KeyboardInterrupt):
        registry.load_method("slow")


def test_name_claimed_twice_names_both_and_breaks_only_itself(install: Install) -> None:
    install("stranger_kd", FINE, kd="stranger_kd:Fine")
    with pytest.raises(PluginError) as caught:
        registry.load_method("kd")
    text = str(caught.value)
    assert "method 'kd' is claimed by" in text
    assert "stranger_kd 2.5 (stranger_kd:Fine)" in text
    assert "compress-kd" in text
    assert caught.value.hint == "uninstall one of them"
    assert registry.load_method("scratch").name == "scratch"


def test_same_distribution_found_twice_on_the_path_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*, group: str) -> list[EntryPoint]:
        return [*installed(group=group), *installed(group=group)]

    monkeypatch.setattr(registry, "installed", twice)
    registry.entry_points.cache_clear()
    assert len(registry.names(registry.METHODS)["kd"]) == 1
    assert registry.load_method("kd").name == "kd"


def test_unfinished_method_is_told_every_fault_at_once(install: Install) -> None:
    code = """
        from compressor.distiller import Distiller

        class Half(Distiller[dict]):
            name = "other"
            Config = dict
            needs = "stages"
            contract_version = 99
    """
    install("stranger_half", code, half="stranger_half:Half")
    with pytest.raises(PluginError) as caught:
        registry.load_method("half")
    text = str(caught.value)
    for fault in (
        "package stranger_half 2.5",
        "its `name` is 'other', its entry point 'half'",
        "it is written for contract 99, this is 1",
        "its `Config` must be a frozen dataclass",
        "its `needs` must be a Needs(...)",
        "`terms` is not written",
    ):
        assert fault in text


@pytest.mark.parametrize("code", ["Loose = 3", "def Loose(config, pair): ...", "class Loose: ..."])
def test_what_is_no_distiller_is_refused(code: str, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stranger_loose", raising=False)
    install("stranger_loose", code, loose="stranger_loose:Loose")
    with pytest.raises(PluginError, match=r"must be a subclass of compressor\.distiller\.Distiller"):
        registry.load_method("loose")


def test_settings_that_can_be_changed_are_a_fault(install: Install) -> None:
    install("stranger_soft", FINE.replace("frozen=True", "frozen=False"), fine="stranger_soft:Fine")
    with pytest.raises(PluginError, match="its `Config` must be a frozen dataclass"):
        registry.load_method("fine")


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no method named 'sskdd'") as caught:
        registry.load_method("sskdd")
    assert str(caught.value.hint).startswith("did you mean sskd")
    assert caught.value.code == "method.unknown"
    with pytest.raises(UsageError, match="no architecture named 'cifar_resnet9'") as other:
        registry.load(registry.ARCHITECTURES, "cifar_resnet9", kind="architecture")
    assert "cifar_resnet" in str(other.value.hint)


def test_planted_methods_are_gone_after_their_test(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, silent="tiny_methods:Silent")
    assert "silent" in registry.names(registry.METHODS)
    monkeypatch.undo()
    registry.entry_points.cache_clear()
    assert "silent" not in registry.names(registry.METHODS)


def test_listing_names_imports_neither_plugins_nor_torch() -> None:
    code = (
        "import sys; from compressor import registry;"
        "names = [*registry.names(registry.METHODS), *registry.names(registry.ARCHITECTURES)];"
        "print(len(names) > 20, sorted({'torch', 'timm', 'compressor_plugins', 'compressor_zoo'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True []"
