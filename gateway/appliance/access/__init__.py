"""Who may use the gateway's interfaces: tokens, administrators, their logins, and the audit."""
