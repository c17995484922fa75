-- Takes out of the index those of whom something is held since before a moment.
--
-- KEYS[1]  the index: a sorted set of identities by moment
-- ARGV[1]  the moment, in milliseconds since the epoch
-- ARGV[2]  how many at most
--
-- Returns them.

local found = redis.call('ZRANGE', KEYS[1], '-inf', '(' .. ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
if #found > 0 then
    redis.call('ZREM', KEYS[1], unpack(found))
end
return found
