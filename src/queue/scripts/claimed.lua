-- ARGV: run deadline in ms from now, groups. Answers how many were not in
-- flight before (a rebuild, or a claim slower than its deadline).
local s = load()
local due, fresh, names, amounts = in_ms(tonumber(ARGV[1])), 0, {}, {}
for _, group in ipairs(groups(2)) do
  local args = {}
  for i, entry in ipairs(group.entries) do args[2 * i - 1], args[2 * i] = due, entry end
  local new = fly(s, args)
  if new > 0 then
    fresh = fresh + new
    names[#names + 1], amounts[#amounts + 1] = group.workspace, new
    left_ready(s, group.workspace, on_ready(group.workspace, 'ZREM', unpack(group.entries)))
  end
end
if fresh > 0 then
  count(names, amounts)
  save(s)
end
return fresh
