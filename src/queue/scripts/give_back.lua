-- ARGV: groups. Back to ready, before others of their priority, in the order
-- given. Answers how many became ready.
local s = load()
local back, names, amounts, waiting = 0, {}, {}, {}
for _, group in ipairs(groups(1)) do
  local n = redis.call('ZREM', FLIGHT, unpack(group.entries))
  if n > 0 then names[#names + 1], amounts[#amounts + 1] = group.workspace, n end
  back = back + put_in_front(s, group.workspace, group.entries)
  waiting[#waiting + 1] = group.workspace
end
release(s, names, amounts)
join(s, waiting)
save(s)
if back > 0 then wake() end
return back
