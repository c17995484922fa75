-- Gives a connection a place among those that its identity may have, or keeps the one that it has.
--
-- KEYS[1]  the places: a sorted set of connections, by when each was given its own
-- KEYS[2]  when each ends: a sorted set of connections
-- ARGV[1]  the connection
-- ARGV[2]  now, in milliseconds since the epoch
-- ARGV[3]  when its place ends, likewise
-- ARGV[4]  for how long that is, in milliseconds
-- ARGV[5]  how many places there are
-- ARGV[6]  1 if the oldest connections are to be closed, 0 if none is
-- ARGV[7]  1 if it is authenticated already, and cannot be refused; else 0
-- ARGV[8]  the connection whose place it takes over; empty if none
-- ARGV[9]  how many places are remembered at most
-- ARGV[10] how many connections are named at most
--
-- Returns 1 and the connections that are to be closed, the oldest first; or 0, if it has no place, and some that have one.

local places, ends, connection, now, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local closes_oldest, named = ARGV[6] == '1', tonumber(ARGV[10])

local function leave(names)
    if #names > 0 then
        redis.call('ZREM', places, unpack(names))
        redis.call('ZREM', ends, unpack(names))
    end
end

-- So many end at each call at most, so that none takes long: more than can have come by one.
leave(redis.call('ZRANGE', ends, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, 100))
if ARGV[8] ~= '' then
    leave({ ARGV[8] })
end

local count = redis.call('ZCARD', places)
local is_new = not redis.call('ZSCORE', places, connection)
if is_new and not closes_oldest and ARGV[7] == '0' and count >= most then
    -- Others each time, so that each comes to be named.
    local from = now % math.ceil(count / named) * named
    return { '0', unpack(redis.call('ZRANGE', places, from, from + named - 1)) }
end
if is_new then
    redis.call('ZADD', places, now, connection)
    leave(redis.call('ZRANGE', places, 0, -1 - tonumber(ARGV[9])))
end
redis.call('ZADD', ends, ARGV[3], connection)
keep_at_least(places, tonumber(ARGV[4]))
keep_at_least(ends, tonumber(ARGV[4]))

local admitted = { '1' }
local over = math.min(redis.call('ZCARD', places) - most, named)
if closes_oldest and over > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', places, 0, over - 1)) do
        if oldest ~= connection then
            admitted[#admitted + 1] = oldest
        end
    end
end
return admitted
