"""``gateway mn run``, kept free of typer and rich: what it imports stays in memory for good."""

from pathlib import Path

from gateway.cli.failure import guarded

DEFAULT_PROFILE = Path("/etc/gateway-mn/profile.toml")
PROFILE_VARIABLE = "GATEWAY_MN_PROFILE"


def profile_of(arguments: list[str], environment_value: str | None) -> Path | None:
    """The profile that plain ``mn run`` arguments name, None when they need a full parser."""
    match arguments:
        case []:
            return Path(environment_value) if environment_value else DEFAULT_PROFILE
        case ["--profile" | "-p", file] if file and not file.startswith("-"):
            return Path(file)
        case [option] if option.startswith("--profile=") and len(option) > len("--profile="):
            return Path(option.removeprefix("--profile="))
    return None


def run(profile: Path) -> int:
    """Start the mobile node in the foreground; returns its exit status."""

    def start() -> int:
        from gateway.mobile_host import run as run_node  # noqa: PLC0415 - only when needed

        return run_node(profile)

    return guarded(start)
