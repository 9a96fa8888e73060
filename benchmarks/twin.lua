-- twin: the writes of one batch, as they are given: nothing is checked and nothing is decided.
--
-- KEYS[1]  lease (hash)      KEYS[2]  input stream      KEYS[3…]  every key that the batch writes
-- ARGV[1]  consumer group    ARGV[2]  id of the last input entry      ARGV[3]  id to trim below
-- ARGV[4]  '=' or '~', how to trim    ARGV[5]  version    ARGV[6]  end of the lease, ms
-- ARGV[7]  number of input ids to acknowledge; 0 moves the group instead
-- ARGV[8]  number of arguments in all stream writes
-- ARGV[9]  id of the first input entry, to copy from the input; '' if nothing is copied
-- then     the input ids
-- then     stream writes: index of the key counted from 0, and one of
--          number of arguments, arguments …
--          'log', id, number of the input entry from 1, ms: a log entry with all fields of that entry
--          'inbox', id, number of the input entry, 4 values: an inbox entry with its payload
-- then     other writes: verb, index of the key, number of arguments, arguments …

local position = 10 + ARGV[7]
local upto = position + ARGV[8] - 1
local entries = ARGV[9] ~= '' and redis.call('XRANGE', KEYS[2], ARGV[9], ARGV[2])
while position < upto do
  local key, form = KEYS[ARGV[position] + 3], ARGV[position + 1]
  local last = position + 4
  if form == 'log' then
    local fields = entries[tonumber(ARGV[position + 3])][2]
    local n = #fields
    fields[n + 1], fields[n + 2] = 'ms', ARGV[last]
    redis.call('XADD', key, ARGV[position + 2], 'kind', 'signal', unpack(fields))
  elseif form == 'inbox' then
    last = position + 7
    redis.call('XADD', key, ARGV[position + 2], 'type', ARGV[position + 4], 'from', ARGV[position + 5],
      'stream', ARGV[position + 6], 'cause', ARGV[last],
      'payload', entries[tonumber(ARGV[position + 3])][2][14], 'hops', '1')
  else
    last = position + 1 + form
    redis.call('XADD', key, unpack(ARGV, position + 2, last))
  end
  position = last + 1
end
upto = #ARGV
while position < upto do
  local last = position + 2 + ARGV[position + 2]
  redis.call(ARGV[position], KEYS[ARGV[position + 1] + 3], unpack(ARGV, position + 3, last))
  position = last + 1
end
if ARGV[7] == '0' then
  redis.call('XGROUP', 'SETID', KEYS[2], ARGV[1], ARGV[2])
else
  redis.call('XACK', KEYS[2], ARGV[1], unpack(ARGV, 10, 9 + ARGV[7]))
end
redis.call('HSET', KEYS[1], 'committed', ARGV[2])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4], ARGV[3])
redis.call('HSET', KEYS[1], 'version', ARGV[5], 'expires', ARGV[6])
return 1
