-- Holds something to be written to an identity, once.
--
-- KEYS[1]  what is held: a hash of JSON by `w:<key>`, `bytes`, and `next`, which numbers them
-- KEYS[2]  their order: a sorted set of keys
-- ARGV[1]  the key
-- ARGV[2]  the write, in JSON
-- ARGV[3]  how many bytes it counts
-- ARGV[4]  how many writes there may be
-- ARGV[5]  how many bytes
-- ARGV[6]  for how long to keep it, in milliseconds
--
-- Returns how many are held, 0 if this one is not.

local writes, order, name, bytes, keep_ms = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[6])

if redis.call('HEXISTS', writes, 'w:' .. name) == 0 then
    local held_bytes = tonumber(redis.call('HGET', writes, 'bytes') or '0')
    if redis.call('ZCARD', order) >= tonumber(ARGV[4]) or held_bytes + bytes > tonumber(ARGV[5]) then
        return 0
    end
    local number = tonumber(redis.call('HGET', writes, 'next') or '0') + 1
    redis.call('HSET', writes, 'w:' .. name, ARGV[2], 'bytes', held_bytes + bytes, 'next', number)
    redis.call('ZADD', order, number, name)
end
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < keep_ms then
        redis.call('PEXPIRE', key, keep_ms)
    end
end
return redis.call('ZCARD', order)
