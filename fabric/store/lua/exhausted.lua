-- exhausted: find a stream that has come to its last ids.
--
-- KEYS[1] …  streams
-- ARGV[1]    the last millisecond of all ids, as text
--
-- Returns {'exhausted', key}; or {'free'} when none of them has. A deleted entry counts too: the
-- server goes on from the highest id that there ever was.

for i = 1, #KEYS do
  local info = redis.pcall('XINFO', 'STREAM', KEYS[i])
  for j = 1, info.err and 0 or #info, 2 do
    if info[j] == 'last-generated-id' and string.match(info[j + 1], '^%d+') == ARGV[1] then
      return {'exhausted', KEYS[i]}
    end
  end
end
return {'free'}
