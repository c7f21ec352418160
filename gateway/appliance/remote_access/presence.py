"""Inside presence: devices behind addresses of the gateway, redirects that follow, translations.

Draft 000, section 3 and appendices A and C. Operations ``napt-sessions`` and ``redirects``.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.appliance.paging import page
from gateway.appliance.remote_access.part import Joint, Part
from gateway.appliance.remote_access.presence_plan import Plan
from gateway.control.remote_access_views import NaptSession
from gateway.control.remote_access_views import Redirect as RedirectView
from gateway.dataplane.kernel.presence.dataplane import KernelPresence
from gateway.dataplane.presence import Member, PresenceDataplane, PresenceSettings, RedirectUse
from gateway.domain.remote_access import Grant
from gateway.ike.outputs import Event, Severity

if TYPE_CHECKING:
    from gateway.appliance.remote_access.part import Handler
    from gateway.config.document import Config
    from gateway.control.protocol import Request


def build(joint: Joint) -> Part:
    """For :mod:`gateway.appliance.remote_access.composition`."""
    return InsidePresence(joint, KernelPresence)


class InsidePresence(Part):
    """Who appears as what, and which redirects lead to whom."""

    def __init__(
        self, joint: Joint, dataplane: Callable[[PresenceSettings], PresenceDataplane]
    ) -> None:
        self._joint = joint
        self._plan = Plan.of(joint.config())
        self._kernel = dataplane(self._plan.settings)
        self._since: dict[str, float] = {}
        """When a session came (wall clock)."""
        self._followers: dict[int, dict[str, Grant]] = {}
        """Sessions of the device that a redirect leads to, the newest last."""
        self._redirects_of: dict[str, tuple[int, ...]] = {}
        """By session."""
        self._sessions_of: dict[str, dict[str, Grant]] = {}
        """Grants of a peer by session."""

    def open(self) -> None:
        """See :meth:`Part.open`."""
        self._kernel.open(adopt=self._joint.taken_over)

    async def start(self) -> None:
        """See :meth:`Part.start`."""
        self._report(self._kernel.settle())

    def granted(self, grant: Grant) -> None:
        """See :meth:`Part.granted`."""
        self._since.setdefault(grant.session, self._joint.wall_clock())
        sessions = self._sessions_of.setdefault(grant.peer, {})
        before = sessions.get(grant.session)
        sessions[grant.session] = grant
        member = self._plan.member(grant)
        if member is not None and member.zone:
            self._look_at(grant)
        self._kernel.put(grant.session, member)
        if before is not None and before.addresses != grant.addresses:
            # Answers to what it sent from its former address would still go there.
            self._kernel.forget(grant.zone)
        self._refollow(grant)

    def _refollow(self, grant: Grant) -> None:
        for place in {*self._unfollow(grant.session), *self._follow(grant)}:
            self._kernel.lead(place, self._target(place))

    def device_changed(self, name: str, identity: str | None) -> None:
        """See :meth:`Part.device_changed`: redirects name devices."""
        places = self._plan.by_device.get(name, ())
        followers = [one for place in places for one in self._followers.get(place, {}).values()]
        followers += self._sessions_of.get(identity or "", {}).values()
        for grant in followers:
            self._refollow(grant)
        if followers:
            self.commit()

    def _look_at(self, grant: Grant) -> None:
        """A device with an address of the gateway's own gets no answers: they end here."""
        try:
            ours = self._kernel.own_addresses().intersection(grant.addresses)
        except OSError:
            return
        if ours:
            address = str(min(map(str, ours)))
            text = (
                f"{grant.peer} has the address {address}, which is this gateway's, too:"
                " no answers reach it; give the gateway another address or the device an inner one"
            )
            facts: dict[str, object] = {"session": grant.session, "peer": grant.peer}
            self._joint.emit(Event("presence_conflict", text, Severity.WARNING, facts))

    def _follow(self, grant: Grant) -> tuple[int, ...]:
        """Redirects to the device lead to this session now, if it is that device; which ones."""
        if not grant.proven:
            return ()
        named = {grant.peer}
        configured = self._joint.configured_device(grant.peer)
        if configured is not None:
            named.add(configured.name)
        places = tuple(place for name in named for place in self._plan.by_device.get(name, ()))
        if not places or not grant.addresses:
            return ()
        self._redirects_of[grant.session] = places
        for place in places:
            self._followers.setdefault(place, {})[grant.session] = grant
        return places

    def _unfollow(self, session: str) -> tuple[int, ...]:
        places = self._redirects_of.pop(session, ())
        for place in places:
            followers = self._followers[place]
            followers.pop(session, None)
            if not followers:
                del self._followers[place]
        return places

    def _target(self, place: int) -> Member | None:
        grant = self._leads_to(place)
        return None if grant is None else Member(grant.addresses, grant.zone)

    def _leads_to(self, place: int) -> Grant | None:
        followers = self._followers.get(place)
        return followers[next(reversed(followers))] if followers else None

    def ended(self, grant: Grant) -> None:
        """See :meth:`Part.ended`."""
        self._since.pop(grant.session, None)
        sessions = self._sessions_of.get(grant.peer, {})
        sessions.pop(grant.session, None)
        if not sessions:
            self._sessions_of.pop(grant.peer, None)
        self._kernel.put(grant.session, None)
        self._kernel.forget(grant.zone)
        for place in self._unfollow(grant.session):
            self._kernel.lead(place, self._target(place))

    def commit(self) -> None:
        """See :meth:`Part.commit`."""
        self._report(self._kernel.commit())

    def _report(self, refused: Sequence[str]) -> None:
        for text in refused:
            self._joint.emit(
                Event("presence_refused", f"inside presence: {text}", Severity.WARNING)
            )

    def reconfigure(self, config: "Config") -> None:
        """See :meth:`Part.reconfigure`. Raises OSError with the former one in force."""
        former = self._plan, self._followers, self._redirects_of
        self._plan, self._followers, self._redirects_of = Plan.of(config), {}, {}
        try:
            self._exchange()
        except OSError:
            self._plan, self._followers, self._redirects_of = former
            raise
        self.commit()

    def _exchange(self) -> None:
        members: dict[str, Member] = {}
        for session, grant in self._joint.grants().items():
            member = self._plan.member(grant)
            if member is not None:
                members[session] = member
            self._follow(grant)
        leads = [self._target(place) for place in range(len(self._plan.redirects))]
        self._kernel.reconfigure(self._plan.settings, members, leads)

    async def stop(self, *, keep: bool) -> None:
        """See :meth:`Part.stop`."""
        self._kernel.close(keep=keep)

    # -- answers -----------------------------------------------------------------------------

    def facts(self) -> dict[str, object]:
        """How many redirects there are, and how many lead somewhere."""
        return {"redirects": len(self._plan.redirects), "redirects_active": len(self._followers)}

    def handlers(self) -> "Mapping[str, Handler]":
        """See :meth:`Part.handlers`."""
        return {"napt-sessions": self._napt_sessions, "redirects": self._redirects}

    async def _napt_sessions(self, request: "Request") -> object:
        wanted = (request.text("q") or "").lower()
        grants = {
            session: grant
            for session, grant in self._joint.grants().items()
            if grant.zone and wanted in f"{session} {grant.peer} {grant.user}".lower()
        }
        keys, following = page(list(grants), request)
        return {
            "items": [self._session(grants[key]) for key in keys],
            "next": following,
            "total": len(grants),
        }

    def _session(self, grant: Grant) -> NaptSession:
        name = self._plan.napt_of(grant)
        napt = self._plan.settings.napts[self._plan.napts[name]]
        configured = self._joint.configured_device(grant.peer)
        return NaptSession(
            session=grant.session,
            device=None if configured is None else configured.name,
            identity=grant.peer,
            user=grant.user or None,
            addresses=[str(one) for one in grant.addresses],
            zone=grant.zone,
            napt=name or None,
            seen_as=[
                str(first) if first == last else f"{first}-{last}" for first, last in napt.addresses
            ],
            since=_time(self._since.get(grant.session)),
        )

    async def _redirects(self, request: "Request") -> object:
        places = {name: place for place, name in enumerate(self._plan.redirects)}
        keys, following = page(list(places), request)
        uses = self._kernel.uses()
        items = [self._redirect(name, places[name], uses[places[name]]) for name in keys]
        return {"items": items, "next": following, "total": len(places)}

    def _redirect(self, name: str, place: int, use: RedirectUse) -> RedirectView:
        section = self._plan.config.redirects[name]
        grant = self._leads_to(place)
        first, last = section.ports
        to_port = section.to_port or first
        return RedirectView(
            name=name,
            protocol=section.protocol,
            address=None if section.address is None else str(section.address),
            ports=_ports(first, last),
            device=section.device,
            sources=[str(one) for one in section.sources],
            state="waiting" if grant is None else "active",
            leads_to=None if grant is None else _places(grant, to_port, to_port + last - first),
            session=None if grant is None else grant.session,
            connections=use.connections,
            packets=use.packets,
            bytes=use.octets,
        )


def _places(grant: Grant, first: int, last: int) -> str:
    """Addresses and ports of a device."""
    texts = (f"[{one}]" if one.version == 6 else str(one) for one in grant.addresses)
    return ", ".join(f"{text}:{_ports(first, last)}" for text in texts)


def _ports(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _time(at: float | None) -> str | None:
    return (
        None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    )
