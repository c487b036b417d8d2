-- What every script of the queue shares. KEYS[1] is the agent's base key,
-- `PREFIX:{AGENT}`; every key below carries that hash tag, so a script never
-- leaves its cluster slot.
--
-- An entry is `workspace|member`, the same text in READY and in FLIGHT, because
-- making a string costs a script more than storing a longer one.
--
-- A call carries at most 1,000 tickets (the caller cuts), so unpack() stays
-- far below Lua's limit and no call holds Redis for long.
local CONTROL = KEYS[1] .. ':control' -- HASH: seq front vtime ready | paused max_running max_running_per_workspace version | build built
local TURN    = KEYS[1] .. ':turn'    -- ZSET: workspace -> virtual time of its next ticket; +inf = parked at its limit
local FLIGHT  = KEYS[1] .. ':flight'  -- ZSET: entry -> deadline, ms of Redis TIME
local RUNNING = KEYS[1] .. ':running' -- HASH: workspace -> entries in flight; '*' -> all of them
local WEIGHT  = KEYS[1] .. ':weight'  -- HASH: workspace -> share
local READY   = KEYS[1] .. ':ready:'  -- + workspace, ZSET: entry -> priority band + sequence
local WAKE    = KEYS[1] .. ':wake'    -- channel

local ALL = '*'
-- A score is an exact integer below 2^53: priority (0-9) * 2^49, plus a place
-- that starts in the middle and grows at the back, shrinks at the front.
local BAND, MIDDLE = 2 ^ 49, 2 ^ 48
-- What one ticket of weight 1 costs in virtual time.
local COST = 2520
local WORKSPACE_LENGTH = 22
-- Longer than what Redis keeps in a compact list (64 bytes). A list is small
-- but searched from end to end; adding this once makes the set an indexed one,
-- and it stays so until it is empty.
local INDEXED = string.rep('#', 65)
local MANY = 32

-- Reads every fixed key before anything is written, so that a key of the
-- wrong type stops the script while it has changed nothing.
local function load()
  local c = redis.call('HMGET', CONTROL, 'seq', 'front', 'vtime', 'ready', 'paused',
    'max_running', 'max_running_per_workspace', 'build', 'built')
  local s = {
    seq = tonumber(c[1]) or 0, front = tonumber(c[2]) or 0,
    vtime = tonumber(c[3]) or 0, ready = tonumber(c[4]) or 0,
    paused = c[5] == '1', max_running = tonumber(c[6]), per_workspace = tonumber(c[7]),
    build = c[8], built = c[9],
    turn = redis.call('ZCARD', TURN), flight = redis.call('ZCARD', FLIGHT),
    counted = tonumber(redis.call('HGET', RUNNING, ALL)) or 0,
  }
  -- Nobody waits: virtual time may start again, and a count that drifted
  -- because Redis evicted a key is put right.
  if s.turn == 0 then s.vtime, s.ready = 0, 0 end
  return s
end

local function save(s)
  redis.call('HSET', CONTROL, 'seq', s.seq, 'front', s.front, 'vtime', s.vtime, 'ready', math.max(s.ready, 0))
end

-- A command on a workspace's ready queue. A key of another type there is
-- deleted: its tickets are in Postgres and come again.
local function on_ready(workspace, command, ...)
  local answer = redis.pcall(command, READY .. workspace, ...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) ~= 1 then error(answer) end
    redis.call('DEL', READY .. workspace)
    answer = redis.call(command, READY .. workspace, ...)
  end
  return answer
end

-- Puts entries in flight (args: score, entry, …); answers how many are new.
local function fly(s, args)
  if s.flight > 0 then return redis.call('ZADD', FLIGHT, unpack(args)) end
  redis.call('ZADD', FLIGHT, 0, INDEXED)
  local new = redis.call('ZADD', FLIGHT, unpack(args))
  redis.call('ZREM', FLIGHT, INDEXED)
  s.flight = new
  return new
end

