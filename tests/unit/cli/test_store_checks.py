from __future__ import annotations

from pathlib import Path

from gateway.cli.store_checks import store_verdicts
from gateway.config import load


def states(path: Path) -> dict[str, str]:
    return {one.name.split()[0]: one.state for one in store_verdicts(load(path, with_files=False))}


def test_the_store_before_the_first_start_and_after(tmp_path: Path) -> None:
    path, folder = tmp_path / "gateway.toml", tmp_path / "state"
    path.write_text(f'[store]\nstate_dir = "{folder}"\n')
    assert set(states(path).values()) == {"ok"}
    folder.mkdir(mode=0o700)
    (folder / "gateway.sqlite").touch()
    assert states(path)["store.key_file"] == "missing"
    key = folder / "store.key"
    key.touch(mode=0o600)
    assert states(path)["store.key_file"] == "ok"
    key.chmod(0o644)
    assert states(path)["store.key_file"] == "missing"
    folder.chmod(0o777)
    assert states(path)["store.state_dir"] == "warn"


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'[store]\nstate_dir = "{path}"\n')
    assert states(path)["store.state_dir"] == "missing"
