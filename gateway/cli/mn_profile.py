"""``gateway mn profile``: the example, and secrets under a password."""

import json
import os
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import exits

if TYPE_CHECKING:
    from gateway.config.profile import HomeAgentPart, LoginPart, Profile


def example_text() -> str:
    """The annotated example that ships with the package."""
    return (resources.files("gateway.config") / "profile_example.toml").read_text("utf-8")


def example() -> int:
    """Print the example."""
    print(example_text(), end="")
    return exits.OK


class _Found:
    """Secrets to seal, and what to do with where they stood."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.lines: list[str] = []
        """Keys of the profile to remove."""
        self.files: list[Path] = []

    def add(self, key: str, text: str, line: str, file: Path | None) -> None:
        self.secrets[key] = text
        self.lines.append(line)
        if file is not None:
            self.files.append(file)


def seal(path: Path, password: str) -> int:
    """Write the secrets of a profile, sealed, beside it; say what to remove.

    Raises ConfigError for a profile that cannot be used, and ValueError where there is nothing to
    seal or the password is not one.
    """
    from gateway.config.profile import load_profile  # noqa: PLC0415 - costs cryptography
    from gateway.config.profile_sealing import Sealed  # noqa: PLC0415

    profile = load_profile(path, with_files=False)
    found = secrets_of(profile, password)
    if not found.secrets:
        raise ValueError(f"{path.name} names no secret; there is nothing to seal")
    target = profile.sealed or path.with_suffix(".sealed")
    _write(target, f"{Sealed.of(found.secrets, password, secrets.token_bytes)}\n")
    print(f"Sealed into {target}: {', '.join(sorted(found.secrets))}.")
    remove = [line for line in found.lines if line]
    if remove:
        print(f"In {path}, remove: {', '.join(remove)}.")
    if profile.sealed is None:
        print(f'In [login] of {path}, add: sealed = "{target.name}"')
    for file in found.files:
        print(f"Remove {file} where nothing else needs it: shred -u {file}")
    print("Then: gateway mn check, start the node, and gateway mn unlock.")
    return exits.OK


def secrets_of(profile: "Profile", password: str) -> _Found:
    """Every secret of a profile; those that are sealed already are opened and kept.

    Raises ConfigError where a file cannot be read, WrongPasswordError for what is sealed.
    """
    from gateway.config.to_node import unlock  # noqa: PLC0415 - costs cryptography

    found = _Found()
    if profile.sealed is not None and profile.sealed.exists():
        found.secrets.update(unlock(profile, password).secrets)
    if profile.login is not None:
        _of_login(profile.path, profile.login, found)
    for key, part in (("inside", profile.inside), ("outside", profile.outside)):
        _of_home_agent(profile.path, key, part, found)
    return found


def _of_login(path: Path, login: "LoginPart", found: _Found) -> None:
    from gateway.config.credential_files import read_file, read_secret  # noqa: PLC0415

    for name in ("psk", "password"):
        inline, file = getattr(login, name), getattr(login, f"{name}_file")
        if inline is not None:
            found.add(f"login.{name}", inline.get_secret_value(), f"login.{name}", None)
        elif file is not None:
            key = f"login.{name}_file"
            found.add(f"login.{name}", _read(path, key, file, read_secret), key, file)
    if login.private_key is not None:
        key, file = "login.private_key", login.private_key
        found.add(key, _read(path, key, file, lambda one: read_file(one).decode()), key, file)
    if login.ppk_file is not None:
        key, file = "login.ppk_file", login.ppk_file
        found.add("login.ppk", _read(path, key, file, read_secret), key, file)


def _of_home_agent(path: Path, key: str, part: "HomeAgentPart", found: _Found) -> None:
    from gateway.config.credential_files import read_secret  # noqa: PLC0415

    if part.key is not None:
        found.add(f"{key}.key", part.key.get_secret_value(), f"{key}.key", None)
    elif part.key_file is not None:
        where = f"{key}.key_file"
        found.add(
            f"{key}.key", _read(path, where, part.key_file, read_secret), where, part.key_file
        )


def _read(path: Path, key: str, file: Path, reader: Callable[[Path], str]) -> str:
    from gateway.config.credential_files import FileRefusedError  # noqa: PLC0415
    from gateway.config.problem import ConfigError, Problem, shown  # noqa: PLC0415

    try:
        return reader(file)
    except (FileRefusedError, UnicodeDecodeError) as error:
        why = "is no PEM text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigError([Problem(path, key, why, shown(file))]) from None


def _write(path: Path, text: str) -> None:
    """The file as a whole or not at all, readable by its owner only."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def show(path: Path, *, as_json: bool) -> int:
    """Print what is in force."""
    from gateway.cli.config import as_toml, plain  # noqa: PLC0415
    from gateway.config.profile import load_profile  # noqa: PLC0415

    tables = plain(load_profile(path, with_files=False))
    if not isinstance(tables, dict):
        raise TypeError("a profile is a table")
    print(json.dumps(tables, indent=2) if as_json else as_toml(tables), end="\n" if as_json else "")
    return exits.OK