-- What one ticket of each workspace costs.
local function costs(workspaces)
  local weights = redis.pcall('HMGET', WEIGHT, unpack(workspaces))
  if weights.err then
    redis.call('DEL', WEIGHT)
    weights = {}
  end
  local all = {}
  for i = 1, #workspaces do
    local weight = tonumber(weights[i])
    all[i] = weight and weight >= 1 and math.max(math.floor(COST / weight), 1) or COST
  end
  return all
end

-- Workspaces with ready work take their turn one ticket after the current
-- virtual time: who was idle earned nothing, and who comes back after every
-- ticket cannot overtake who waits.
local function join(s, workspaces, how)
  if #workspaces == 0 then return end
  local cost, args = costs(workspaces), {}
  for i = 1, #workspaces do
    args[2 * i - 1], args[2 * i] = s.vtime + cost[i], workspaces[i]
  end
  redis.call('ZADD', TURN, how or 'NX', unpack(args))
end

-- Adds to the counts of what is in flight; amounts may be negative.
local function count(workspaces, amounts)
  local names, total = {}, 0
  for i = 1, #workspaces do names[i] = workspaces[i] end
  names[#names + 1] = ALL
  local now, set, unset = redis.call('HMGET', RUNNING, unpack(names)), {}, {}
  for i = 1, #names do
    local amount = amounts[i] or total
    total = total + amount
    local value = (tonumber(now[i]) or 0) + amount
    if value > 0 then
      set[#set + 1], set[#set + 2] = names[i], value
    else
      unset[#unset + 1] = names[i]
    end
  end
  if #set > 0 then redis.call('HSET', RUNNING, unpack(set)) end
  if #unset > 0 then redis.call('HDEL', RUNNING, unpack(unset)) end
end

-- Entries have left flight: counts go down, and a workspace parked at its
-- limit takes its turn again.
local function release(s, workspaces, amounts)
  if #workspaces == 0 then return end
  local less = {}
  for i = 1, #workspaces do less[i] = -amounts[i] end
  count(workspaces, less)
  if s.per_workspace then
    local tags, back = redis.call('ZMSCORE', TURN, unpack(workspaces)), {}
    for i = 1, #workspaces do
      if tags[i] == 'inf' then back[#back + 1] = workspaces[i] end
    end
    join(s, back, 'XX')
  end
end

-- Tickets have left a ready queue by another door than pop.
local function left_ready(s, workspace, amount)
  if amount == 0 then return end
  s.ready = s.ready - amount
  if on_ready(workspace, 'ZCARD') == 0 then redis.call('ZREM', TURN, workspace) end
end

-- The band of an entry: a member ends with its priority, one digit.
local function band(entry) return (string.byte(entry, -1) - 48) * BAND + MIDDLE end

-- Puts entries before all others of their priority, in the order given.
local function put_in_front(s, workspace, entries)
  s.front = s.front - #entries
  local args = {}
  for i, entry in ipairs(entries) do
    args[2 * i - 1], args[2 * i] = band(entry) + s.front + i, entry
  end
  local new = on_ready(workspace, 'ZADD', 'NX', unpack(args))
  s.ready = s.ready + new
  return new
end

-- Reads `workspace, n, entry…` groups from ARGV.
local function groups(from)
  local all, at = {}, from
  while at < #ARGV do
    local n = tonumber(ARGV[at + 1])
    all[#all + 1] = { workspace = ARGV[at], entries = { unpack(ARGV, at + 2, at + 1 + n) } }
    at = at + 2 + n
  end
  return all
end

-- Milliseconds of Redis' own clock (no worker's clock is ever compared), so
-- much later; as text, because it is the score of many.
local function in_ms(wait)
  local t = redis.call('TIME')
  return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + wait)
end

local function wake() redis.call('PUBLISH', WAKE, '') end

-- The counts and what they count agree: neither key was lost alone.
local function whole(s) return s.counted == s.flight end

local function run_id() return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') end

-- Controls and in-flight entries were put here by a rebuild, in this very
-- process of Redis (a restart may have brought old data), and are whole.
local function is_built(s)
  return s.built and s.built == s.build and whole(s) and string.find(s.built, run_id(), 1, true) == 1
end
