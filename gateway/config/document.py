"""The whole file."""

from pathlib import Path

from pydantic import Field, PrivateAttr

from gateway.config.connection import ConnectionSection
from gateway.config.fields import Name, Section
from gateway.config.problem import Problem
from gateway.config.sections import (
    ApiSection,
    ControlSection,
    CredentialsSection,
    DataplaneSection,
    GatewaySection,
    IkeSection,
    PoolSection,
)


class Config(Section):
    """A configuration that was read and found usable. Immutable."""

    gateway: GatewaySection = GatewaySection()
    ike: IkeSection = IkeSection()
    dataplane: DataplaneSection = DataplaneSection()
    pools: dict[Name, PoolSection] = Field(default_factory=dict)
    credentials: CredentialsSection = CredentialsSection()
    connections: dict[Name, ConnectionSection] = Field(default_factory=dict)
    api: ApiSection = ApiSection()
    control: ControlSection = ControlSection()

    _path: Path = PrivateAttr(default=Path())
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def path(self) -> Path:
        """The file this was read from."""
        return self._path

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed but should be looked at."""
        return self._warnings

    @property
    def control_socket(self) -> Path:
        """Where the control socket is."""
        return self.control.socket or self.gateway.runtime_dir / "control.sock"

    @property
    def api_token_file(self) -> Path:
        """Where the API's bearer token is, whether configured or generated."""
        return self.api.token_file or self.gateway.runtime_dir / "api-token"
