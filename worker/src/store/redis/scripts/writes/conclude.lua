-- Notes that a producer is told what became of a push: once and for all, or before that that it is held.
--
-- KEYS[1]  those that were: a sorted set of keys, by when
-- ARGV[1]  the key
-- ARGV[2]  now, in milliseconds since the epoch
-- ARGV[3]  how many to remember
-- ARGV[4]  for how long, in milliseconds
-- ARGV[5]  1 if it is held, else 0
--
-- Returns 1 if that is new, else 0.

local name = ARGV[1]
if redis.call('ZSCORE', KEYS[1], name) then
    return 0
end
if ARGV[5] == '1' then
    name = name .. ':held'
    if redis.call('ZSCORE', KEYS[1], name) then
        return 0
    end
end
redis.call('ZADD', KEYS[1], ARGV[2], name)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
keep_at_least(KEYS[1], tonumber(ARGV[4]))
return 1
