-- Enters a connection among those of an identity.
--
-- KEYS[1]  the identity's connections: a hash of JSON by connection
-- KEYS[2]  the order of its held writes: a sorted set
-- ARGV[1]  the connection
-- ARGV[2]  its entry, in JSON
-- ARGV[3]  for how long to keep it, in milliseconds
-- ARGV[4]  how many connections there may be
-- ARGV[5]  before which moment an entry must have lapsed to be forgotten, in milliseconds since the epoch
--
-- Returns how many writes are held.

local key, connection, entry, keep_ms, most, before = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

redis.call('HSET', key, connection, entry)
if redis.call('PTTL', key) < keep_ms then
    redis.call('PEXPIRE', key, keep_ms)
end

-- Only when there are too many is it worth looking at each.
if redis.call('HLEN', key) > most then
    local all, stalest, least = redis.call('HGETALL', key), nil, nil
    for i = 1, #all, 2 do
        local lapses = cjson.decode(all[i + 1])['until']
        if lapses < before then
            redis.call('HDEL', key, all[i])
        elseif all[i] ~= connection and (not least or lapses < least) then
            stalest, least = all[i], lapses
        end
    end
    if stalest and redis.call('HLEN', key) > most then
        redis.call('HDEL', key, stalest)
    end
end

return redis.call('ZCARD', KEYS[2])
