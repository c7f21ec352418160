-- Lets Wireshark judge TCP encapsulation (RFC 9329), which it does not know: frames with a length
-- of two octets that counts itself, each holding what UDP port 4500 would carry.
local proto = Proto("iketcp", "IKE and ESP in TCP")
local size = ProtoField.uint16("iketcp.length", "Length")
local prefix = ProtoField.string("iketcp.prefix", "Stream prefix")
proto.fields = { size, prefix }

local function length_of(buffer, _, offset)
  if buffer(offset):len() >= 6 and buffer(offset, 6):string() == "IKETCP" then
    return 6
  end
  return math.max(buffer(offset, 2):uint(), 2)
end

local function message(buffer, info, tree)
  local branch = tree:add(proto, buffer())
  if buffer:len() == 6 and buffer(0, 6):string() == "IKETCP" then
    branch:add(prefix, buffer(0, 6))
  else
    branch:add(size, buffer(0, 2))
    if buffer:len() > 2 then
      DissectorTable.get("udp.port"):get_dissector(4500):call(buffer(2):tvb(), info, tree)
    end
  end
  return buffer:len()
end

function proto.dissector(buffer, info, tree)
  dissect_tcp_pdus(buffer, tree, 2, length_of, message)
  info.cols.protocol = "IKETCP"
  return buffer:len()
end

DissectorTable.get("tcp.port"):add(4500, proto)
