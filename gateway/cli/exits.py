"""Exit statuses of the command, after sysexits.h where it has a word for it."""

OK = 0
FAILED = 1
"""A check failed, or the gateway refused what was asked."""
USAGE = 2
UNAVAILABLE = 69
"""A kernel feature is missing, or no gateway is running."""
OS_ERROR = 71
"""The system refused something, a port in use for example."""
NO_PERMISSION = 77
BAD_CONFIG = 78

MEANING = {
    OK: "done",
    FAILED: "a check failed, or the gateway, or the mobile node, refused",
    USAGE: "wrong arguments",
    UNAVAILABLE: "a kernel feature is missing, or no gateway, or no mobile node, is running",
    OS_ERROR: "the system refused, a port is in use for example",
    NO_PERMISSION: "not permitted; run as root",
    BAD_CONFIG: "the configuration is wrong",
}
"""What each status means, for the help texts and the documentation."""
