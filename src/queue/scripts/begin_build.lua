-- No ARGV. Puts the counts right from what is really there and answers the
-- token of the rebuild that begins.
local s = load()
local known, at, total, per = {}, 0, 0, {}
while true do
  local page, bad = redis.call('ZRANGE', FLIGHT, at, at + 999), {}
  for _, entry in ipairs(page) do
    if string.sub(entry, WORKSPACE_LENGTH + 1, WORKSPACE_LENGTH + 1) == '|' then
      local workspace = string.sub(entry, 1, WORKSPACE_LENGTH)
      if not per[workspace] then known[#known + 1] = workspace end
      per[workspace] = (per[workspace] or 0) + 1
      total = total + 1
    else
      bad[#bad + 1] = entry
    end
  end
  if #bad > 0 then redis.call('ZREM', FLIGHT, unpack(bad)) end
  at = at + #page - #bad
  if #page < 1000 then break end
end
local trusted = whole(s) and total == s.flight
redis.call('DEL', RUNNING)
for _, workspace in ipairs(known) do redis.call('HSET', RUNNING, workspace, per[workspace]) end
if total > 0 then redis.call('HSET', RUNNING, ALL, total) end

local ready, from = 0, 0
repeat
  local page = redis.call('ZRANGE', TURN, from, from + 999)
  for _, workspace in ipairs(page) do ready = ready + on_ready(workspace, 'ZCARD') end
  from = from + #page
until #page < 1000
s.ready = ready
repeat
  local parked = redis.call('ZRANGE', TURN, '+inf', '+inf', 'BYSCORE', 'LIMIT', 0, 1000)
  join(s, parked, 'XX')
until #parked < 1000
save(s)

-- Two rebuilders share one token while nothing is lost in between, so that
-- neither undoes the other; after a loss the older one's token is void.
local id = run_id()
local token = s.build
if not (trusted and token and string.find(token, id, 1, true) == 1) then
  local t = redis.call('TIME')
  token = id .. ':' .. t[1] .. '.' .. t[2]
  redis.call('HDEL', CONTROL, 'built')
  redis.call('HSET', CONTROL, 'build', token)
end
return token
