-- ARGV: max, claim deadline in ms from now, '1' to refuse while unbuilt.
-- Answers { 'ok' | 'paused' | 'unbuilt', ready left, garbage, {workspace, entry…}… }.
--
-- Self-clocked fair queueing: the workspace with the smallest virtual time is
-- served one ticket and moves on by its cost, until the batch is full. All
-- that is computed first; then the first tickets of each workspace are taken at once.
local max, wait, refuse = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local s = load()
if refuse and not is_built(s) then return { 'unbuilt', s.ready, 0 } end
if s.paused then return { 'paused', s.ready, 0 } end
local room = max
if s.max_running then room = math.min(room, s.max_running - s.flight) end
if room <= 0 or s.turn == 0 then return { 'ok', s.ready, 0 } end

-- A heap of workspaces by (virtual time, place in TURN).
local heap, size, seen = {}, 0, 0
local tag, rank, cost = {}, {}, {}

local function before(a, b) return tag[a] < tag[b] or (tag[a] == tag[b] and rank[a] < rank[b]) end

local function sink()
  local i = 1
  while true do
    local left, right, least = 2 * i, 2 * i + 1, i
    if left <= size and before(heap[left], heap[least]) then least = left end
    if right <= size and before(heap[right], heap[least]) then least = right end
    if least == i then return end
    heap[i], heap[least] = heap[least], heap[i]
    i = least
  end
end

local function drop_first()
  heap[1], heap[size] = heap[size], nil
  size = size - 1
  sink()
end

-- Takes more workspaces from TURN into the heap.
local function look(amount)
  local page, names = redis.call('ZRANGE', TURN, seen, seen + amount - 1, 'WITHSCORES'), {}
  for i = 1, #page, 2 do
    if page[i + 1] == 'inf' then break end
    names[#names + 1] = page[i]
    tag[page[i]] = tonumber(page[i + 1])
  end
  if #names == 0 then return end
  local each = costs(names)
  for i, name in ipairs(names) do
    seen = seen + 1
    cost[name], rank[name] = each[i], seen
    size = size + 1
    heap[size] = name
    local at = size
    while at > 1 and before(heap[at], heap[math.floor(at / 2)]) do
      local up = math.floor(at / 2)
      heap[at], heap[up] = heap[up], heap[at]
      at = up
    end
  end
end

-- The first `room` workspaces suffice, for each has a ticket; one that turns
-- out to have none is replaced by the next. TURN is not written until the
-- choice is made, so places in it stay true.
local taken, garbage, useless = 0, 0, 0
local stock, left, took, order = {}, {}, {}, {}
local away, tags = {}, {}
look(room)
while taken < room and size > 0 and useless < 1000 do
  local name = heap[1]
  local have = left[name]
  if not have then
    have = on_ready(name, 'ZCARD')
    stock[name] = have
    if #name ~= WORKSPACE_LENGTH then
      garbage = garbage + math.max(have, 1)
      redis.call('DEL', READY .. name)
      away[#away + 1] = name
      have = 0
    elseif have == 0 then
      away[#away + 1] = name
    elseif s.per_workspace then
      have = math.min(have, s.per_workspace - (tonumber(redis.call('HGET', RUNNING, name)) or 0))
      if have <= 0 then tags[#tags + 1], tags[#tags + 2] = '+inf', name end
    end
    if have <= 0 then
      useless = useless + 1
      look(1)
    else
      took[name] = 0
      order[#order + 1] = name
    end
  end
  if have <= 0 then
    drop_first()
  else
    -- Alone, it gets all there is; otherwise one ticket at a time.
    local n = size == 1 and math.min(have, room - taken) or 1
    taken = taken + n
    took[name], left[name] = took[name] + n, have - n
    tag[name] = tag[name] + n * cost[name]
    s.vtime = math.max(s.vtime, tag[name] - cost[name])
    sink()
  end
end

local due = in_ms(wait)
local answer, flight, amounts = { 'ok', 0, 0 }, {}, {}
for i, name in ipairs(order) do
  -- Not ZPOPMIN: it would write out every score, and nobody reads them.
  local row = on_ready(name, 'ZRANGE', 0, took[name] - 1)
  on_ready(name, 'ZREMRANGEBYRANK', 0, took[name] - 1)
  for at = 1, #row do
    flight[#flight + 1], flight[#flight + 2] = due, row[at]
  end
  amounts[i] = #row
  table.insert(row, 1, name)
  answer[#answer + 1] = row
  if took[name] >= stock[name] then
    away[#away + 1] = name
  else
    tags[#tags + 1], tags[#tags + 2] = (s.per_workspace and left[name] == 0) and '+inf' or tag[name], name
  end
end
if #order > 0 then
  fly(s, flight)
  count(order, amounts)
end
if #tags > 0 then redis.call('ZADD', TURN, unpack(tags)) end
if #away > 0 then
  redis.call('ZREM', TURN, unpack(away))
  if #away == s.turn then s.ready = taken end
end
s.ready = s.ready - taken
save(s)
answer[2], answer[3] = math.max(s.ready, 0), garbage
return answer
