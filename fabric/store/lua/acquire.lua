-- acquire: take a partition's lease if it is free, expired or the caller's own.
--
-- KEYS[1]  lease (hash)      KEYS[2]  input stream
-- ARGV[1]  owner             ARGV[2]  nonce, new for every attempt
-- ARGV[3]  lease time, ms    ARGV[4]  '1' if the partition may be seeded (it never had an epoch)
-- ARGV[5]  consumer group    ARGV[6]  digest of the owner's rules
-- ARGV[7]  the server's own id, '' if it does not tell    ARGV[8]  a random number below 1024
--
-- Returns {'acquired', epoch, version, committed id, expires, now, outages, rules of the holder before}
--         {'held', owner, epoch, remaining ms}
--         {'unseeded'}       the epoch is lost and must not be invented: the script fails closed
-- Every new holder gets a higher epoch, so commits that the last holder still sends are refused. A
-- first epoch is the server's time in ms: above any epoch that a lost server can have handed out.
-- `outages` are the last times in which nobody could commit for longer than a lease, as
-- 'start:end start:end ...' in ms, oldest first: agents were not heard then, so they were not silent.
-- On another server than the last holder's, history may have gone back: `token_epoch` rises, above which
-- all fencing tokens are from now on. Its digits are the time in s and the random number, so that the
-- histories on both sides of a split share no token; each has room for 2048 (below 2^53 until 2106).

local lease = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'expires', 'version', 'committed',
  'ttl', 'served', 'outages', 'rules', 'server', 'token_epoch')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch, version, committed
local outages = lease[8] or ''
if lease[2] then
  local expires = tonumber(lease[3] or '0')
  if lease[1] and lease[1] ~= '' and lease[1] ~= ARGV[1] and now < expires then
    -- More time is left than a lease ever lasts: the clock was set back. Without this, a dead holder
    -- would keep the partition for all that time. A live one renews its lease.
    local ttl = tonumber(lease[6])
    if ttl and expires - now > ttl then
      expires = now + ttl
      redis.call('HSET', KEYS[1], 'expires', string.format('%.0f', expires))
    end
    return {'held', lease[1], lease[2], expires - now}
  end
  -- The last commit or renewal, or the moment at which the last holder gave the lease up.
  -- A time ahead of now is from before the clock was put back: it must not hide an outage.
  local served, given_up = expires - (tonumber(lease[6]) or expires), tonumber(lease[7]) or 0
  if given_up <= now and (given_up > served or served > now) then
    served = given_up
  end
  if served > 0 and now - served > tonumber(ARGV[3]) then
    outages = string.format('%s %.0f:%.0f', outages, served, now)
    -- Sixteen: a session meets them at its next event, which its agents' timers bring soon.
    local _, count = string.gsub(outages, '%S+', '')
    if count > 16 then
      outages = string.gsub(outages, '^ *%S+', '', 1)
    end
  end
  epoch, version, committed = lease[2] + 1, lease[4] or '0', lease[5] or '0-0'
elseif ARGV[4] == '1' then
  epoch, version, committed = now, '0', '0-0'
else
  return {'unseeded'}
end

-- A stream that was deleted starts again, perhaps below the committed id. All of it is new then.
if redis.call('EXISTS', KEYS[2]) == 0 then
  committed = '0-0'
end
local info = redis.pcall('XINFO', 'STREAM', KEYS[2])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, seq = string.match(info[i + 1], '(%d+)-(%d+)')
      local done_ms, done_seq = string.match(committed, '(%d+)-(%d+)')
      ms, seq, done_ms, done_seq = tonumber(ms), tonumber(seq), tonumber(done_ms), tonumber(done_seq)
      if ms < done_ms or (ms == done_ms and seq < done_seq) then
        committed = '0-0'
      end
    end
  end
end
-- BUSYGROUP is the usual reply. The first commit meets any other error again, and reports it.
redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[5], committed, 'MKSTREAM')

if lease[2] and ARGV[7] then
  local is_other = lease[10] and lease[10] ~= ARGV[7]
  if ARGV[7] == '' then
    is_other = lease[1] and lease[1] ~= ''
  end
  if is_other then
    local above = math.max((time[1] * 1024 + ARGV[8]) * 2048,
      (tonumber(lease[11] or '') or 0) + (1 + ARGV[8]) * 2048)
    redis.call('HSET', KEYS[1], 'token_epoch', string.format('%.0f', above))
  end
end
if ARGV[7] and ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'server', ARGV[7])
end
local expires = string.format('%.0f', now + ARGV[3])
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'nonce', ARGV[2], 'epoch', text,
  'expires', expires, 'ttl', ARGV[3], 'version', version, 'committed', committed,
  'outages', outages, 'rules', ARGV[6])
return {'acquired', text, version, committed, expires, now, outages, lease[9] or ''}
