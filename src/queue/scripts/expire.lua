-- ARGV: max. Entries whose deadline passed go back to ready; answers
-- { how many, how many were garbage and dropped }.
local s = load()
local late = redis.call('ZRANGE', FLIGHT, '-inf', in_ms(0), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[1]))
if #late == 0 then return { 0, 0 } end
-- Their places are lost; a fixed order beats one that depends on who was late.
table.sort(late)
local waiting, amounts, entries, moved, garbage = {}, {}, {}, 0, 0
for _, entry in ipairs(late) do
  local workspace = string.sub(entry, 1, WORKSPACE_LENGTH)
  if string.sub(entry, WORKSPACE_LENGTH + 1, WORKSPACE_LENGTH + 1) ~= '|' or not string.find(entry, '%d$') then
    garbage = garbage + 1
  else
    if not entries[workspace] then
      waiting[#waiting + 1] = workspace
      entries[workspace] = {}
    end
    table.insert(entries[workspace], entry)
    moved = moved + 1
  end
end
redis.call('ZREM', FLIGHT, unpack(late))
for i, workspace in ipairs(waiting) do
  amounts[i] = #entries[workspace]
  put_in_front(s, workspace, entries[workspace])
end
release(s, waiting, amounts)
join(s, waiting)
save(s)
if moved > 0 then wake() end
return { moved, garbage }
