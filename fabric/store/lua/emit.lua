-- emit: append entries to a stream that workers read, all of them or none.
--
-- KEYS[1]  ingress, or results (stream)
-- ARGV[1]  most entries that it may hold
-- ARGV[2]  most bytes of memory that it may take
-- ARGV[3…] per entry: number of arguments, then field, value …
--
-- Returns {'emitted', id …} or {'overloaded', entries held, bytes}. It never drops entries to make room.

local held = redis.call('XLEN', KEYS[1])
if held >= tonumber(ARGV[1]) then
  return {'overloaded', held, 0}
end
local size = 0
for i = 3, #ARGV do
  size = size + #ARGV[i]
end
-- To ask for its memory takes some milliseconds when it is nearly full, so small entries do it only now
-- and then. Who may not ask is bounded by the number of entries alone.
if size >= 16384 or held % 16 == 0 then
  local ask = redis.pcall
  local used = ask('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0')
  if type(used) == 'number' and used + size > tonumber(ARGV[2]) and held > 0 then
    return {'overloaded', held, used}
  end
end
local reply = {'emitted'}
local position, last = 3, #ARGV
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
