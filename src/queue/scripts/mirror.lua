-- ARGV: paused '0'|'1', max_running or '', max_running_per_workspace or '',
-- version, workspace, weight, … Replaces what operators set, unless a newer
-- version is here; answers 1 if it changed who may start.
local s = load()
local known = tonumber(redis.call('HGET', CONTROL, 'version'))
if known and tonumber(ARGV[4]) < known then return 0 end
redis.call('HSET', CONTROL, 'version', ARGV[4])
local was = { s.paused and '1' or '0', s.max_running or '', s.per_workspace or '' }
local names, changed = { 'paused', 'max_running', 'max_running_per_workspace' }, false
for i, name in ipairs(names) do
  if tostring(was[i]) ~= ARGV[i] then changed = true end
  if ARGV[i] == '' then
    redis.call('HDEL', CONTROL, name)
  else
    redis.call('HSET', CONTROL, name, ARGV[i])
  end
end
redis.call('DEL', WEIGHT)
for from = 5, #ARGV, 2000 do
  redis.call('HSET', WEIGHT, unpack(ARGV, from, math.min(from + 1999, #ARGV)))
end
if changed then
  -- Whoever was parked at the old limit is looked at again.
  repeat
    local parked = redis.call('ZRANGE', TURN, '+inf', '+inf', 'BYSCORE', 'LIMIT', 0, 1000)
    join(s, parked, 'XX')
  until #parked < 1000
  if s.turn > 0 then wake() end
end
return changed and 1 or 0
