-- ARGV: run deadline in ms from now, groups. Answers the entries that were not
-- in flight before (a rebuild, or a claim slower than its deadline).
local s = load()
local due, fresh, names, amounts = in_ms(tonumber(ARGV[1])), {}, {}, {}
for _, group in ipairs(groups(2)) do
  local args = {}
  for i, entry in ipairs(group.entries) do args[2 * i - 1], args[2 * i] = due, entry end
  local known = s.flight > 0 and redis.call('ZADD', FLIGHT, 'XX', 'CH', unpack(args)) or 0
  if known < #group.entries then
    local scores, new, missing = redis.call('ZMSCORE', FLIGHT, unpack(group.entries)), {}, {}
    for i, entry in ipairs(group.entries) do
      if not scores[i] then
        new[#new + 1], new[#new + 2] = due, entry
        missing[#missing + 1] = entry
        fresh[#fresh + 1] = entry
      end
    end
    if #missing > 0 then
      names[#names + 1], amounts[#amounts + 1] = group.workspace, fly(s, new)
      left_ready(s, group.workspace, on_ready(group.workspace, 'ZREM', unpack(missing)))
    end
  end
end
if #fresh > 0 then
  count(names, amounts)
  save(s)
end
return fresh
