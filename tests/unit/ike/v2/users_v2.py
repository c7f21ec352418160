"""Users for the tests of EAP in IKEv2: a small user base, and both sides' connections."""

import os
from collections.abc import Sequence
from typing import Any

from certs_v2 import anchors, credential
from harness_v2 import Network, connect, device_policy, gateway_policy, pair

from gateway.domain.endpoint import Path
from gateway.domain.user_auth import (
    Accepted,
    Answer,
    Challenged,
    EapQuestion,
    LocalUser,
    Rejected,
)
from gateway.eap.method import EapMethod
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.eap.peer import EapPeer, Login
from gateway.eap.server import EapServer, Offer, Outcome
from gateway.ike.codec import (
    Authentication,
    Eap,
    IdInitiator,
    IdResponder,
    Payload,
    parse_header,
    parse_message,
)
from gateway.ike.outputs import AskAboutUser
from gateway.ike.policy import (
    ConnectionPolicy,
    PeerAuth,
    UserAuth,
    UserCredential,
    UserMethod,
)
from gateway.ike.registry import ExchangeType
from gateway.ike.v2 import proof, protect
from gateway.ike.v2.auth_exchange import AuthExchange
from gateway.ike.v2.sa import State
from gateway.ike.v2.view import Payloads

PASSWORD = "Lovelace 1815"
USERS = {
    "ada": LocalUser("ada", ("engineers", "staff"), nt_password_hash(PASSWORD)),
    "grace": LocalUser("grace", ("staff",), nt_password_hash("COBOL")),
    "oneway": LocalUser("oneway", (), None),
}


def find_user(name: str) -> LocalUser | None:
    return USERS.get(name)


def gateway_of_users(*methods: UserMethod, **changes: Any) -> ConnectionPolicy:
    """A gateway with a certificate whose peers prove their users only."""
    auth = {
        name: changes.pop(name)
        for name in ("backend", "identities", "eap_identity", "anchors")
        if name in changes
    }
    user = UserAuth(methods or (UserMethod.EAP_MSCHAPV2,), **auth)
    values: dict[str, Any] = {
        "local_credential": credential("gw.example.com"),
        "peer_auth": PeerAuth(user=user),
    }
    return gateway_policy(**{**values, **changes})


def device_of_user(
    name: str = "ada", password: str = PASSWORD, *, certificate: bool = False, **changes: Any
) -> ConnectionPolicy:
    """A device whose user logs in with a password, or with a certificate."""
    login = UserCredential(
        name,
        password.encode(),
        credential(f"{name}@example.com") if certificate else None,
        anchors() if certificate else None,
    )
    values: dict[str, Any] = {"peer_auth": PeerAuth(anchors=anchors()), "user_credential": login}
    return device_policy(**{**values, **changes})


def log_in(
    gateway: ConnectionPolicy | None = None,
    device: ConnectionPolicy | None = None,
    **more: Any,
) -> Network:
    """Try to log in; whether it worked is for the test to say."""
    more.setdefault("find_user", find_user)
    answer = more.pop("answer_user", None)
    network = pair(gateway or gateway_of_users(), device or device_of_user(), **more)
    if answer is not None:
        network.answer_user = answer
    return connect(network)


def reasons(host: Any) -> list[str]:
    return [event.fields["reason"] for event in host.named("handshake_failed")]


class Stranger:
    """A device that says what the test wants, with the right keys, after IKE_SA_INIT."""

    def __init__(self, network: Network, connection: str = "office") -> None:
        self.network = network
        network.impair = lambda datagram: (
            [] if datagram.message[18] != ExchangeType.IKE_SA_INIT else [datagram]
        )
        network.device.engine.initiate(connection, network.now)
        network.run()
        network.impair = lambda datagram: [datagram]
        (self.sa,) = network.device.engine._core.sas.values()
        assert self.sa.state is State.AUTH_SENT
        self.message_id = 0
        mine = self.sa.connection.local_id
        self.id = IdInitiator(mine.type, mine.data)
        self.id_responder: IdResponder | None = None

    def first(self, *extra: Payload) -> list[Payload]:
        """The payloads of an ordinary first IKE_AUTH request with EAP."""
        exchange = AuthExchange()
        payloads = exchange.request(self.network.device.engine._core, self.sa, self.network.now)
        return [*payloads, *extra]

    def seal(
        self, payloads: Sequence[Payload], kind: int = ExchangeType.IKE_AUTH, **more: Any
    ) -> bytes:
        more.setdefault("response", False)
        (message,) = protect.seal(
            self.sa, kind, self.message_id, payloads, fragment_size=65000, **more
        )
        return message

    def send(self, *payloads: Payload, kind: int = ExchangeType.IKE_AUTH) -> Payloads | None:
        """What the gateway answers to the next request, or None."""
        self.message_id += 1
        return self.deliver(self.seal(payloads, kind))

    def deliver(self, message: bytes) -> Payloads | None:
        host = self.network.gateway
        path = Path(self.sa.path.remote, self.sa.path.local)
        before = len(self.network.sent)
        held, self.network.impair = self.network.impair, lambda datagram: []
        host.engine.receive(message, path, self.network.now)
        self.network.collect()
        self.network.impair = held
        answers = [one for one in self.network.sent[before:] if one.sender == "gateway"]
        if not answers:
            return None
        octets = answers[-1].message
        parsed = parse_message(octets, parse_header(octets))
        opened = protect.open_message(self.sa, octets, parsed, max_fragments=64, max_octets=65000)
        view = Payloads(opened.payloads())
        self.id_responder = view.get(IdResponder) or self.id_responder
        return view

    def eap(self, name: str = "ada", password: str = PASSWORD) -> bytes:
        """An ordinary EAP run up to its success; returns the MSK."""
        view = self.send(*self.first())
        peer = EapPeer(Login(name, (EapMethod.MSCHAPV2,), password.encode()), os.urandom)
        while True:
            step = peer.receive(view.need(Eap).data)
            if step.outcome is not Outcome.CONTINUE:
                assert step.outcome is Outcome.SUCCESS, step.reason
                return step.msk
            view = self.send(Eap(step.send))

    def auth(self, msk: bytes, identification: IdInitiator | None = None) -> Authentication:
        return proof.own_proof_after_eap(self.sa, identification or self.id, msk)

    @property
    def gateway_sa(self) -> Any:
        return self.network.gateway.engine._core.sas[self.sa.responder_spi]


class RadiusServer:
    """Answers questions as a RADIUS server with EAP-MSCHAPv2 would."""

    def __init__(self, **accepted: Any) -> None:
        self.conversations: dict[bytes, EapServer] = {}
        self.accepted = accepted
        self.questions: list[EapQuestion] = []

    def __call__(self, asked: AskAboutUser) -> Answer:
        question = asked.question
        assert isinstance(question, EapQuestion)
        self.questions.append(question)
        if not question.state:
            offer = Offer((EapMethod.MSCHAPV2,), ask_identity=False, find_user=find_user)
            server = EapServer(offer, os.urandom, question.user)
            state = os.urandom(16)
            self.conversations[state] = server
            return Challenged(server.start(), state)
        step = self.conversations[question.state].receive(question.packet)
        if step.outcome is Outcome.CONTINUE:
            return Challenged(step.send, question.state)
        if step.outcome is Outcome.FAILURE:
            return Rejected("wrong password, says RADIUS", step.send)
        values = {"groups": ("staff",), "msk": step.msk, **self.accepted}
        return Accepted(question.user, eap=step.send, **values)
