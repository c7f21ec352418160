"""What logins taught, kept for the next start: one file that only its owner can read.

The keys in it are those of home agents, good until the ticket of theirs expires. They are as
secret as the profile; a profile that is locked by a password keeps nothing on disk.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant

FILE: Final = "credentials.json"
MAX_OCTETS: Final = 256 * 1024
MAX_CREDENTIALS: Final = 64
MAX_TICKET_OCTETS: Final = 4096


class CredentialStore:
    """The file ``credentials.json`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / FILE

    def load(self, now: float) -> tuple[MobilityCredential, ...]:
        """What is kept and still good at ``now`` (wall clock); nothing when it cannot be read.

        A damaged file is as good as none: the next login teaches everything again.
        """
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    return ()
                found = json.loads(file.read(MAX_OCTETS))
            kept = tuple(_read(one) for one in found["credentials"][:MAX_CREDENTIALS])
        except (OSError, ValueError, TypeError, KeyError, binascii.Error):
            return ()
        return tuple(one for one in kept if one.expires_at > now)

    def keep(self, credentials: Iterable[MobilityCredential]) -> None:
        """Write them down in place of what is there. Raises OSError."""
        text = json.dumps({"credentials": [_written(one) for one in credentials]}, indent=1)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_name(f".{FILE}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)
        new.replace(self.path)

    def forget(self) -> None:
        """Remove the file. Raises OSError."""
        self.path.unlink(missing_ok=True)


def _written(one: MobilityCredential) -> dict[str, object]:
    grant = one.grant
    return {
        "inside": grant.inside,
        "home_agent": str(grant.home_agent),
        "home_address": str(grant.home_address),
        "home_network": str(grant.home_network),
        "spi": one.spi,
        "key": base64.b64encode(one.key).decode(),
        "ticket": base64.b64encode(one.ticket).decode(),
        "expires_at": one.expires_at,
    }


def _read(kept: dict[str, Any]) -> MobilityCredential:
    grant = MobilityGrant(
        inside=kept["inside"] is True,
        home_agent=IPv4Address(kept["home_agent"]),
        home_address=IPv4Address(kept["home_address"]),
        home_network=IPv4Network(kept["home_network"]),
    )
    key, ticket = (base64.b64decode(kept[name], validate=True) for name in ("key", "ticket"))
    spi = int(kept["spi"])
    if spi < 256 or not 16 <= len(key) <= 64 or len(ticket) > MAX_TICKET_OCTETS:
        raise ValueError("no credential")
    return MobilityCredential(grant, spi, key, ticket, float(kept["expires_at"]))
