-- rebuild: replace a stream that takes no new entries by a copy of what counts in it, step by step.
--
-- KEYS[1]  lease of the caller (hash)
-- KEYS[2]  the stream
-- KEYS[3]  its copy, until that is complete (stream)
-- KEYS[4]  key under which the old stream is kept (stream)
-- KEYS[5]  hash with the bound: the lease of those who read the stream, or a record of its writer
-- ARGV[1]  nonce            ARGV[2]  epoch           ARGV[3]  lease time, ms
-- ARGV[4]  field of the bound: 'committed' copies what comes after that id, another name what comes
--          up to that number, '' everything
-- ARGV[5]  consumer group that reads the stream, '' if none does
-- ARGV[6]  most entries, and ARGV[7] most bytes to copy now
-- ARGV[8]  time for which the old stream is kept, ms
-- ARGV[9]  place that the last step returned, '' to begin
--
-- Returns {'copying', server time in ms, entries copied, place}; {'rebuilt', server time in ms,
-- entries copied} when the copy is complete and has taken the stream's place; or, with nothing
-- written, {'unseeded'}, {'fenced', owner, epoch}, {'expired', owner, epoch} or
-- {'tampered', key, type found, type expected}.
-- Nobody appends to the stream meanwhile, except under its last free ids: the last step copies these
-- too. A worker that is killed leaves a part of a copy, which the next one discards.

local LAST = '18446744073709551615-18446744073709551615'
local lease = redis.call('HMGET', KEYS[1], 'nonce', 'epoch', 'expires', 'owner')
if not lease[2] then
  return {'unseeded'}
end
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then
  return {'fenced', lease[4] or '', lease[2]}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(lease[3]) then
  return {'expired', lease[4] or '', lease[2]}
end
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'stream' and found ~= 'none' then
  return {'tampered', KEYS[2], found, 'stream'}
end

local is_input = ARGV[4] == 'committed'
local bound = ARGV[4] ~= '' and redis.call('HGET', KEYS[5], ARGV[4]) or '0'
local after, count, began = string.match(ARGV[9], '^(%S+) (%S+) (%S+)$')
-- Begin again if those who read the stream have gone on meanwhile: their entries must not come back.
if began ~= bound then
  redis.call('UNLINK', KEYS[3])
  after, count = is_input and bound or '0', 0
end
count = tonumber(count)
local last = (is_input or ARGV[4] == '') and '+' or bound
local upto, size, is_complete = count + ARGV[6], 0, false
local most = tonumber(ARGV[7])
while not is_complete and count < upto and size < most do
  -- Nothing lies behind the last id, and XRANGE refuses to look there.
  local entries = after == LAST and {}
    or redis.call('XRANGE', KEYS[2], string.format('(%s', after), last, 'COUNT', 10)
  is_complete = #entries < 10
  for i = 1, #entries do
    local id, fields = entries[i][1], entries[i][2]
    after, count = id, count + 1
    for j = 1, #fields do
      size = size + #fields[j]
    end
    -- Among signals and refused ones, an id made by hand in the future gets one of now.
    if last == '+' and tonumber(string.match(id, '^%d+')) > now then
      id = '*'
    end
    -- The server takes no more from a script. No entry of the fabric has so many fields.
    redis.call('XADD', KEYS[3], id, unpack(fields, 1, math.min(#fields, 7000)))
  end
end

redis.call('HSET', KEYS[1], 'expires', string.format('%.0f', now + ARGV[3]))
if not is_complete then
  return {'copying', now, count, string.format('%s %.0f %s', after, count, bound)}
end
if found == 'stream' then
  redis.call('RENAME', KEYS[2], KEYS[4])
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
if count > 0 then
  redis.call('RENAME', KEYS[3], KEYS[2])
end
if ARGV[5] ~= '' then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[5], '0', 'MKSTREAM')
end
if is_input and redis.call('HEXISTS', KEYS[5], 'epoch') == 1 then
  redis.call('HSET', KEYS[5], 'committed', '0-0')
  if KEYS[5] ~= KEYS[1] then
    -- Another holder has read ids that the copy does not have: it must take its lease again.
    redis.call('HSET', KEYS[5], 'owner', '', 'nonce', '', 'expires', '0',
      'served', string.format('%.0f', now))
  end
end
return {'rebuilt', now, count}
