-- Enters a connection among those of an identity.
--
-- KEYS[1]  the identity's connections: a hash of JSON by connection
-- KEYS[2]  when each is forgotten: a sorted set of connections
-- KEYS[3]  the order of its held writes: a sorted set
-- ARGV[1]  the connection
-- ARGV[2]  its entry, in JSON
-- ARGV[3]  when it is forgotten, in milliseconds since the epoch
-- ARGV[4]  now, likewise
-- ARGV[5]  for how long to keep it, in milliseconds
-- ARGV[6]  how many connections there may be
--
-- Returns how many writes are held.

local connections, ends, connection, keep_ms = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[5])

-- So many leave at each entry at most, so that no entry takes long: more than can have come by one.
local leaving = redis.call('ZRANGE', ends, '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, 100)
if #leaving > 0 then
    redis.call('HDEL', connections, unpack(leaving))
    redis.call('ZREM', ends, unpack(leaving))
end

redis.call('HSET', connections, connection, ARGV[2])
redis.call('ZADD', ends, ARGV[3], connection)
while redis.call('ZCARD', ends) > tonumber(ARGV[6]) do
    local stalest = redis.call('ZRANGE', ends, 0, 0)[1]
    redis.call('HDEL', connections, stalest)
    redis.call('ZREM', ends, stalest)
end
keep_at_least(connections, keep_ms)
keep_at_least(ends, keep_ms)

return redis.call('ZCARD', KEYS[3])
