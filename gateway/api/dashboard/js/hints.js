// What fields of the configuration are for; what is not here is called as in gateway.toml.

/** Kinds in the order in which one meets them. */
export const KIND_HINTS = {
  connections: "Who may connect, how they prove who they are, and what they reach.",
  pools: "Inner addresses for devices.",
  devices: "Devices that are known by name.",
  users: "People who log in with a password of this gateway.",
  profiles: "What members of some groups get in place of what the connection says.",
  radius: "Servers that know users.",
  home_networks: "Networks of addresses that devices keep wherever they are.",
  home_agents: "They forward what is sent to a home address to where the device is.",
  foreign_agents: "They look after devices of other networks.",
  mobile_nodes: "Devices with Mobile IP, and the keys they share with home agents.",
  nar: "Servers that lend parts of public addresses.",
};

const FIELDS = {
  "pools.network": ["Network", "Such as 10.83.112.0/22. Not 192.168.0.0/24 or 192.168.1.0/24: home networks use them."],
  "pools.dns": ["Name servers", "One a line."],
  "pools.reserved": ["Never given out", "Addresses and networks, one a line."],
  "connections.remote_id": ["Who may connect", "An identity, or a pattern such as *@example.com."],
  "connections.local_id": ["Our identity", "Without it, the gateway's name."],
  "connections.remote_auth": ["How devices prove it", null],
  "connections.local_auth": ["How we prove it", null],
  "connections.pool": ["Pool of inner addresses", "Name of a pool."],
  "connections.local_subnets": ["What devices reach", "Networks, one a line; 0.0.0.0/0 for everything."],
  "connections.dns": ["Name servers", "In place of the pool's, one a line."],
  "connections.domains": ["Names to look up there", "Domains such as corp.example.com, one a line (split DNS)."],
  "connections.user_auth": ["How users log in", null],
  "connections.user_backend": ["Who knows the users", "“local”, or the name of a RADIUS entry."],
  "connections.psk": ["Shared secret", "At least 16 characters; better 32 random ones."],
  "connections.ike_version": ["IKE version", "2, or 1 for old devices."],
  "connections.endpoint_update": ["Follow devices that move", "By their authenticated packets: off, allowed or required."],
  "connections.vpn_fa": ["Foreign agent in the gateway", "Saves a layer for Mobile IP devices: off, allowed or required."],
  "connections.profiles": ["Profiles", "Names, one a line; the first that fits the user's groups counts."],
  "users.password": ["Password", "At least 8 characters."],
  "users.groups": ["Groups", "One a line; profiles go by them."],
  "users.enabled": ["May log in", null],
  "devices.identity": ["Identity", "What the device proves to be, as in its certificate."],
  "devices.connection": ["Connection", "Name of a connection; without one, whichever fits."],
  "devices.user": ["User", "Whose device it is."],
  "devices.platform": ["Platform", null],
  "devices.note": ["Note", "For people."],
  "devices.blocked": ["Blocked", "Its logins are refused."],
  "devices.mobile_node": ["Mobile node", "Name of its Mobile IP entry, if it has one."],
  "radius.servers": ["Servers", "The preferred first."],
  "radius.secret": ["Secret", "Shared with the server."],
  "home_networks.network": ["Network", "Such as 10.20.0.0/24."],
  "home_networks.dynamic": ["Addresses to lend", "Networks, ranges or addresses, one a line."],
  "home_agents.address": ["Address", "An address of this host."],
  "home_agents.placement": ["Where it is", "Inside it cannot be reached from the internet: that is how devices know where they are."],
  "home_agents.home_networks": ["Home networks", "Names, one a line."],
};

/** Label and hint of a field. */
export function fieldWords(kind, name, fallback) {
  return FIELDS[`${kind}.${name}`] ?? [fallback, null];
}

/** Fields that belong to the top of a form although they are not required. */
export const FIRST = {
  connections: ["remote_id", "remote_auth", "pool", "local_subnets", "user_auth", "user_backend", "dns", "domains", "psk"],
  pools: ["network", "dns", "reserved"],
  users: ["enabled", "groups", "password"],
  devices: ["identity", "connection", "user", "platform", "note", "blocked", "mobile_node"],
  profiles: ["groups", "pool", "subnets", "dns"],
  home_networks: ["network", "interface", "dynamic", "reserved"],
  home_agents: ["address", "placement", "home_networks"],
};
