"""What the shared parts of the engine ask of each version of IKE."""

from typing import TYPE_CHECKING, Protocol

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Answer
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.record_values import Record
from gateway.ike.sa import Child, IkeSa

if TYPE_CHECKING:
    from gateway.ike.core import Core, TimerKind


class Version(Protocol):
    """One version of IKE. Each function is only called with SAs of that version."""

    def receive(self, core: "Core", message: bytes, path: Path, now: float) -> None:
        """A datagram whose major version is this one's.

        Raises WireError or IntegrityError for what is dropped; the engine counts those.
        """

    def initiate(self, core: "Core", connection: ConnectionPolicy, now: float) -> None:
        """Send the first message of a connection that names its remote endpoint."""

    def fire(self, core: "Core", kind: "TimerKind", sa: IkeSa, now: float) -> None:
        """A timer of an IKE SA."""

    def fire_child(
        self, core: "Core", kind: "TimerKind", sa: IkeSa, child: Child, now: float
    ) -> None:
        """A timer of a child SA other than those that the shared part knows."""

    def let_go(self, core: "Core", sa: IkeSa, reason: str, now: float) -> None:
        """Change the state to closed and drop exchanges, half-open counts and keys."""

    def delete_ike_sa(self, core: "Core", sa: IkeSa, reason: str, now: float) -> None:
        """End an IKE SA, with a Delete where the peer can understand one."""

    def end_now(self, core: "Core", sa: IkeSa, reason: str, now: float) -> None:
        """End an IKE SA without waiting for anything: we stop."""

    def delete_child(self, core: "Core", sa: IkeSa, child: Child, reason: str, now: float) -> None:
        """End a child SA with a Delete."""

    def rekey_child(self, core: "Core", sa: IkeSa, child: Child, now: float) -> None:
        """Replace a child SA, unless that is under way."""

    def create_child(self, core: "Core", sa: IkeSa, reqid: int, now: float) -> None:
        """Make a child SA where there is none, unless that is under way."""

    def local_address_changed(self, core: "Core", sa: IkeSa, local: Endpoint, now: float) -> None:
        """Our own address is another one now."""

    def prove_path(self, core: "Core", sa: IkeSa, now: float) -> None:
        """We moved without a word: send something authentic from where we are now, at once."""

    def user_answered(self, core: "Core", sa: IkeSa, answer: Answer, now: float) -> None:
        """The answer to the question whose ticket the SA held."""

    def is_recorded(self, sa: IkeSa) -> bool:
        """Whether another process could go on with an SA: it is established, or on its way out."""

    def write_record(self, core: "Core", sa: IkeSa) -> Record:
        """What is this version's own in the record of an SA. Raises ValueError."""

    def read_record(  # noqa: PLR0917 - one fact each
        self, own: Record, spi_i: bytes, spi_r: bytes, initiator: bool, path: Path, now: float
    ) -> IkeSa:
        """An SA with what is this version's own. Raises ``record_values.UNREADABLE``."""

    def rejoin(self, core: "Core", sa: IkeSa, now: float) -> None:
        """The SAs of a former process are all in the tables: go on with what was under way."""

    def ocsp_answered(self, core: "Core", sa: IkeSa, response: bytes | None, now: float) -> None:
        """What the OCSP responder said, DER; None when it did not answer in time."""
