-- Forgets revocations that are over.
--
-- KEYS[1]  the revocations: a hash by target
-- KEYS[2]  until when each is kept: a sorted set of targets
-- ARGV[1]  now, in milliseconds since the epoch
-- ARGV[2]  how many to forget at most

local over = redis.call('ZRANGE', KEYS[2], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
if #over > 0 then
    redis.call('HDEL', KEYS[1], unpack(over))
    redis.call('ZREM', KEYS[2], unpack(over))
end
