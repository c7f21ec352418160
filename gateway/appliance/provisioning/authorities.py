"""CAs, certificates and their revocation."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from gateway.appliance.administration.side import Handler
from gateway.appliance.provisioning import force, views
from gateway.appliance.provisioning.keeping import Keeping
from gateway.appliance.provisioning.publishing import Publication
from gateway.appliance.provisioning.registry import Registry
from gateway.config.provisioned import provisioned_files
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.provisioning import ca
from gateway.provisioning.crl import Reason
from gateway.store.certificates import CertificateRepository, StoredCertificate
from gateway.store.errors import NotThereError, StoreError


class Authorities:
    """Every handler raises :class:`ControlError`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handlers(self) -> Mapping[str, Handler]:
        """By the operation's name."""
        return {
            "ca": self._ca,
            "ca-create": self._create,
            "ca-import": self._import,
            "crl": self._crl,
            "certificates": self._list,
            "certificate-revoke": self._revoke_one,
            "device-revoke": self._revoke_device,
        }

    async def _ca(self, _request: Request) -> object:
        """What there is."""
        if not self._registry.surroundings.config().provisioning.enabled:
            return views.no_ca()
        return await self._registry.keep(views.ca_view)

    async def _create(self, request: Request) -> object:
        """A new CA."""
        name, kind = str(request.text("name")), ca.KeyKind(str(request.text("algorithm")))

        def work(keeping: Keeping) -> Publication:
            keeping.create_authority(name, kind)
            return keeping.ensure(new_crl=True)

        return await self._change_ca(work)

    async def _import(self, request: Request) -> object:
        """A CA of others."""
        certificate, key = str(request.text("certificate")).encode(), request.text("key")

        def work(keeping: Keeping) -> Publication:
            keeping.import_authority(certificate, None if key is None else key.encode())
            return keeping.ensure(new_crl=True)

        return await self._change_ca(work)

    async def _change_ca(self, work: "Callable[[Keeping], Publication]") -> object:
        async with self._registry.one:
            await self._registry.publish(await self._registry.keep(work))
            found = await self._registry.keep(views.ca_view)
        titles = [str(one["title"]) for one in found["authorities"]]
        return {**found, "_audit": {"target": "ca", "after": {"authorities": titles}}}

    async def _crl(self, _request: Request) -> object:
        """The list in force."""

        def work(keeping: Keeping) -> tuple[int, float]:
            return keeping.crl_state()

        number, next_update = await self._registry.keep(work)
        files = provisioned_files(self._registry.surroundings.config())
        try:
            pem = b"" if files is None else await asyncio.to_thread(files.crl.read_bytes)
        except OSError as error:
            raise ControlError(ErrorCode.REFUSED, f"the CRL cannot be read: {error}") from None
        rows = await self._registry.certificates(lambda c: c.find(revoked=True))
        now = self._registry.surroundings.wall_clock()
        count = sum(1 for row in rows if row.purpose != "ca" and row.not_after > now)
        return {
            "number": number,
            "entries": count,
            "next_update": next_update,
            "pem": pem.decode(),
        }

    async def renew(self) -> None:
        """What is due by itself. Never raises."""
        try:
            async with self._registry.one:
                await self._registry.publish(
                    await self._registry.keep(lambda keeping: keeping.ensure())
                )
        except (ControlError, StoreError) as error:
            text = f"certificates could not be renewed: {error}"
            force.warn(self._registry.surroundings, "renewal_failed", text)

    async def _list(self, request: Request) -> object:
        """A page of them."""
        limit, cursor = request.number("limit"), request.text("cursor")
        device, purpose = request.text("device"), request.text("purpose")
        revoked = request.arguments.get("revoked")
        after = _position(cursor)

        def work(found: CertificateRepository) -> tuple[tuple[StoredCertificate, ...], int]:
            page = found.find(
                purpose=purpose,
                device=device,
                revoked=revoked if isinstance(revoked, bool) else None,
                limit=limit + 1,
                after=after,
            )
            return page, found.count(purpose=purpose, device=device)

        rows, total = await self._registry.certificates(work)
        more = len(rows) > limit
        shown = rows[:limit]
        return {
            "items": [views.certificate_view(row) for row in shown],
            "next": _cursor(shown[-1]) if more else None,
            "total": total,
        }

    async def _revoke_one(self, request: Request) -> object:
        """Revoke one."""
        serial, reason = str(request.text("serial")), Reason(str(request.text("reason")))
        async with self._registry.one:
            try:
                row = await self._registry.certificates(lambda c: c.get(serial))
            except NotThereError:
                why = f"there is no certificate {serial}"
                raise ControlError(ErrorCode.NOT_FOUND, why, "serial") from None
            if row.purpose != "device":
                why = "only certificates of devices are revoked; make a new CA with `ca-create`"
                raise ControlError(ErrorCode.REFUSED, why, "serial")
            ended = await self.revoke([replace(row, key=None)], reason)
        return {
            "serial": serial,
            "sessions_ended": ended,
            "_audit": {"target": f"certificates/{serial}", "after": {"reason": reason.value}},
        }

    async def _revoke_device(self, request: Request) -> object:
        """Revoke all of a device's."""
        name = str(request.text("name"))
        async with self._registry.one:
            rows = await self.valid(name)
            if not rows:
                why = f"device {name} has no valid certificate; block it to keep it out"
                raise ControlError(ErrorCode.REFUSED, why, "name")
            ended = await self.revoke(rows, Reason.PRIVILEGE_WITHDRAWN)
            await self._registry.void_links(name)
        serials = [row.serial for row in rows]
        return {
            "device": name,
            "revoked": serials,
            "sessions_ended": ended,
            "_audit": {"target": f"devices/{name}", "after": {"revoked": serials}},
        }

    async def forget_device(self, name: str) -> None:
        """A device was removed. Never raises."""
        try:
            async with self._registry.one:
                rows = await self.valid(name)
                if rows:
                    await self.revoke(rows, Reason.CESSATION)
                await self._registry.void_links(name)
        except (ControlError, StoreError) as error:
            text = f"certificates of {name}, which was removed, could not be revoked: {error}"
            force.warn(self._registry.surroundings, "revocation_failed", text, device=name)

    async def valid(self, device: str) -> list[StoredCertificate]:
        """Certificates of a device that count."""
        now = self._registry.surroundings.wall_clock()
        rows = await self._registry.certificates(lambda c: c.find(device=device, revoked=False))
        return [row for row in rows if row.purpose == "device" and row.not_after > now]

    async def revoke(self, rows: list[StoredCertificate], reason: Reason) -> int:
        """In the store, in the CRL, in the engine; then sessions end. How many did."""
        store, at = self._registry.store, self._registry.surroundings.wall_clock()
        beyond = await self._registry.keep(lambda k: k.beyond_us(row.pem for row in rows))

        def work(connection: Connection) -> None:
            certificates = CertificateRepository(connection, store.sealer)
            for row in rows:
                certificates.revoke(row.serial, at, reason.value)

        await store.run(work)
        await self._registry.publish(
            await self._registry.keep(lambda keeping: keeping.ensure(new_crl=True))
        )
        ended = 0
        for identity in dict.fromkeys(row.identity for row in rows):
            why = "its certificate was revoked"
            ended += await force.end_sessions(self._registry.surroundings, identity, why)
        for row in rows:
            text = f"certificate {row.serial} of {row.device or row.identity} is revoked"
            fields = {"serial": row.serial, "device": row.device, "reason": reason.value}
            force.tell(self._registry.surroundings, "certificate_revoked", text, **fields)
            if row.pem in beyond:
                text = (
                    f"certificate {row.serial} of {row.device or row.identity} is of a CA whose key"
                    " is not here, so it still opens a session: block the device, and revoke the"
                    " certificate at its CA"
                )
                force.warn(self._registry.surroundings, "revocation_elsewhere", text, **fields)
        return ended


def _cursor(row: StoredCertificate) -> str:
    return f"{round(row.issued_at * 1e6):x}_{row.serial}"[:57]


def _position(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    at, _, serial = cursor.partition("_")
    try:
        return int(at, 16) / 1e6, serial
    except ValueError:
        why = "cursor: is not the `next` of a page before"
        raise ControlError(ErrorCode.INVALID, why, "cursor") from None
