-- renew: extend a lease, if it is still the caller's.
--
-- KEYS[1]  lease (hash)
-- ARGV[1]  nonce    ARGV[2]  epoch    ARGV[3]  lease time, ms; '0' gives the lease up
--
-- Returns {'renewed', now}; or, with nothing written, {'unseeded'}, {'fenced', owner, epoch} or
-- {'expired', owner, epoch}. The epoch stays when a lease ends: the next holder counts on from it.

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
if ARGV[3] == '0' then
  redis.call('HSET', KEYS[1], 'owner', '', 'nonce', '', 'expires', '0',
    'served', string.format('%.0f', now))
else
  redis.call('HSET', KEYS[1], 'expires', string.format('%.0f', now + ARGV[3]))
end
return {'renewed', now}
