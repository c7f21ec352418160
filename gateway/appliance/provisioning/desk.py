"""Links to bundles: made, looked at, taken once."""

import base64
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.appliance.access.attempts import WrongCredentials
from gateway.config.document import Config
from gateway.control.protocol import ControlError, ErrorCode
from gateway.control.provisioning_operations import LinkView, TakenView
from gateway.provisioning.setup import Bundle
from gateway.store.database import Store
from gateway.store.errors import StoreError
from gateway.store.links import Link, LinkRepository

TOKEN_OCTETS = 32
PATH = "/d/"
KEEP_DAYS = 30
"""So long it is shown when and from where a link was taken."""
FREE_ATTEMPTS = 10
PER_ATTEMPT_S = 10.0
_GONE = "this link was taken, has expired, or never was: ask for a new one"


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link and what is kept of it."""

    token: str = field(repr=False)
    link: Link

    @property
    def path(self) -> str:
        """Below the REST interface's address."""
        return PATH + self.token


class LinkDesk:
    """Gives bundles out."""

    def __init__(
        self,
        store: Callable[[], Store],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._wrong = WrongCredentials(FREE_ATTEMPTS, PER_ATTEMPT_S)

    def make(self, device: str, bundle: Bundle, minutes: int, by: str) -> MadeLink:
        """A link to a bundle; not stored yet."""
        token = base64.urlsafe_b64encode(self._random(TOKEN_OCTETS)).rstrip(b"=").decode()
        now = self._wall_clock()
        link = Link(
            hash=_digest(token),
            device=device,
            file_name=bundle.file_name,
            media_type=bundle.media_type,
            created_at=now,
            created_by=by[:253],
            expires_at=now + 60.0 * minutes,
            content=bundle.content,
        )
        return MadeLink(token, link)

    async def look(self, token: str, remote: str) -> dict[str, object]:
        """What a link leads to; does not take it. Raises :class:`ControlError`."""
        store, now = self._store(), self._wall_clock()
        found = await store.run(
            lambda c: LinkRepository(c, store.sealer).look(_digest(token), now), durable=False
        )
        if found is None:
            self._wrong.note(remote, self._clock())
            raise ControlError(ErrorCode.NOT_FOUND, _GONE)
        return {
            "device": found.device,
            "file_name": found.file_name,
            "expires_at": found.expires_at,
            "note": note_on(found.file_name, found.device),
        }

    async def take(self, token: str, remote: str) -> TakenView:
        """The bundle, once. Raises :class:`ControlError`."""
        store, now = self._store(), self._wall_clock()
        found = await store.run(
            lambda c: LinkRepository(c, store.sealer).take(_digest(token), now, remote[:45])
        )
        if found is None:
            self._wrong.note(remote, self._clock())
            raise ControlError(ErrorCode.NOT_FOUND, _GONE)
        return {
            "device": found.device,
            "file_name": found.file_name,
            "media_type": found.media_type,
            "content": base64.b64encode(found.content).decode(),
        }

    async def all(self) -> list[LinkView]:
        """Every link, the newest first."""
        store = self._store()
        found = await store.run(lambda c: LinkRepository(c, store.sealer).all(), durable=False)
        return [_view(one) for one in found]

    async def sweep(self) -> None:
        """Wipe what nobody took in time. Never raises: the store tells what is wrong with it."""
        store, now = self._store(), self._wall_clock()

        def work(links: LinkRepository) -> None:
            links.empty_expired(now)
            links.delete_before(now - KEEP_DAYS * 86_400)

        with contextlib.suppress(StoreError):
            await store.run(lambda c: work(LinkRepository(c, store.sealer)))


def note_on(file_name: str, device: str) -> str | None:
    """What somebody who opens a bundle has to know."""
    if file_name.endswith(".sswan"):
        return f"If Android asks for the password of the certificate, type: {device}"
    return None


def base_url(config: Config) -> str:
    """How devices reach the REST interface, without a slash at the end."""
    section, api = config.provisioning, config.api
    if section.url is not None:
        return section.url.rstrip("/")
    host = api.names[0] if api.names else section.address
    if host is None:
        own = not api.listen.address.is_unspecified
        host = str(api.listen.address) if own else config.gateway.name
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if api.tls else 'http'}://{host}:{api.listen.port}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _view(link: Link) -> LinkView:
    return {
        "id": link.hash.hex()[:16],
        "device": link.device,
        "file_name": link.file_name,
        "created_at": link.created_at,
        "created_by": link.created_by,
        "expires_at": link.expires_at,
        "used_at": link.used_at,
        "used_from": link.used_from,
    }
