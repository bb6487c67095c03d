"""Importing, checking and asking for help are instant: torch waits until something is built."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fusion_engine

TABLE: dict[str, str] = vars(fusion_engine)["_MODULE_OF"]
GROUPS: dict[str, str] = vars(fusion_engine)["_WHERE"]
PUBLIC: list[str] = vars(fusion_engine)["__all__"]
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fusion_engine"
HEAVY = ["torch", "numpy", "timm", "transformers", "sklearn", "torchvision", "torchaudio", "lightning_fabric"]
HEAVY += ["matplotlib", "PIL", "scipy", "safetensors"]
STEPS = """
import json, sys
def heavy(): return sorted(set({heavy}) & set(sys.modules))
said = {{}}
import fusion_engine
said["import"] = heavy()
engine = fusion_engine.Engine()
said["engine"] = heavy()
wiring = engine.check({config!r})
said["check"] = heavy()
from fusion_engine.report.drawing import as_mermaid, as_text
as_text(wiring), as_mermaid(wiring)
said["draw"] = heavy()
from fusion_engine.cli import main
for arguments in (["--help"], ["train", "--help"], ["plugins", "--json"], ["draw", {config!r}], ["draw", "nowhere"]):
    try:
        main(arguments)
    except SystemExit as end:
        said[" ".join(arguments)] = [end.code, heavy()]
print(json.dumps(said))
"""


def test_nothing_heavy_is_imported_until_something_is_built() -> None:
    config = str(ROOT / "examples" / "digits_vae_gan.yaml")
    code = STEPS.format(heavy=HEAVY, config=config)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert {step: said.pop(step) for step in ("import", "engine", "check", "draw")} == {
        "import": [],
        "engine": [],
        "check": [],
        "draw": [],
    }
    assert said.pop("draw nowhere") == [2, []]
    assert said
    assert all(value == [0, []] for value in said.values()), said
    assert "Usage" in done.stdout
    assert "the file nowhere cannot be read" in done.stderr


# The public names


def stub() -> dict[str, str]:
    """Names that the stub imports, and from where."""
    found = {}
    for line in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        if isinstance(line, ast.ImportFrom):
            for alias in line.names:
                assert alias.asname == alias.name, f"{alias.name} is not public without 'as {alias.name}'"
                found[alias.name] = str(line.module)
    return found


def test_the_stub_and_the_lazy_table_name_the_same() -> None:
    assert stub() == TABLE


def test_every_public_name_can_be_imported() -> None:
    for name, module in TABLE.items():
        value = getattr(fusion_engine, name)
        assert value is getattr(import_module(module), name)
        assert name in dir(fusion_engine)
    assert dir(fusion_engine) == PUBLIC
    assert fusion_engine.__version__


def test_no_name_stands_twice() -> None:
    listed = [name for names in GROUPS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert all(names.split() == sorted(names.split()) for names in GROUPS.values())


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fusion_engine' has no attribute 'Egnine'"):
        _ = fusion_engine.Egnine  # type: ignore[attr-defined]


def test_a_wrong_wiring_is_refused_on_the_command_line_without_torch(tmp_path: Path) -> None:
    text = (
        (ROOT / "examples" / "digits_vae_gan.yaml").read_text(encoding="utf-8").replace("score: disc,", "score: dics,")
    )
    config = tmp_path / "wrong.yaml"
    config.write_text(text, encoding="utf-8")
    code = (
        "import sys\nfrom fusion_engine.cli import main\n"
        f"try:\n    main(['train', {str(config)!r}])\n"
        "except SystemExit as stop:\n    print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["2", "False"]
    assert "did you mean 'disc'?" in done.stderr
