-- Forgets held writes.
--
-- KEYS[1]  what is held: a hash of JSON by `w:<key>`, `bytes`, and `next`
-- KEYS[2]  their order: a sorted set of keys
-- ARGV     the keys
--
-- Returns how many are left.

local writes, order = KEYS[1], KEYS[2]
for _, name in ipairs(ARGV) do
    local text = redis.call('HGET', writes, 'w:' .. name)
    if text then
        local bytes = #cjson.decode(text).body
        redis.call('HDEL', writes, 'w:' .. name)
        redis.call('HSET', writes, 'bytes', tonumber(redis.call('HGET', writes, 'bytes')) - bytes)
    end
    redis.call('ZREM', order, name)
end

local left = redis.call('ZCARD', order)
if left == 0 then
    redis.call('DEL', writes, order)
end
return left
