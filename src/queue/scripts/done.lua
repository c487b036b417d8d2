-- ARGV: groups. Forgets the tickets, wherever they are; answers how many
-- were in flight.
local s = load()
local gone, names, amounts, touched = 0, {}, {}, false
for _, group in ipairs(groups(1)) do
  local n = redis.call('ZREM', FLIGHT, unpack(group.entries))
  if n > 0 then
    gone = gone + n
    names[#names + 1], amounts[#amounts + 1] = group.workspace, n
  end
  -- Its deadline passed while it ran, or a reconciler pushed it again.
  if n < #group.entries then
    left_ready(s, group.workspace, on_ready(group.workspace, 'ZREM', unpack(group.entries)))
    touched = true
  end
end
release(s, names, amounts)
if touched then save(s) end
-- Somebody may have found the limit reached; now there is room.
if gone > 0 and s.turn > 0 and (s.max_running or s.per_workspace) then wake() end
return gone
