"""Before the configuration's files are read: those that the CA makes are there."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem

if TYPE_CHECKING:
    from gateway.store.database import Store


def prepare(store: "Store", config: Config) -> None:
    """Make the CA, the gateway's certificate and the CRL where they are missing or due.

    ``config`` was loaded without its files. Waits for the disk: call it before the event loop
    runs, or in a thread. A store that cannot be changed leaves the files of the last start as they
    are. Raises :class:`ConfigError` where the files cannot be written.
    """
    if not config.provisioning.enabled:
        return
    from gateway.appliance.provisioning.keeping import Keeping  # noqa: PLC0415 - costs SQLAlchemy
    from gateway.appliance.provisioning.wanted import wanted_of  # noqa: PLC0415
    from gateway.provisioning.problem import ProvisioningRefusedError  # noqa: PLC0415
    from gateway.store.errors import StoreError  # noqa: PLC0415

    wanted = wanted_of(config)
    if wanted is None:
        return
    now = datetime.now(UTC)
    try:
        publication = store.submit(
            lambda connection: Keeping(connection, store.sealer, wanted, now).ensure()
        ).result()
        publication.write()
    except StoreError:
        return  # the store told why; what is missing now, the reader of the files will name
    except ProvisioningRefusedError as error:
        key = f"provisioning.ca_{error.field}"
        raise ConfigError([Problem(config.path, key, error.why)]) from None
    except OSError as error:
        why = f"the CA's files cannot be written: {error}"
        raise ConfigError([Problem(config.path, "store.state_dir", why)]) from None
