-- emit: append entries to a stream that workers read, all of them or none.
--
-- KEYS[1]  ingress, or results (stream)
-- ARGV[1]  most entries that it may hold
-- ARGV[2…] per entry: number of arguments, then field, value …
--
-- Returns {'emitted', id …} or {'overloaded', entries held}. It never drops entries to make room.

local held = redis.call('XLEN', KEYS[1])
if held >= tonumber(ARGV[1]) then
  return {'overloaded', held}
end
local reply = {'emitted'}
local position, last = 2, #ARGV
while position < last do
  local upto = position + ARGV[position]
  local id = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, position + 1, upto))
  if id.err then
    -- Somebody has left the stream fewer ids than we need.
    for i = 2, #reply do
      redis.call('XDEL', KEYS[1], reply[i])
    end
    return id
  end
  reply[#reply + 1] = id
  position = upto + 1
end
return reply
