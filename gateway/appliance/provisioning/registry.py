"""The CA's things as the operations reach them: in the store, in files, in force."""

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from gateway.appliance.provisioning import force
from gateway.appliance.provisioning.keeping import Keeping
from gateway.appliance.provisioning.publishing import Publication
from gateway.appliance.provisioning.wanted import wanted_of
from gateway.config.problem import ConfigError
from gateway.config.provisioned import provisioned_files
from gateway.control.protocol import ControlError, ErrorCode
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.store.certificates import CertificateRepository
from gateway.store.errors import StoreError
from gateway.store.links import LinkRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.administration.side import Surroundings
    from gateway.store.database import Store

T = TypeVar("T")
_OFF = "provisioning is off: set enabled = true in [provisioning] of gateway.toml, and reload"


class Registry:
    """Every method raises :class:`ControlError`. Whoever changes something holds :attr:`one`."""

    def __init__(self, administration: "Administration", surroundings: "Surroundings") -> None:
        self.administration = administration
        self.surroundings = surroundings
        self.one = asyncio.Lock()

    @property
    def store(self) -> "Store":
        """The store."""
        return self.administration.store

    def now(self) -> datetime:
        """By the wall clock."""
        return datetime.fromtimestamp(self.surroundings.wall_clock(), UTC)

    async def certificates(self, work: "Callable[[CertificateRepository], T]") -> T:
        """Look something up."""
        store = self.store
        return await store.run(
            lambda c: work(CertificateRepository(c, store.sealer)), durable=False
        )

    async def keep(self, work: "Callable[[Keeping], T]") -> T:
        """Do something with the CA's things, in one transaction."""
        return await self.keep_with(lambda _connection, keeping: work(keeping))

    async def keep_with(self, work: "Callable[[Connection, Keeping], T]") -> T:
        """The same, with the connection."""
        with as_refusals():
            wanted = await asyncio.to_thread(wanted_of, self.surroundings.config())
            if wanted is None:
                raise ControlError(ErrorCode.REFUSED, _OFF)
            store, now = self.store, self.now()
            return await store.run(lambda c: work(c, Keeping(c, store.sealer, wanted, now)))

    async def publish(self, publication: Publication) -> None:
        """Write the files that differ, and use them."""
        try:
            changed = await asyncio.to_thread(publication.write)
        except OSError as error:
            text = f"the CA's files cannot be written: {error}"
            raise ControlError(ErrorCode.REFUSED, text) from None
        files = provisioned_files(self.surroundings.config())
        if files is None or not changed:
            return
        if changed - {files.crl}:
            try:
                await force.use_credentials(self.surroundings)
            except ConfigError as error:
                raise ControlError(ErrorCode.REFUSED, str(error)) from None
        if files.crl in changed:
            await force.use_crl(self.surroundings)
        if files.certificate in changed:
            text = "the gateway has a new certificate"
            force.tell(self.surroundings, "gateway_certificate", text)

    async def void_links(self, device: str) -> None:
        """Links of a device lead nowhere any more."""
        store = self.store
        await store.run(lambda c: LinkRepository(c, store.sealer).delete_of(device))


@contextmanager
def as_refusals() -> "Iterator[None]":
    """What cannot be provisioned, in the words of the control socket."""
    try:
        yield
    except ProvisioningRefusedError as error:
        raise ControlError(ErrorCode.INVALID, str(error), error.field) from None
    except ConfigError as error:
        raise ControlError(ErrorCode.REFUSED, str(error)) from None
    except StoreError as error:
        raise ControlError(ErrorCode.REFUSED, str(error)) from None
