-- ARGV: first and last place. Answers the entries in flight at these places,
-- those with the nearest deadline first.
load()
return redis.call('ZRANGE', FLIGHT, ARGV[1], ARGV[2])
