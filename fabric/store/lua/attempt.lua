-- attempt: check that the server runs scripts as the fabric needs it.
--
-- KEYS[1]  scratch key, free to write and delete
-- ARGV[1]  JSON object with a number `n`    ARGV[2]  time after which the key expires by itself, ms
--
-- Returns {'attempted', n, server time in ms}. Like every commit, it reads the time and then writes. It
-- also reads JSON, and touches only the scratch key.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'n', cjson.decode(ARGV[1]).n)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local n = redis.call('HGET', KEYS[1], 'n')
redis.call('DEL', KEYS[1])
return {'attempted', n, now}
