-- ARGV: token. Answers 1 if the agent is built now, 0 if Redis lost
-- something since the rebuild began.
local s = load()
if s.build ~= ARGV[1] or not whole(s) or string.find(ARGV[1], run_id(), 1, true) ~= 1 then return 0 end
redis.call('HSET', CONTROL, 'built', ARGV[1])
wake()
return 1
