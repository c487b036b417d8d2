-- ARGV: '1' for steps of workflows that began (they go before others of their
-- priority), then groups. Answers how many tickets were new.
local began = ARGV[1] == '1'
local s = load()
local new, waiting = 0, {}
for _, group in ipairs(groups(2)) do
  local held = s.flight > 0 and redis.call('ZMSCORE', FLIGHT, unpack(group.entries)) or {}
  local fresh = {}
  for i, entry in ipairs(group.entries) do
    if not held[i] then fresh[#fresh + 1] = entry end
  end
  local place = s.seq
  if began then
    s.front = s.front - #fresh
    place = s.front
  else
    s.seq = s.seq + #fresh
  end
  local args = {}
  for i, entry in ipairs(fresh) do
    args[2 * i - 1], args[2 * i] = band(entry) + place + i, entry
  end
  if #args > 0 then
    local many = #args > 2 * MANY
    if many then on_ready(group.workspace, 'ZADD', 0, INDEXED) end
    new = new + on_ready(group.workspace, 'ZADD', 'NX', unpack(args))
    if many then on_ready(group.workspace, 'ZREM', INDEXED) end
    -- Also when nothing was new: if the turn was lost, a repeat restores it.
    waiting[#waiting + 1] = group.workspace
  end
end
join(s, waiting)
s.ready = s.ready + new
save(s)
if new > 0 then wake() end
return new
