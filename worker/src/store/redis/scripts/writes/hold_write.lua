-- Holds something to be written, once in its mailbox.
--
-- KEYS[1]  what is held: a hash of `<bytes>:<JSON>` by `w:<key>`; `bytes`, the sum; `users`, that of
--          users; and `next`, which numbers them
-- KEYS[2]  their order: a sorted set of keys by number
-- KEYS[3]  their age: a sorted set of keys by when they were first given to us
-- ARGV[1]  the key
-- ARGV[2]  the write, in JSON
-- ARGV[3]  how many bytes it counts
-- ARGV[4]  how many there may be
-- ARGV[5]  how many bytes
-- ARGV[6]  when it was first given to us, in milliseconds since the epoch
-- ARGV[7]  for how long to keep it, in milliseconds
-- ARGV[8]  with what the keys of its sender begin, if that is a user, or nothing
-- ARGV[9]  how many writes one user may have
-- ARGV[10] how many writes all users may have
-- ARGV[11] how many bytes
--
-- Returns how many are held, or -1 if this one may not be.

local USER = '^u:'

local writes, order, age = KEYS[1], KEYS[2], KEYS[3]
local name, bytes, keep_ms = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[7])

if redis.call('HEXISTS', writes, 'w:' .. name) == 0 then
    local held_bytes = tonumber(redis.call('HGET', writes, 'bytes') or '0')
    if redis.call('ZCARD', order) >= tonumber(ARGV[4]) or held_bytes + bytes > tonumber(ARGV[5]) then
        return -1
    end
    if ARGV[8] ~= '' then
        local of_users, of_sender = 0, 0
        for _, key in ipairs(redis.call('ZRANGE', order, 0, -1)) do
            if string.find(key, USER) then
                of_users = of_users + 1
                if string.sub(key, 1, #ARGV[8]) == ARGV[8] then
                    of_sender = of_sender + 1
                end
            end
        end
        local users_bytes = tonumber(redis.call('HGET', writes, 'users') or '0') + bytes
        if of_sender >= tonumber(ARGV[9]) or of_users >= tonumber(ARGV[10]) or users_bytes > tonumber(ARGV[11]) then
            return -1
        end
        redis.call('HSET', writes, 'users', users_bytes)
    end
    local number = tonumber(redis.call('HGET', writes, 'next') or '0') + 1
    redis.call('HSET', writes, 'w:' .. name, ARGV[3] .. ':' .. ARGV[2], 'bytes', held_bytes + bytes, 'next', number)
    redis.call('ZADD', order, number, name)
    redis.call('ZADD', age, ARGV[6], name)
end
for _, key in ipairs(KEYS) do
    keep_at_least(key, keep_ms)
end
return redis.call('ZCARD', order)
