-- commit: apply one batch of writes and acknowledge its input, if the lease is still valid.
--
-- KEYS[1]  lease of the partition (hash)
-- KEYS[2]  input stream
-- KEYS[3…] every key that the batch writes
-- ARGV[1]  nonce            ARGV[2]  epoch           ARGV[3]  version the batch builds on
-- ARGV[4]  lease time, ms   ARGV[5]  consumer group
-- ARGV[6]  id of the last input entry in the batch, '' if the batch acknowledges none
-- ARGV[7]  id to trim below, '' not to trim the input
-- ARGV[8]  '=' to trim to the entry, '~' to trim whole nodes only (cheaper while more is waiting)
-- ARGV[9]  for each of KEYS[3…], separated by spaces: its type ('any' if it is only deleted), '!' if the
--          key must exist, and for a stream the id of the first entry to append
-- ARGV[10] number of input entries to copy from, 0 for none     ARGV[11]  their ids, with spaces between
-- ARGV[12] MessagePack, which both sides read in less time than as many arguments: an array of
--          the number of entry forms, for each form: number of names, names …, and its places: '' or
--          for each name the index of the input entry's field whose value it copies, -1 for a given one;
--          then the writes, entries of streams first, each in one of three forms (indexes start at 0):
--   form, key, entry id, one value for each name                        appends an entry to a stream
--   form with places, key, entry id, input entry, each given value      the same, the rest is copied
--   verb, key, number of arguments, arguments …                         any other write
-- ARGV[13] places in that array, with spaces between, of values that it cannot or need not hold: bytes
--          that are no text, and large ones          ARGV[14…] these values
--
-- Returns {'committed', server time in ms}; or, with nothing written:
--   {'unseeded'}                    the lease has no epoch: the script fails closed
--   {'fenced', owner, epoch}        another worker holds the lease, or it was taken again
--   {'expired', owner, epoch}       the lease ran out before the commit came
--   {'superseded', version}         another commit came first
--   {'tampered', key, type found, type expected}
--   {'exhausted', key}              somebody has used the stream's ids: it must be rebuilt
--   {'missing', input stream}       an input entry to copy from is gone: decide again what is there
-- Everything that can go wrong is checked before the first write, because Lua does not roll back. Only
-- ids that somebody has used and deleted again show when an entry is refused: then we undo.

local lease = redis.call('HMGET', KEYS[1], 'nonce', 'epoch', 'expires', 'version', 'owner')
if not lease[2] then
  return {'unseeded'}
end
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then
  return {'fenced', lease[5] or '', lease[2]}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(lease[3]) then
  return {'expired', lease[5] or '', lease[2]}
end
if lease[4] ~= ARGV[3] then
  return {'superseded', lease[4]}
end

local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'stream' and found ~= 'none' then
  return {'tampered', KEYS[2], found, 'stream'}
end
local at, sorted = 3, nil
for expected, exists, first in string.gmatch(ARGV[9], '(%a+)(!?)(%S*)') do
  found = redis.call('TYPE', KEYS[at]).ok
  if exists ~= '' and found == 'none' then
    return {'tampered', KEYS[at], found, expected}
  end
  if found ~= expected and found ~= 'none' and expected ~= 'any' then
    return {'tampered', KEYS[at], found, expected}
  end
  if first == '*' then
    first = '18446744073709551615-0'
  end
  if first ~= '' and #redis.call('XRANGE', KEYS[at], first, '+', 'COUNT', 1) > 0 then
    return {'exhausted', KEYS[at]}
  end
  if expected == 'zset' then
    sorted = at
  end
  at = at + 1
end

-- Entries never change, and only what is committed is trimmed. But somebody may have deleted one.
local inputs = {}
if ARGV[10] ~= '0' then
  local upto = string.match(ARGV[11], '%S+$')
  inputs = redis.call('XRANGE', KEYS[2], string.match(ARGV[11], '%S+'), upto, 'COUNT', ARGV[10])
  local ids = {}
  for i = 1, #inputs do
    ids[i] = inputs[i][1]
  end
  if table.concat(ids, ' ') ~= ARGV[11] then
    return {'missing', KEYS[2]}
  end
end

