"""A socket that answers like a running gateway."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control.protocol import ControlError, answer, parse_line, refusal


@dataclass
class Answers:
    """What the socket answers to each operation, and what it was asked."""

    path: Path
    results: dict[str, object] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def reply(self, line: bytes) -> bytes:
        request = parse_line(line)
        assert isinstance(request, dict)
        self.asked.append((request["op"], request["args"]))
        result = self.results[request["op"]]
        if isinstance(result, ControlError):
            return refusal(request["id"], result)
        return answer(request["id"], result)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as lines:
                for line in lines:
                    lines.write(self.reply(line))
                    lines.flush()


def page(*items: object) -> dict[str, object]:
    return {"items": list(items), "next": None, "total": len(items)}
