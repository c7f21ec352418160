"""The command ``gateway``. Importing this costs nothing: each command imports what it needs."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the console script."""
    # Looking for pydantic's plugins reads the metadata of every package: time and a megabyte.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        from gateway.cli.run import config_of, run  # noqa: PLC0415

        config = config_of(arguments[1:], os.environ.get("GATEWAY_CONFIG"))
        if config is not None:
            sys.exit(run(config))
    if arguments[:2] == ["mn", "run"]:
        from gateway.cli import mn_run  # noqa: PLC0415

        profile = mn_run.profile_of(arguments[2:], os.environ.get(mn_run.PROFILE_VARIABLE))
        if profile is not None:
            sys.exit(mn_run.run(profile))
    from gateway.cli.commands import app  # noqa: PLC0415

    app(prog_name="gateway")
    sys.exit(0)
