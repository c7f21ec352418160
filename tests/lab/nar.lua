-- Lets Wireshark judge NAR (draft-montenegro-aatn-nar-01, section 3) and the SOCKS5 around it
-- (RFC 1928, 1929). Written from those texts and the protocol notes. What breaks them is marked
-- as nar.malformed. Relayed octets of a plain proxy are left alone.
local nar = Proto("nar", "Negotiated Address Reuse")

local NAR_MODE, ICMP, IPSEC, TUNNEL = 0x80, 0x81, 0x82, 0x83
local SESSION, RENEW, RELEASE, L2TP, NOTICE = 0x90, 0x91, 0x92, 0x93, 0x94
local COMMANDS = {
  [1] = "CONNECT", [2] = "BIND", [3] = "UDP ASSOCIATE", [NAR_MODE] = "NAR-MODE",
  [ICMP] = "ICMP-ASSOCIATE", [IPSEC] = "IPSEC-ASSOCIATE", [TUNNEL] = "TUNNEL-ASSOCIATE",
  [SESSION] = "SESSION", [RENEW] = "RENEW", [RELEASE] = "RELEASE", [L2TP] = "L2TP-ASSOCIATE",
  [NOTICE] = "NOTICE",
}
local REPLIES = {
  [0] = "succeeded", [1] = "general failure", [2] = "not allowed", [3] = "network unreachable",
  [4] = "host unreachable", [5] = "connection refused", [6] = "TTL expired",
  [7] = "command not supported", [8] = "address type not supported",
}
local REASONS = { [1] = "address changed", [2] = "lease ended", [3] = "stopping" }
local TRANSLATED_FLAG, GRE_FLAG, L2TP_FLAG, LEASES_FLAG = 0x01, 0x02, 0x04, 0x80

local field = {}
local function add_field(name, kind, text, ...)
  field[name] = ProtoField[kind]("nar." .. name, text, ...)
end
add_field("methods", "bytes", "Methods offered")
add_field("method", "uint8", "Method chosen", base.HEX)
add_field("user", "string", "User name")
add_field("status", "uint8", "Login status")
add_field("command", "uint8", "Command", base.HEX, COMMANDS)
add_field("reply", "uint8", "Reply", base.DEC, REPLIES)
add_field("answers", "uint8", "Reply to", base.HEX, COMMANDS)
add_field("flags", "uint8", "Flags", base.HEX)
add_field("translated", "bool", "TRANSLATED-NAR", 8, nil, TRANSLATED_FLAG)
add_field("gre", "bool", "GRE", 8, nil, GRE_FLAG)
add_field("l2tp", "bool", "L2TP", 8, nil, L2TP_FLAG)
add_field("leases", "bool", "Leases", 8, nil, LEASES_FLAG)
add_field("address", "ipv4", "Address")
add_field("address6", "ipv6", "IPv6 address")
add_field("name", "string", "Name")
add_field("port", "uint16", "Port")
add_field("icmp_id", "uint16", "ICMP.ID", base.HEX)
add_field("protocol", "uint8", "Protocol")
add_field("spi", "uint32", "IN.SPI", base.HEX)
add_field("inner", "ipv4", "LTUN.ADDR")
add_field("token", "bytes", "Token")
add_field("lease_s", "uint32", "Lease time in seconds")
add_field("grace_s", "uint32", "Grace period in seconds")
add_field("reason", "uint8", "Reason", base.DEC, REASONS)
add_field("tuple", "bytes", "Tuple")
add_field("tuple_protocol", "uint8", "Protocol of the tuple")
add_field("tuple_remote", "ipv4", "Remote address of the tuple")
add_field("tuple_remote_port", "uint16", "Remote port of the tuple")
add_field("tuple_value", "uint32", "Value of the tuple", base.HEX)
add_field("tunnel_id", "uint32", "L2TP tunnel of the client")
add_field("peer_tunnel_id", "uint32", "L2TP tunnel of the server")
add_field("session_id", "uint32", "L2TP session of the client")
add_field("peer_session_id", "uint32", "L2TP session of the server")
local all = {}
for _, one in pairs(field) do
  table.insert(all, one)
end
nar.fields = all
local malformed = ProtoExpert.new(
  "nar.malformed", "Malformed NAR message", expert.group.MALFORMED, expert.severity.ERROR)
