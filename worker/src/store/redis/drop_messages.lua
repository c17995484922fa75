-- Forgets held messages.
--
-- KEYS[1]  what is held: a hash of JSON by sequence, and `bytes`
-- ARGV     the sequences
--
-- Returns how many are left.

local key = KEYS[1]
for _, sequence in ipairs(ARGV) do
    local text = redis.call('HGET', key, sequence)
    if text then
        local message = cjson.decode(text)
        local payload = message.payload
        local bytes = #message.kind + (type(payload) == 'string' and #payload or 0)
        redis.call('HDEL', key, sequence)
        redis.call('HSET', key, 'bytes', tonumber(redis.call('HGET', key, 'bytes')) - bytes)
    end
end

local fields = redis.call('HLEN', key)
if fields <= 1 then
    redis.call('DEL', key)
    return 0
end
return fields - 1
