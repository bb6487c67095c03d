"""What is installed from a wheel works without the repository: plugins, data, types."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = {path.name.removeprefix("fusion_engine_") for path in (ROOT / "plugins").glob("fusion_engine_*")}
ASK = """
import json, sys
from pathlib import Path
from fusion_engine import Engine

home = Path(sys.argv[1])
engine = Engine()
ours = [info for info in engine.plugins.infos if info.distribution == "fusion-engine"]
said = {"plugins": {info.name: [info.state, info.reason, len(info.components)] for info in ours}}
for name in [component for info in ours for component in info.components]:
    engine.registry.resolve(name).load()
part = {"use": "dataset/digits", "with": {"modalities": ["image", "strokes", "label"]}}
config = engine.recipe_config("vae", {"image": "modality/image"}, data=part)
data = engine.dataset(config)
said["rows"] = [len(data.train) + len(data.validation), len(data.test)]
row = data.test[0]
said["first"] = [list(row["image"].shape), row["strokes"].shape[1], type(row["label"]).__name__]
found = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
said["elsewhere"] = [n for n, f in found.items() if n.startswith("fusion_engine") and not Path(f).is_relative_to(home)]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_a_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(n for n in names if n.endswith(".dist-info/entry_points.txt"))
        told = archive.read(entry_points).decode()
    packages = {"fusion_engine", *(f"fusion_engine_{p}" for p in PLUGINS)}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == packages
    wanted = ["fusion_engine/py.typed", "fusion_engine/__init__.pyi", "fusion_engine/testing/__init__.py"]
    wanted += [f"fusion_engine/report/page.{ending}" for ending in ("html", "css", "js")]
    for name in [*wanted, "fusion_engine_digits/data/embedded_digits.npz", "fusion_engine_digits/data/README.md"]:
        assert name in names
    assert not {name for name in names if name.endswith((".pyc", ".pt", ".safetensors"))}
    assert "fusion-engine = fusion_engine.cli:main" in told
    for plugin in PLUGINS:
        assert f"{plugin} = fusion_engine_{plugin}" in told
    for folder in packages:
        source = ROOT / ("fusion_engine" if folder == "fusion_engine" else f"plugins/{folder}")
        modules = {f"{folder}/{p.relative_to(source).as_posix()}" for p in source.rglob("*.py")}
        assert modules <= names


def test_an_installed_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "FUSION_ENGINE_STRICT": "0"}
    command = [sys.executable, "-W", "error", "-c", ASK, str(site)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["elsewhere"] == []
    assert said["plugins"].keys() == PLUGINS
    assert all(state == "loaded" and count for state, _, count in said["plugins"].values()), said["plugins"]
    assert said["rows"] == [1437, 360]
    assert said["first"] == [[8, 8], 3, "int"]
    assert (site / "bin" / "fusion-engine").exists()
