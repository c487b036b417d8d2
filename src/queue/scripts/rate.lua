-- One request into every bucket, or into none. KEYS: the buckets, each the
-- moment (µs of Redis TIME) at which it is empty; ARGV: for each what one
-- request fills and what it holds, µs. Answers whether they took it, and how
-- full each is now.
--
-- A moment is an exact integer below 2^53 until the year 2255.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local full, took = {}, 1
for i, key in ipairs(KEYS) do
  local one, room = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local kept = redis.pcall('GET', key)
  -- A key of another type, or no number: an empty bucket.
  local empty_at = type(kept) == 'string' and tonumber(kept) or now
  -- A clock that was set back must not shut anybody out for long.
  full[i] = math.min(math.max(empty_at - now, 0), room)
  if full[i] + one > room then took = 0 end
end
if took == 1 then
  for i, key in ipairs(KEYS) do
    full[i] = full[i] + tonumber(ARGV[2 * i - 1])
    redis.call('SET', key, string.format('%.0f', now + full[i]), 'PX', math.ceil(full[i] / 1000) + 1)
  end
end
return { took, full }
