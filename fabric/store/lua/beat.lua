-- beat: record that a replica lives, remove dead ones, and return the live ones.
--
-- KEYS[1]  replicas of the group (sorted set: replica by expiry in ms)
-- ARGV[1]  replica    ARGV[2]  time to live, ms
--
-- Returns the live replicas.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A replica with more than three times the caller's time to live: the clock was set back. Without this,
-- dead replicas would count as alive for all that time. Live ones soon send another heartbeat.
local most = string.format('%.0f', now + 3 * ARGV[2])
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], most, '+inf')
for _, other in ipairs(ahead) do
  redis.call('ZADD', KEYS[1], most, other)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
return redis.call('ZRANGE', KEYS[1], 0, -1)
