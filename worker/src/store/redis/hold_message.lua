-- Holds a message of a connection, once.
--
-- KEYS[1]  what is held: a hash of JSON by sequence, and `bytes`
-- KEYS[2]  the connection's key
-- ARGV[1]  the sequence
-- ARGV[2]  the message, in JSON
-- ARGV[3]  how many bytes it counts
-- ARGV[4]  how many messages there may be
-- ARGV[5]  how many bytes
-- ARGV[6]  for how long to keep it, in milliseconds
--
-- Returns how many are held, 0 if this one is not, and the connection's heir.

local key, sequence, bytes, keep_ms = KEYS[1], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[6])
local heir = redis.call('HGET', KEYS[2], 'heir')
local fields = redis.call('HLEN', key)
local count = fields > 0 and fields - 1 or 0

if redis.call('HEXISTS', key, sequence) == 0 then
    local held_bytes = tonumber(redis.call('HGET', key, 'bytes') or '0')
    if count >= tonumber(ARGV[4]) or held_bytes + bytes > tonumber(ARGV[5]) then
        return { 0, heir }
    end
    redis.call('HSET', key, sequence, ARGV[2], 'bytes', held_bytes + bytes)
    count = count + 1
end
if redis.call('PTTL', key) < keep_ms then
    redis.call('PEXPIRE', key, keep_ms)
end
return { count, heir }