nar.experts = { malformed }

-- What is known of each TCP stream, and what each message of a frame turned out to be: frames may
-- be dissected more than once, but only the first time in order.
local streams, seen = {}, {}
local stream_index = Field.new("tcp.stream")

function nar.init()
  streams, seen = {}, {}
end

local function more(needed)
  return { needed = needed }
end

-- ATYP and the address at an offset: length of both, or nil and how many octets are needed.
local function address_size(buffer, at)
  if buffer:len() <= at then
    return nil, at + 1
  end
  local kind = buffer(at, 1):uint()
  if kind == 1 then
    return 5
  elseif kind == 4 then
    return 17
  elseif kind ~= 3 then
    return nil, nil
  elseif buffer:len() <= at + 1 then
    return nil, at + 2
  end
  return 2 + buffer(at + 1, 1):uint()
end

-- Decides what the message at the start of the buffer is: its kind and size, `needed` when more
-- octets are needed, or neither when it cannot be told.
local function with_address(kind, buffer, at, behind)
  local size, needed = address_size(buffer, at)
  if size then
    return { kind = kind, size = at + size + behind }
  end
  return more(needed and needed + behind)
end

local function client_message(state, buffer)
  local version = buffer(0, 1):uint()
  if state.client == "offer" then
    if buffer:len() < 2 then
      return more(2)
    end
    return { kind = "offer", size = 2 + buffer(1, 1):uint() }
  end
  if state.client == "login" and version == 1 then
    if buffer:len() < 2 then
      return more(2)
    end
    local user = buffer(1, 1):uint()
    if buffer:len() < 3 + user then
      return more(3 + user)
    end
    return { kind = "login", size = 3 + user + buffer(2 + user, 1):uint() }
  end
  if version == 5 then
    return with_address("socks_request", buffer, 3, 2)
  elseif version ~= 1 then
    return {}
  elseif buffer:len() < 2 then
    return more(2)
  end
  local command = buffer(1, 1):uint()
  if command == TUNNEL then
    return with_address("nar_request", buffer, 2, 1)
  end
  local size = ({ [ICMP] = 4, [IPSEC] = 7, [SESSION] = 18, [RENEW] = 2, [RELEASE] = 14,
    [L2TP] = 2 })[command]
  return { kind = "nar_request", size = size }
end

local function server_message(state, buffer)
  if state.server == "choice" then
    return { kind = "choice", size = 2 }
  elseif state.server == "status" then
    return { kind = "status", size = 2 }
  elseif buffer:len() < 2 then
    return more(2)
  end
  local version, code = buffer(0, 1):uint(), buffer(1, 1):uint()
  if version == 1 and code == NOTICE then
    return { kind = "notice", size = 20 }
  end
  local asked = state.pending[1]
  if not asked then
    return {}
  elseif asked.command <= NAR_MODE then
    return with_address("socks_reply", buffer, 3, 2)
  elseif asked.command == TUNNEL then
    return with_address("nar_reply", buffer, 2, 1)
  end
  local size = ({ [ICMP] = 4, [IPSEC] = 7, [SESSION] = 26, [RENEW] = 6, [RELEASE] = 14,
    [L2TP] = 34 })[asked.command]
  return { kind = "nar_reply", size = size }
end

-- Follows what a whole message changes; returns what its dissection needs to know.
local follow = {}

function follow.offer(state)
  state.client = "login"
  return {}
end

function follow.login(state)
  state.client = "commands"
  return {}
end

function follow.choice(state, octets)
  state.server = octets(1, 1):uint() == 2 and "status" or "replies"
  return {}
end

function follow.status(state)
  state.server = "replies"
  return {}
end

local function asked_for(state, octets)
  state.client = "commands"
  local command = octets(1, 1):uint()
  local asked = { command = command, octets = octets:bytes() }
  table.insert(state.pending, asked)
  if command == 2 and not state.mode_asked then
    table.insert(state.pending, asked) -- RFC 1928 section 6: BIND has two replies
  end
  local known = {
    mode_asked = state.mode_asked, leases_asked = state.leases_asked, command = command }
  if command == NAR_MODE and octets(0, 1):uint() == 5 then
    state.mode_asked = true
    state.leases_asked = bit.band(octets(2, 1):uint(), LEASES_FLAG) ~= 0
  end
  return known
