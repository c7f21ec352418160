"""Why something cannot be provisioned."""


class ProvisioningRefusedError(Exception):
    """What was asked for cannot work.

    The text says why and what to change; ``field`` names the argument or setting, such as
    ``platform`` or ``connections.staff.remote_auth``.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why
