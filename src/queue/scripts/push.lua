-- ARGV: groups. Answers how many tickets were new.
local s = load()
local new, waiting = 0, {}
for _, group in ipairs(groups(1)) do
  local held = s.flight > 0 and redis.call('ZMSCORE', FLIGHT, unpack(group.entries)) or {}
  local args = {}
  for i, entry in ipairs(group.entries) do
    if not held[i] then
      s.seq = s.seq + 1
      args[#args + 1] = band(entry) + s.seq
      args[#args + 1] = entry
    end
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
