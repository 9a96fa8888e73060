-- beat: say that a replica lives, forget those that do not, and name all that do.
--
-- KEYS[1]  replicas of the group (sorted set: replica by expiry in ms)
-- ARGV[1]  replica    ARGV[2]  time to live, ms
--
-- Returns the live replicas.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
return redis.call('ZRANGE', KEYS[1], 0, -1)
