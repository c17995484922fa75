-- Counts what belongs in a mailbox and is not held there.
--
-- KEYS[1]  a hash of `count`
-- ARGV[1]  how many more
-- ARGV[2]  for how long to remember it, in milliseconds

local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0') + tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'count', count)
keep_at_least(KEYS[1], tonumber(ARGV[2]))
