"""A browser that is thrown away, in front of a proxy, as the user at the screen.

It has a profile of its own, without anybody's cookies or passwords, which is removed afterwards.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.cli.failure import complain

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIREFOX = ("firefox", "firefox-esr")
END_S = 5.0
_NO_GROUP = 65534
_FIREFOX_SETTINGS = """\
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", {port});
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", {port});
user_pref("network.proxy.no_proxies_on", "");
user_pref("network.proxy.failover_direct", false);
user_pref("network.trr.mode", 5);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
"""
_KEPT = ("PATH", "LANG", "LC_ALL", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class User:
    """Whose browser it is."""

    uid: int
    gid: int
    name: str
    home: str


def user_of(environment: Mapping[str, str]) -> User:
    """Whoever ran sudo or pkexec as far as that is known, else whoever runs this."""
    uid = os.geteuid()
    if uid == 0:
        for variable in ("SUDO_UID", "PKEXEC_UID"):
            given = environment.get(variable, "")
            if given.isascii() and given.isdigit() and len(given) <= 9:
                uid = int(given)
                break
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, _NO_GROUP, str(uid), "/")
    return User(uid, found.pw_gid, found.pw_name, found.pw_dir)


def display_of(
    user: User, environment: Mapping[str, str], run: Path = Path("/run/user")
) -> dict[str, str]:
    """The variables that lead to the user's screen; empty when there is none."""
    found = {name: environment[name] for name in _KEPT if name in environment}
    runtime = run / str(user.uid)
    with contextlib.suppress(OSError):
        if "WAYLAND_DISPLAY" not in found and (runtime / "wayland-0").is_socket():
            found["WAYLAND_DISPLAY"] = "wayland-0"  # sudo leaves it out
    if not found.get("DISPLAY") and not found.get("WAYLAND_DISPLAY"):
        return {}
    if "WAYLAND_DISPLAY" in found:
        found["XDG_RUNTIME_DIR"] = str(runtime)
    return found | {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}


def command_of(argv: list[str], profile: str, port: int, page: str) -> list[str]:
    """The command line of a browser; of one that is not known the environment names the proxy."""
    name = Path(argv[0]).name
    if name.startswith(("chrom", "google-chrome", "brave", "microsoft-edge", "vivaldi")):
        return [
            *argv,
            f"--user-data-dir={profile}",
            f"--proxy-server=http://127.0.0.1:{port}",
            # Also for what chromium would reach without a proxy.
            "--proxy-bypass-list=<-loopback>",
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-background-networking",
            "--disable-sync",
            "--disable-quic",
            "--new-window",
            page,
        ]
    if name.startswith("firefox"):
        return [*argv, "--no-remote", "--profile", profile, page]
    return [*argv, page]


def _found(path: str | None) -> list[str] | None:
    for name in (*CHROMIUM, *FIREFOX):
        if (found := shutil.which(name, path=path)) is not None:
            return [found]
    return None


class Browser:
    """One that runs, and its profile."""

    def __init__(self, user: User, process: subprocess.Popen[bytes], profile: str) -> None:
        self._user = user
        self._process = process
        self._profile = profile

    @classmethod
    def start(cls, user: User, port: int, page: str, command: str | None) -> Self | None:
        """Start one; None, and why, when there is none or no screen, which is no error."""
        screen = display_of(user, os.environ)
        if command is None and (not screen or user.uid == 0):
            return None  # as root browsers refuse to run, and should not
        try:
            argv = shlex.split(command) if command else _found(screen.get("PATH"))
        except ValueError as error:
            complain(f"--browser: {error}")
            return None
        if not argv:
            return None
        profile = ""
        try:
            with _as_user(user):
                profile = tempfile.mkdtemp(prefix="gateway-portal-", dir=_base(argv[0], user))
                settings = _FIREFOX_SETTINGS.format(port=port)
                (Path(profile) / "user.js").write_text(settings, encoding="ascii")
            process = _spawn(user, command_of(argv, profile, port, page), port, screen)
        except OSError as error:
            complain(f"{argv[0]}: cannot be started: {error.strerror}")
            _remove(user, profile)
            return None
        return cls(user, process, profile)

    @property
    def gone(self) -> bool:
        """Whether it could not stay, or was closed."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Close it, and remove its profile."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                continue
            break
        _remove(self._user, self._profile)


def _spawn(
    user: User, argv: list[str], port: int, screen: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    proxy = f"http://127.0.0.1:{port}"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": user.home} | dict(screen)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        environment[name] = proxy
    quiet = subprocess.DEVNULL
    if os.geteuid() != 0 or user.uid == 0:
        return subprocess.Popen(
            argv, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    return subprocess.Popen(
        argv,
        env=environment,
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
        cwd="/",
        user=user.uid,
        group=user.gid,
        extra_groups=os.getgrouplist(user.name, user.gid),
    )


def _base(program: str, user: User) -> str | None:
    """Where the profile may be: a snap sees only its own folder."""
    real = os.path.realpath(shutil.which(program) or program)
    if real == "/usr/bin/snap" or real.startswith("/snap/"):
        own = Path(user.home) / "snap" / Path(program).name / "common"
        if own.is_dir():
            return str(own)
    return None


def _remove(user: User, profile: str) -> None:
    if profile:
        with _as_user(user):
            shutil.rmtree(profile, ignore_errors=True)


@contextlib.contextmanager
def _as_user(user: User) -> Iterator[None]:
    """What happens in the user's folders happens with the user's rights."""
    if os.geteuid() != 0 or user.uid == 0:
        yield
        return
    before = os.getegid()
    os.setegid(user.gid)
    try:
        os.seteuid(user.uid)
        try:
            yield
        finally:
            os.seteuid(0)
    finally:
        os.setegid(before)


Start = Callable[[User, int, str, str | None], Browser | None]
"""As :meth:`Browser.start`."""
