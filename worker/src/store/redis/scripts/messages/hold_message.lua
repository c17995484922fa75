-- Holds a message of a connection, once.
--
-- KEYS[1]  what is held: a hash of `<bytes>:<JSON>` by sequence, and `bytes`, the sum
-- KEYS[2]  what was dropped lately: a sorted set of sequences
-- KEYS[3]  the connection's key
-- ARGV[1]  the sequence
-- ARGV[2]  the message, in JSON
-- ARGV[3]  how many bytes it counts
-- ARGV[4]  how many messages there may be
-- ARGV[5]  how many bytes
-- ARGV[6]  for how long to keep it, in milliseconds
--
-- Returns how many are held, or -1 if this one may not be, or -2 if nothing of the connection is any more; and the
-- connection's successor.

local key, dropped, auth = KEYS[1], KEYS[2], KEYS[3]
local sequence, bytes, keep_ms = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[6])
local successor = redis.call('HGET', auth, 'successor')
local fields = redis.call('HLEN', key)
local count = fields > 0 and fields - 1 or 0

if redis.call('HGET', auth, 'deserted') then
    return { -2, successor }
end
if redis.call('ZSCORE', dropped, sequence) then
    return { count, successor }
end
if redis.call('HEXISTS', key, sequence) == 0 then
    local held_bytes = tonumber(redis.call('HGET', key, 'bytes') or '0')
    if count >= tonumber(ARGV[4]) or held_bytes + bytes > tonumber(ARGV[5]) then
        return { -1, successor }
    end
    redis.call('HSET', key, sequence, ARGV[3] .. ':' .. ARGV[2], 'bytes', held_bytes + bytes)
    count = count + 1
end
keep_at_least(key, keep_ms)
-- Anyone who may resume the connection can do so for as long as anything of it is held.
if redis.call('EXISTS', auth) == 1 then
    keep_at_least(auth, keep_ms)
end
return { count, successor }
