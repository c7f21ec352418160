"""``gateway run``, kept free of typer and rich: what it imports stays in memory for good."""

from pathlib import Path

from gateway.cli.failure import guarded

DEFAULT_CONFIG = Path("/etc/gateway/gateway.toml")


def config_of(arguments: list[str], environment_value: str | None) -> Path | None:
    """The configuration that plain ``run`` arguments name, None when they need a full parser."""
    match arguments:
        case []:
            return Path(environment_value) if environment_value else DEFAULT_CONFIG
        case ["--config" | "-c", file] if file and not file.startswith("-"):
            return Path(file)
        case [option] if option.startswith("--config=") and len(option) > len("--config="):
            return Path(option.removeprefix("--config="))
    return None


def run(config: Path) -> int:
    """Start the appliance in the foreground; returns its exit status."""

    def start() -> int:
        from gateway.appliance import run as run_appliance  # noqa: PLC0415 - only when needed

        return run_appliance(config)

    return guarded(start)
