-- Forgets held messages, and remembers for a while that they were held.
--
-- KEYS[1]  what is held: a hash of `<bytes>:<JSON>` by sequence, and `bytes`, the sum
-- KEYS[2]  what was dropped lately: a sorted set of sequences
-- ARGV[1]  for how long to remember it, in milliseconds
-- ARGV[2]  how many to remember
-- ARGV[3…] the sequences
--
-- Returns how many are left.

local key, dropped, keep_ms, most = KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local held_bytes, any = tonumber(redis.call('HGET', key, 'bytes') or '0'), false
for i = 3, #ARGV do
    local text = redis.call('HGET', key, ARGV[i])
    if text then
        any = true
        held_bytes = held_bytes - tonumber(string.match(text, '^%d+'))
        redis.call('HDEL', key, ARGV[i])
        redis.call('ZADD', dropped, ARGV[i], ARGV[i])
    end
end
if any then
    redis.call('ZREMRANGEBYRANK', dropped, 0, -1 - most)
    keep_at_least(dropped, keep_ms)
    redis.call('HSET', key, 'bytes', held_bytes)
end

local fields = redis.call('HLEN', key)
if fields <= 1 then
    redis.call('DEL', key)
    return 0
end
return fields - 1
