"""How the API process is started, and as whom."""

import os
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
        config.api_token_file.absolute(),
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
        "--token-file",
        str(config.api_token_file),
        "--lifeline",
    )
    if account is None:
        return ApiCommand(argv, environment)
    groups = (control_group,) if control_group is not None else ()
    return ApiCommand(argv, environment, account.uid, account.gid, groups)
