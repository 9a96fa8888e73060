-- enroll: hand out the next incarnation of an agent.
--
-- KEYS[1]  incarnations handed out (hash)    KEYS[2]  agents of the session (hash of JSON)
-- KEYS[3]  agents that are no longer kept (hash of JSON)
-- KEYS[4]  the orchestrators' lease (hash)
-- ARGV[1]  agent
-- ARGV[2]  most incarnations that may be skipped between two that are heard
--
-- Returns the incarnation: above any handed out before, and above the agent's current one. For an agent
-- that the session does not know it is above the `incarnation_floor` of the lease: a session of the same
-- name that was deleted may have handed out that one, to a process that still lives. Anybody may write
-- into the hash, so a number in it that no signal could carry does not count.

local handed = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0
local present = 0
for i = 2, 3 do
  local record = redis.call('HGET', KEYS[i], ARGV[1])
  if record then
    local read, agent = pcall(cjson.decode, record)
    if read and type(agent) == 'table' then
      present = math.max(present, tonumber(agent.incarnation) or 0)
    end
  end
end
if handed == 0 and present == 0 then
  handed = tonumber(redis.call('HGET', KEYS[4], 'incarnation_floor') or '0') or 0
end
if not (handed >= present and handed <= present + ARGV[2] and handed % 1 == 0) then
  handed = present
end
local incarnation = string.format('%.0f', handed + 1)
redis.call('HSET', KEYS[1], ARGV[1], incarnation)
return tonumber(incarnation)
