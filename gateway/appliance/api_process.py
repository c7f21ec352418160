"""How the API process is started, and as whom."""

import os
import stat
import sys
from pathlib import Path

from gateway.appliance.accounts import Account, api_account, out_of_reach
from gateway.appliance.keeper import ApiCommand
from gateway.config.document import Config
from gateway.domain.log import Log

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def account_for_api(config: Config, log: Log) -> Account | None:
    """The account that the API process changes to, or None when it keeps ours.

    A user that may not even enter the folders that the API is started from is no use: the API
    then keeps our user, without capabilities, and the log says what to do about it.
    """
    account = api_account(config.api.user, config.path)
    if account is None:
        return None
    needed = (
        Path(sys.executable),
        Path(__file__),
        config.control_socket.absolute(),
        *(file.absolute() for file in (config.api.certificate, config.api.private_key) if file),
    )
    barred = out_of_reach(needed, account)
    if barred is None:
        return account
    log.warning(
        "api_user_barred",
        text=f"[api] user {config.api.user} may not enter {barred}, so the API runs as root,"
        " without capabilities: install the gateway where everybody may read, as in /opt",
    )
    return None


def api_command(config: Config, account: Account | None, control_group: int | None) -> ApiCommand:
    """The command line, environment and account of the API process."""
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_PACKAGE_PARENT),
        "PYTHONUNBUFFERED": "1",
    }
    argv = (
        sys.executable,
        "-P",  # the directory we were started in is nobody's business
        "-m",
        "gateway.api",
        "--control",
        str(config.control_socket),
        "--listen",
        str(config.api.listen),
        *(part for name in config.api.names for part in ("--name", str(name))),
        *_tls(config),
        "--lifeline",
    )
    if account is None:
        return ApiCommand(argv, environment)
    groups = (control_group,) if control_group is not None else ()
    return ApiCommand(argv, environment, account.uid, account.gid, groups)


def _tls(config: Config) -> tuple[str, ...]:
    api = config.api
    if not api.tls:
        return ("--no-tls",)
    if api.certificate is not None:
        key = api.private_key or api.certificate
        return ("--certificate", str(api.certificate), "--private-key", str(key))
    return ("--folder", str(api_folder(config)))


def api_folder(config: Config) -> Path:
    """Where the API's own certificate is."""
    return config.store.state_dir / "api"


def make_api_folder(config: Config, account: Account | None, log: Log) -> None:
    """A folder that is the API's user's alone. One that cannot be made is a warning."""
    if not config.api.tls or config.api.certificate is not None:
        return
    folder = api_folder(config)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is not None:
            # Its user may pass through, and read nothing there.
            parent = folder.parent
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
            # Only the folder: what its user puts there may be anything.
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        text = f"[api]: the folder {folder} cannot be made for its certificate: {error.strerror}"
        log.warning("api_folder", text=text)