-- What the user may run can have changed since the lease was taken. So every command of a batch comes
-- here first, without an effect; only XADD is the first of the writes anyway, and UNLINK has no form
-- without an effect. HSET leads: a server that
-- is out of memory refuses it, and after any other write would refuse nothing more.
redis.call('HSET', KEYS[1], 'expires', lease[3])
redis.call('HDEL', KEYS[1], '')
redis.call('XTRIM', KEYS[2], 'MINID', '0')
if sorted then
  redis.call('ZADD', KEYS[sorted], 'XX', 0, '')
  redis.call('ZREM', KEYS[sorted], '')
end

local batch, apart = cmsgpack.unpack(ARGV[12]), 14
for place in string.gmatch(ARGV[13], '%d+') do
  batch[tonumber(place)] = ARGV[apart]
  apart = apart + 1
end
local forms, position, last = {}, 2, #batch
for number = 0, batch[1] - 1 do
  local names = batch[position]
  -- The arguments of XADD behind the key.
  local form = {entry = {}, names = names, arguments = 3 + names}
  for i = 1, names do
    form.entry[2 * i] = batch[position + i]
  end
  position = position + names + 1
  if batch[position] ~= '' then
    -- Where in them given values go; and where copied ones go, and from which field.
    form.given, form.copied, form.from = {}, {}, {}
    local slot = 3
    for place in string.gmatch(batch[position], '%S+') do
      if place == '-1' then
        table.insert(form.given, slot)
      else
        table.insert(form.copied, slot)
        table.insert(form.from, 2 + 2 * place)
      end
      slot = slot + 2
    end
    form.arguments = 4 + #form.given
  end
  forms[number] = form
  position = position + 1
end

local first = position
while position < last do
  local form = forms[batch[position]]
  local key = KEYS[batch[position + 1] + 3]
  local upto, id
  if form then
    local entry, names, copied = form.entry, form.names, form.copied
    entry[1] = batch[position + 2]
    if copied then
      local fields, given, from = inputs[batch[position + 3] + 1][2], form.given, form.from
      for i = 1, #given do
        entry[given[i]] = batch[position + 3 + i]
      end
      for i = 1, #copied do
        entry[copied[i]] = fields[from[i]]
      end
    else
      for i = 1, names do
        entry[1 + 2 * i] = batch[position + 2 + i]
      end
    end
    id = redis.pcall('XADD', key, unpack(entry, 1, 1 + 2 * names))
    upto = position + form.arguments - 1
  else
    upto = position + 2 + batch[position + 2]
    redis.call(batch[position], key, unpack(batch, position + 3, upto))
  end
  if id and id.err then
    -- Undo: what we have appended so far is the newest of each stream.
    while first < position do
      local written = KEYS[batch[first + 1] + 3]
      redis.call('XDEL', written, redis.call('XREVRANGE', written, '+', '-', 'COUNT', 1)[1][1])
      first = first + forms[batch[first]].arguments
    end
    if string.find(id.err, 'equal or smaller') or string.find(id.err, 'exhausted') then
      return {'exhausted', key}
    end
    return id
  end
  position = upto + 1
end

-- With these the commit is whole, whatever becomes of the rest.
redis.call('HSET', KEYS[1], 'version', lease[4] + 1, 'expires', string.format('%.0f', now + ARGV[4]))
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'committed', ARGV[6])
  -- The group's position is the committed point. The group may be gone (FLUSHALL, XGROUP DESTROY).
  if redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[5], ARGV[6]).err then
    redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[5], ARGV[6], 'MKSTREAM')
    redis.call('XGROUP', 'SETID', KEYS[2], ARGV[5], ARGV[6])
  end
  -- Workers do not use XREADGROUP. If another program read entries with it, acknowledge those that are
  -- committed now.
  local pending = redis.call('XPENDING', KEYS[2], ARGV[5])
  if pending[1] > 0 then
    local taken = redis.call('XPENDING', KEYS[2], ARGV[5], '-', ARGV[6], 1000)
    for i = 1, #taken do
      redis.call('XACK', KEYS[2], ARGV[5], taken[i][1])
    end
  end
end
if ARGV[7] ~= '' then
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[8], ARGV[7])
end
return {'committed', now}
