"""What the built-in CA publishes for connections that name nothing else."""

from dataclasses import dataclass
from pathlib import Path

from gateway.config.document import Config

FOLDER = "ca"


@dataclass(frozen=True, slots=True)
class ProvisionedFiles:
    """Where the files are, whether they are there yet or not."""

    authorities: Path
    """CAs of devices, PEM."""
    certificate: Path
    private_key: Path
    crl: Path

    @classmethod
    def below(cls, state_dir: Path) -> "ProvisionedFiles":
        """In the folder of the state."""
        folder = state_dir / FOLDER
        return cls(
            folder / "ca.pem", folder / "gateway.pem", folder / "gateway.key", folder / "crl.pem"
        )

    def has(self, file: Path) -> bool:
        """Whether it is one of these."""
        return file in {self.authorities, self.certificate, self.private_key, self.crl}


def provisioned_files(config: Config) -> ProvisionedFiles | None:
    """None where ``[provisioning]`` is not enabled."""
    if not config.provisioning.enabled:
        return None
    return ProvisionedFiles.below(config.store.state_dir)


def still_to_be_made(config: Config, file: Path | None) -> bool:
    """Whether a file is one that the gateway makes when it starts, and has not made yet."""
    made = provisioned_files(config)
    return made is not None and file is not None and made.has(file) and not file.exists()
