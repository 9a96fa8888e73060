-- reseed: give a partition's lease a new epoch after its own was lost.
--
-- KEYS[1]  lease (hash)      KEYS[2]  input stream
-- ARGV[1]  consumer group    ARGV[2]  highest epoch that is remembered elsewhere, '0' if none is
--
-- Returns {'reseeded', epoch, committed id}; or, with nothing written:
--   {'seeded', epoch}                             the lease has an epoch, which is never replaced
--   {'tampered', key, type found, type expected}
-- The epoch is the server's time in ms, like a first one, or the remembered one + 1 if that is higher
-- (the clock may have been set back). Afterwards nobody holds the lease: the last holder is refused for
-- its nonce and epoch. If the lease has lost its committed id too, the group's position replaces it.

local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'hash' and found ~= 'none' then
  return {'tampered', KEYS[1], found, 'hash'}
end
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'committed')
-- Up to 15 digits: what Lua's numbers hold exactly. No holder could count on from anything else.
if lease[1] and string.match(lease[1], '^%d+$') and #lease[1] <= 15 then
  return {'seeded', lease[1]}
end
local version, committed = lease[2] or '', lease[3] or ''
if not string.match(version, '^%d+$') or #version > 15 then
  version = '0'
end
if not string.match(committed, '^%d+%-%d+$') then
  committed = '0-0'
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
  for i = 1, groups.err and 0 or #groups do
    local group = {}
    for j = 1, #groups[i], 2 do
      group[groups[i][j]] = groups[i][j + 1]
    end
    if group.name == ARGV[1] then
      committed = group['last-delivered-id']
    end
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = string.format('%.0f', math.max(ARGV[2] + 1, now))
redis.call('HSET', KEYS[1], 'owner', '', 'nonce', '', 'epoch', epoch,
  'expires', '0', 'version', version, 'committed', committed, 'server', 'another')
return {'reseeded', epoch, committed}
