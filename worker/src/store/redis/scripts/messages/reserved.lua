-- What stands before each script about what is held of connections that are no one's yet.
--
-- KEYS[1]  a hash: how many bytes, by connection, by terminator (with what the connection's name begins), and of `all`
-- KEYS[2]  a sorted set: when each connection's are given back
-- ARGV[1]  now, in milliseconds since the epoch
-- ARGV[2]  the connection

local sums, ends, now, connection = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

local function terminator_of(name)
    return string.match(name, '^[^.]+')
end

local function sum_of(name)
    return tonumber(redis.call('HGET', sums, name) or '0')
end

local function add(name, bytes)
    local sum = sum_of(name) + bytes
    if sum > 0 then
        redis.call('HSET', sums, name, sum)
    else
        redis.call('HDEL', sums, name)
    end
end

local function give_back(name)
    local bytes = sum_of(name)
    if bytes > 0 then
        add(name, -bytes)
        add(terminator_of(name), -bytes)
        add('all', -bytes)
    end
    redis.call('ZREM', ends, name)
end

-- So many end at each call at most, so that none takes long: more than can have begun by one.
for _, ended in ipairs(redis.call('ZRANGE', ends, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    give_back(ended)
end
