-- What the scripts about claimed messages share. It stands before each of them.
--
-- KEYS[1]  the records: a hash, by `i:<id>`, of `<fingerprint>:` and one of
--            running:<until when, in milliseconds since the epoch>:<message id, or nothing>:<run>
--            answer:<what it came to>
--            done:, if what it came to is not kept;
--          and `bytes`, how long all answers are together
-- KEYS[2]  when each is forgotten: a sorted set of ids
-- KEYS[3]  when each that has an answer is forgotten: a sorted set of ids
-- ARGV[1]  the id
-- ARGV[2]  the fingerprint
-- ARGV[3]  the run
-- ARGV[4]  now, in milliseconds since the epoch
-- ARGV[5]  when the id is forgotten, likewise
-- ARGV[6]  for how long to keep all of it, in milliseconds
-- ARGV[7]  how many records there may be

local records, ends, answers = KEYS[1], KEYS[2], KEYS[3]
local id, fingerprint, run, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- The fingerprint of a record, what it is, and the rest.
local function read(one)
    local record = redis.call('HGET', records, 'i:' .. one)
    if record then
        return string.match(record, '^(%x+):(%l+):(.*)$')
    end
end

-- Counts that the answers have become longer, or shorter. Returns how long they are.
local function count(bytes)
    local sum = tonumber(redis.call('HGET', records, 'bytes') or '0') + bytes
    redis.call('HSET', records, 'bytes', sum)
    return sum
end

local function forget(one)
    local _, is, rest = read(one)
    if is == 'answer' then
        count(-#rest)
        redis.call('ZREM', answers, one)
    end
    redis.call('HDEL', records, 'i:' .. one)
    redis.call('ZREM', ends, one)
end

-- The record of the id, when what is over is forgotten: so many at a time, that no call takes long.
local function present()
    for _, over in ipairs(redis.call('ZRANGE', ends, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
        forget(over)
    end
    local gone_at = redis.call('ZSCORE', ends, id)
    if gone_at and tonumber(gone_at) <= now then
        forget(id)
    end
    return read(id)
end

-- Writes the record of the id.
local function write(what)
    redis.call('HSET', records, 'i:' .. id, fingerprint .. ':' .. what)
    redis.call('ZADD', ends, ARGV[5], id)
end

-- Lets go of what is too much, and keeps the rest.
local function keep()
    while redis.call('ZCARD', ends) > tonumber(ARGV[7]) do
        forget(redis.call('ZRANGE', ends, 0, 0)[1])
    end
    for _, key in ipairs(KEYS) do
        keep_at_least(key, tonumber(ARGV[6]))
    end
end

