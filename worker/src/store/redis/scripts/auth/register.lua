-- Enters a connection among those of an identity, unless a newer message has entered it or taken it out.
--
-- KEYS[1]  the identity's connections: a hash of `<by>:<JSON>` by connection
-- KEYS[2]  when each is forgotten: a sorted set of connections
-- KEYS[3]  the order of the pushes held for it: a sorted set
-- KEYS[4]  which have left: a hash of the message that said so by connection
-- KEYS[5]  which of them may be resumed: a sorted set of connections
-- ARGV[1]  the connection
-- ARGV[2]  its entry, in JSON
-- ARGV[3]  when it is forgotten, in milliseconds since the epoch
-- ARGV[4]  now, likewise
-- ARGV[5]  for how long to keep it, in milliseconds
-- ARGV[6]  how many connections there may be
-- ARGV[7]  the sequence of the message that enters it
--
-- Returns how many pushes are held; none if it is not entered.

local connections, ends, connection, by, keep_ms = KEYS[1], KEYS[2], ARGV[1], ARGV[7], tonumber(ARGV[5])

local left_by = redis.call('HGET', KEYS[4], connection)
local present = redis.call('HGET', connections, connection)
if (left_by and not newer(by, left_by)) or (present and newer(string.match(present, '^%d+'), by)) then
    return
end

-- So many leave at each entry at most, so that no entry takes long: more than can have come by one.
local leaving = redis.call('ZRANGE', ends, '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, 100)
if #leaving > 0 then
    redis.call('HDEL', connections, unpack(leaving))
    redis.call('ZREM', ends, unpack(leaving))
end

redis.call('ZREM', KEYS[5], connection)
redis.call('HSET', connections, connection, by .. ':' .. ARGV[2])
redis.call('ZADD', ends, ARGV[3], connection)
while redis.call('ZCARD', ends) > tonumber(ARGV[6]) do
    local stalest = redis.call('ZRANGE', ends, 0, 0)[1]
    redis.call('HDEL', connections, stalest)
    redis.call('ZREM', ends, stalest)
end
keep_at_least(connections, keep_ms)
keep_at_least(ends, keep_ms)

return redis.call('ZCARD', KEYS[3])
