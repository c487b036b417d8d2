-- No ARGV. Deletes fixed keys of a type that is not ours. Whoever loses its
-- controls or counts is not built any more. Answers how many were deleted.
local kinds = { [CONTROL] = 'hash', [TURN] = 'zset', [FLIGHT] = 'zset', [RUNNING] = 'hash', [WEIGHT] = 'hash' }
local healed, lost = 0, false
for key, kind in pairs(kinds) do
  local is = redis.call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then
    redis.call('DEL', key)
    healed = healed + 1
    lost = lost or key ~= TURN
  end
end
if lost then redis.call('HDEL', CONTROL, 'build', 'built') end
return healed
