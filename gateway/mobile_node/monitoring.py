"""The proof of the inside, and how long plaintext may rest on it (draft 001, section 4.2.2)."""

from dataclasses import dataclass

from gateway.mobile_node.policy import Detection
from gateway.mobile_node.registering.outcome import Retransmission

LEAST_PERMIT_S = 0.001
"""Less is nothing: the answer came when its proof was over."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The i-HA has answered through an interface in its present generation."""

    sent_at: float
    """Of the very request that was confirmed: how old the answer is does not count."""
    home: bool
    """It confirmed that we are on the home link."""

    def renew_at(self, detection: Detection) -> float:
        """When the proof has to be made anew."""
        return self.sent_at + detection.monitor_interval_s

    def ends_at(self, detection: Detection) -> float:
        """When plaintext ends unless the proof was renewed."""
        return self.sent_at + detection.monitor_interval_s + detection.monitor_tries_s


def renewing(detection: Detection, proof: Proof, now: float) -> Retransmission:
    """How a renewal is retransmitted: no longer than its proof lasts."""
    return Retransmission(
        detection.retransmit_first_s,
        detection.retransmit_factor,
        detection.retransmit_max_s,
        give_up_s=max(0.0, proof.ends_at(detection) - now),
    )


def detecting(detection: Detection, give_up_s: float) -> Retransmission:
    """How the requests of a detection are retransmitted (draft 001, section 4.3)."""
    return Retransmission(
        detection.retransmit_first_s,
        detection.retransmit_factor,
        detection.retransmit_max_s,
        give_up_s=give_up_s,
    )


def looking_again(listen_s: float) -> Retransmission:
    """Of a look that is taken now and then while the node works: two requests, no more."""
    return Retransmission(listen_s, 1.0, listen_s, give_up_s=2 * listen_s)
