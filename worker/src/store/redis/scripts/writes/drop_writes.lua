-- Forgets held writes.
--
-- KEYS[1]  what is held: a hash of `<bytes>:<JSON>` by `w:<key>`; `bytes`, the sum; `users`, that of
--          users; and `next`, which numbers them
-- KEYS[2]  their order: a sorted set of keys by number
-- KEYS[3]  their age: a sorted set of keys by when they were first given to us
-- ARGV     the keys
--
-- Returns how many are left.

local writes, order, age = KEYS[1], KEYS[2], KEYS[3]
local held_bytes = tonumber(redis.call('HGET', writes, 'bytes') or '0')
local users_bytes = tonumber(redis.call('HGET', writes, 'users') or '0')
for _, name in ipairs(ARGV) do
    local text = redis.call('HGET', writes, 'w:' .. name)
    if text then
        local bytes = tonumber(string.match(text, '^%d+'))
        held_bytes = held_bytes - bytes
        if string.find(name, '^u:') then
            users_bytes = users_bytes - bytes
        end
        redis.call('HDEL', writes, 'w:' .. name)
        redis.call('ZREM', order, name)
        redis.call('ZREM', age, name)
    end
end

local left = redis.call('ZCARD', order)
if left == 0 then
    redis.call('DEL', writes, order, age)
else
    redis.call('HSET', writes, 'bytes', held_bytes, 'users', users_bytes)
end
return left