end
follow.socks_request = asked_for
follow.nar_request = asked_for

function follow.socks_reply(state, octets)
  local asked = table.remove(state.pending, 1)
  local succeeded = octets(1, 1):uint() == 0
  if asked.command == NAR_MODE and succeeded then
    state.mode = true
    state.leases = bit.band(octets(2, 1):uint(), LEASES_FLAG) ~= 0
  elseif not state.mode and succeeded and #state.pending == 0 then
    state.relayed = true
  end
  return { asked = asked, succeeded = succeeded, mode = state.mode, leases = state.leases }
end

function follow.nar_reply(state, octets)
  local asked = table.remove(state.pending, 1)
  local succeeded = octets(1, 1):uint() == 0
  return { asked = asked, succeeded = succeeded, mode = state.mode, leases = state.leases }
end

function follow.notice(state)
  return { mode = state.mode, leases = state.leases }
end

-- Dissection of whole messages. `wrong` marks what breaks the texts.
local show = {}

local function wrong(tree, text)
  tree:add_proto_expert_info(malformed, text)
end

local function version_is(tree, octets, version)
  if octets(0, 1):uint() ~= version then
    wrong(tree, "VER is not " .. version)
  end
end

local function show_address(tree, octets, at)
  local kind = octets(at, 1):uint()
  if kind == 1 then
    tree:add(field.address, octets(at + 1, 4))
    return at + 5
  elseif kind == 4 then
    tree:add(field.address6, octets(at + 1, 16))
    return at + 17
  end
  local size = octets(at + 1, 1):uint()
  if size == 0 then
    wrong(tree, "domain name without octets")
  else
    local name = octets(at + 2, size)
    tree:add(field.name, name)
    if name:string():find("[^%w%.%-_]") then
      wrong(tree, "domain name with octets of no host name")
    end
  end
  return at + 2 + size
end

local function show_flags(tree, octets)
  local branch = tree:add(field.flags, octets)
  for _, name in ipairs({ "translated", "gre", "l2tp", "leases" }) do
    branch:add(field[name], octets)
  end
  return octets:uint()
end

local function show_tuple(tree, octets)
  local branch = tree:add(field.tuple, octets)
  branch:add(field.tuple_protocol, octets(0, 1))
  branch:add(field.tuple_remote_port, octets(2, 2))
  branch:add(field.tuple_remote, octets(4, 4))
  branch:add(field.tuple_value, octets(8, 4))
  local protocol, value = octets(0, 1):uint(), octets(8, 4):uint()
  if octets(1, 1):uint() ~= 0 then
    wrong(branch, "RESERVED of a tuple is not 0")
  end
  local known = { [0] = true, [1] = true, [4] = true, [6] = true, [17] = true, [47] = true,
    [50] = true, [51] = true }
  if not known[protocol] or (protocol == 0 and octets:bytes():tohex():find("[^0]")) then
    wrong(branch, "tuple of a protocol that NAR does not demultiplex")
  end
  if (protocol == 1 or protocol == 6 or protocol == 17) and value > 0xFFFF then
    wrong(branch, "port or identifier beyond 65535")
  end
end

function show.offer(tree, octets)
  version_is(tree, octets, 5)
  if octets(1, 1):uint() == 0 then
    wrong(tree, "no method is offered")
  else
    tree:add(field.methods, octets(2))
  end
  return "methods"
end

function show.choice(tree, octets)
  version_is(tree, octets, 5)
  tree:add(field.method, octets(1, 1))
  return "method chosen"
end

function show.login(tree, octets)
  local user = octets(1, 1):uint()
  if user == 0 or octets(2 + user, 1):uint() == 0 then
    wrong(tree, "empty user name or password")
  end
  if user > 0 then
    tree:add(field.user, octets(2, user))
  end
  return "login"
end

function show.status(tree, octets)
  version_is(tree, octets, 1)
  tree:add(field.status, octets(1, 1))
  return "login status"
end

