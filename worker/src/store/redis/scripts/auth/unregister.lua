-- Takes a connection out of those of an identity, unless a newer message has entered it.
--
-- KEYS[1]  the identity's connections: a hash of `<by>:<JSON>` by connection
-- KEYS[2]  when each is forgotten: a sorted set of connections
-- KEYS[3]  which have left: a hash of the message that said so by connection
-- KEYS[4]  when each left: a sorted set of connections
-- KEYS[5]  the same of those that may be resumed
-- KEYS[6]  their places: a sorted set of connections
-- KEYS[7]  when each place ends: another
-- ARGV[1]  the connection
-- ARGV[2]  now, in milliseconds since the epoch
-- ARGV[3]  for how long to remember that it left, in milliseconds
-- ARGV[4]  how many that have left to remember
-- ARGV[5]  how many that may be resumed
-- ARGV[6]  the sequence of the message that says so; absent if no message does, and the connection may come again

local connections, left, left_at, connection, by = KEYS[1], KEYS[3], KEYS[4], ARGV[1], ARGV[6]
local present = redis.call('HGET', connections, connection)
if present and by and newer(string.match(present, '^%d+'), by) then
    return
end
if redis.call('HDEL', connections, connection) == 1 then
    redis.call('ZADD', KEYS[5], ARGV[2], connection)
    redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -1 - tonumber(ARGV[5]))
    keep_at_least(KEYS[5], tonumber(ARGV[3]))
end
redis.call('ZREM', KEYS[2], connection)
redis.call('ZREM', KEYS[6], connection)
redis.call('ZREM', KEYS[7], connection)

-- Where no message says so, any may enter it again.
local said = by or '0'
local left_by = redis.call('HGET', left, connection)
if not (left_by and newer(left_by, said)) then
    redis.call('HSET', left, connection, said)
    redis.call('ZADD', left_at, ARGV[2], connection)
    while redis.call('ZCARD', left_at) > tonumber(ARGV[4]) do
        local oldest = redis.call('ZRANGE', left_at, 0, 0)[1]
        redis.call('HDEL', left, oldest)
        redis.call('ZREM', left_at, oldest)
    end
    keep_at_least(left, tonumber(ARGV[3]))
    keep_at_least(left_at, tonumber(ARGV[3]))
end
