-- No ARGV. Answers { ready, in flight, workspaces with ready work, paused, built }.
local s = load()
return { math.max(s.ready, 0), s.flight, s.turn, s.paused and 1 or 0, is_built(s) and 1 or 0 }
