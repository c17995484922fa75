-- Tells what was counted of a mailbox, and forgets it.
--
-- KEYS[1]  a hash of `count`
--
-- Returns how many.

local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0')
redis.call('DEL', KEYS[1])
return count
