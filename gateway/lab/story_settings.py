"""The configurations of the demonstration: the gateway's and its device's."""

GATEWAY_TOML = """\
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[api]
enabled = false

[ike]
listen = ["{outside}"]

[dataplane]
outside_interfaces = ["outside"]

[pools.road]
network = "10.9.0.0/24"

[credentials]
ca_certificates = ["{folder}/ca.crt"]
certificate = "{folder}/gateway.crt"
private_key = "{folder}/gateway.key"

[connections.road]
remote_id = "*@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
"""

DEVICE_TOML = """\
[gateway]
name = "device.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["0.0.0.0"]

[api]
enabled = false

[dataplane]
forwarding = false

[credentials]
ca_certificates = ["{folder}/ca.crt"]
certificate = "{folder}/device.crt"
private_key = "{folder}/device.key"

[connections.home]
local_id = "device@example.com"
remote_id = "gateway.example.com"
remote = "{outside}"
remote_subnets = ["10.1.0.0/24"]
request_inner_address = true
esp_proposals = ["aes128gcm16"]
mobike = false
liveness_s = 600
"""

SWANCTL_CONF = """
connections {{ home {{
    version = 2
    remote_addrs = {outside}
    proposals = aes256gcm16-prfsha384-x25519
    vips = 0.0.0.0
    mobike = {mobike}
    local {{ auth = pubkey
        certs = device.crt
        id = device@example.com }}
    remote {{ auth = pubkey
        id = gateway.example.com }}
    children {{ intranet {{
        remote_ts = 10.1.0.0/24
        esp_proposals = aes128gcm16 }} }}
}} }}
"""