function show.socks_request(tree, octets, known)
  local command, reserved = known.command, octets(2, 1)
  tree:add(field.command, octets(1, 1))
  local at = show_address(tree, octets, 3)
  tree:add(field.port, octets(at, 2))
  if command == NAR_MODE then
    show_flags(tree, reserved)
    if octets(at, 2):uint() ~= 0 then
      wrong(tree, "DST.PORT of NAR-MODE is not 0 (section 3.1)")
    end
  elseif command < 1 or command > 3 then
    wrong(tree, "unknown command of version 5")
  elseif reserved:uint() ~= 0 then
    local remote = command == 3 and reserved:uint() == 1 and known.leases_asked
    if not remote then
      wrong(tree, "RSV is not 0 (RFC 1928 section 4)")
    end
  end
  return COMMANDS[command] or "unknown command"
end

function show.socks_reply(tree, octets, known)
  version_is(tree, octets, 5)
  tree:add(field.answers, octets(1, 1), known.asked.command):set_generated()
  tree:add(field.reply, octets(1, 1))
  local at = show_address(tree, octets, 3)
  tree:add(field.port, octets(at, 2))
  local ipv4 = octets(3, 1):uint() == 1
  if octets(1, 1):uint() > 8 then
    wrong(tree, "REP is not assigned (RFC 1928 section 6)")
  end
  if known.asked.command == NAR_MODE and known.succeeded then
    local flags = show_flags(tree, octets(2, 1))
    if not ipv4 or octets(4, 4):uint() == 0 then
      wrong(tree, "BND.ADDR of NAR-MODE is no IPv4 address (section 3.1)")
    end
    local asked = known.asked.octets:get_index(2)
    if bit.band(flags, LEASES_FLAG) ~= 0 and bit.band(asked, LEASES_FLAG) == 0 then
      wrong(tree, "leases were not asked for")
    end
    if bit.band(flags, TRANSLATED_FLAG + L2TP_FLAG) == L2TP_FLAG
      and bit.band(flags, LEASES_FLAG) == 0 then
      wrong(tree, "L2TP without the means to agree on it")
    end
  elseif octets(2, 1):uint() ~= 0 then
    wrong(tree, "RSV is not 0 (RFC 1928 section 6)")
  elseif known.mode and known.succeeded and known.asked.command ~= NAR_MODE
    and (not ipv4 or octets(4, 4):uint() == 0 or octets(at, 2):uint() == 0) then
    wrong(tree, "a lease without an address or a port")
  end
  return "reply to " .. (COMMANDS[known.asked.command] or "an unknown command")
end

function show.nar_request(tree, octets, known)
  local command = known.command
  tree:add(field.command, octets(1, 1))
  if not known.mode_asked then
    wrong(tree, "NAR command before NAR-MODE (section 3)")
  elseif command >= SESSION and not known.leases_asked then
    wrong(tree, "command of the extension, which was not asked for")
  end
  if command == ICMP then
    tree:add(field.icmp_id, octets(2, 2))
  elseif command == IPSEC then
    tree:add(field.protocol, octets(2, 1))
    tree:add(field.spi, octets(3, 4))
    local protocol = octets(2, 1):uint()
    if protocol ~= 50 and protocol ~= 51 then
      wrong(tree, "IN.PROTOCOL is neither ESP nor AH (section 3.3)")
    end
  elseif command == TUNNEL then
    if octets(2, 1):uint() == 1 then
      tree:add(field.inner, octets(3, 4))
    else
      wrong(tree, "LTUN.ADDR is no IPv4 address")
    end
    local protocol = octets(octets:len() - 1, 1)
    tree:add(field.protocol, protocol)
    if protocol:uint() ~= 4 and protocol:uint() ~= 47 then
      wrong(tree, "TUN.PROTOCOL is neither IP in IP nor GRE (section 3.4)")
    end
  elseif command == SESSION then
    tree:add(field.token, octets(2, 16))
  elseif command == RELEASE then
    show_tuple(tree, octets(2, 12))
  end
  return COMMANDS[command]
end

local L2TP_FIELDS = { "tunnel_id", "peer_tunnel_id", "session_id", "peer_session_id" }

function show.nar_reply(tree, octets, known)
  version_is(tree, octets, 1)
  local command = known.asked.command
  tree:add(field.answers, octets(1, 1), command):set_generated()
  tree:add(field.reply, octets(1, 1))
  if octets(1, 1):uint() > 8 then
    wrong(tree, "REP is not assigned (RFC 1928 section 6)")
  end
  if not known.mode and known.succeeded then
    wrong(tree, "success of a NAR command without NAR mode (section 3)")
  end
  if command == ICMP then
    tree:add(field.icmp_id, octets(2, 2))
  elseif command == IPSEC then
    tree:add(field.protocol, octets(2, 1))
    tree:add(field.spi, octets(3, 4))
    if known.succeeded and octets(3, 4):uint() < 256 then
      wrong(tree, "a reserved SPI was lent (RFC 4303 section 2.1)")
    end
    if known.succeeded and octets(2, 1):uint() ~= known.asked.octets:get_index(2) then
      wrong(tree, "another protocol than asked for")
    end
  elseif command == TUNNEL then
    local asked = known.asked.octets
    if octets(2, 1):uint() == 1 then
      tree:add(field.inner, octets(3, 4))
    end
    if known.succeeded and octets:bytes():subset(2, 6) ~= asked:subset(2, 6) then
      wrong(tree, "another tunnel than asked for (section 3.4)")
    end
  elseif command == SESSION then
    tree:add(field.token, octets(2, 16))
    tree:add(field.lease_s, octets(18, 4))
    tree:add(field.grace_s, octets(22, 4))
    if known.succeeded and not octets(2, 16):bytes():tohex():find("[^0]") then
      wrong(tree, "session without a token")
    end
  elseif command == RENEW then
    tree:add(field.lease_s, octets(2, 4))
  elseif command == RELEASE then
    show_tuple(tree, octets(2, 12))
  elseif command == L2TP then
    for index, name in ipairs(L2TP_FIELDS) do
      local value = octets(4 * index - 2, 4)
      tree:add(field[name], value)
      if known.succeeded and value:uint() == 0 then
        wrong(tree, "L2TP identifier 0")
      end
    end
  end
  return "reply to " .. COMMANDS[command]
end

function show.notice(tree, octets, known)
  tree:add(field.command, octets(1, 1))
  tree:add(field.reason, octets(2, 1))
  tree:add(field.address, octets(4, 4))
  show_tuple(tree, octets(8, 12))
  if not known.leases then
    wrong(tree, "notice to a client that knows none")
  end
  if not REASONS[octets(2, 1):uint()] or octets(3, 1):uint() ~= 0 then
    wrong(tree, "unknown reason, or RESERVED is not 0")
  end
  return "NOTICE"
end

local function state_of(info)
  local index = stream_index().value
  if not streams[index] then
    streams[index] = {
      client_port = info.src_port, client = "offer", server = "choice", pending = {} }
  end
  return streams[index]
end

local function next_message(state, key, buffer, from_client)
  if seen[key] then
    return seen[key]
  end
  if state.relayed or state.broken then
    return { kind = "relayed", size = buffer:len() }
  end
  local message = (from_client and client_message or server_message)(state, buffer)
  if message.size and message.size > buffer:len() then
    return more(message.size)
  end
  if message.size then
    message.known = follow[message.kind](state, buffer(0, message.size):tvb())
    seen[key] = message
  elseif not message.needed then
    state.broken = true
    message = { kind = "broken", size = buffer:len() }
    seen[key] = message
  end
  return message
end

function nar.dissector(buffer, info, root)
  local state = state_of(info)
  local from_client = info.src_port == state.client_port
  local at, shown = 0, {}
  info.cols.protocol = "NAR"
  while at < buffer:len() do
    local key = info.number .. ":" .. at .. ":" .. buffer:len()
    local rest = buffer(at):tvb()
    local message = next_message(state, key, rest, from_client)
    if message.needed then
      info.desegment_offset = at
      info.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
      break
    end
    local octets = buffer(at, message.size)
    local tree = root:add(nar, octets)
    if message.kind == "broken" then
      wrong(tree, "no message of SOCKS5 or NAR")
    elseif message.kind ~= "relayed" then
      local text = show[message.kind](tree, octets:tvb(), message.known)
      tree:append_text(": " .. text)
      table.insert(shown, text)
    end
    at = at + message.size
  end
  info.cols.info = table.concat(shown, ", ")
  return buffer:len()
end

DissectorTable.get("tcp.port"):add(1080, nar)
