-- Records revocations, or makes those of their targets stricter. None gives way to another. That of all identities has a place
-- whenever it comes: it is what is left to do where there are too many.
--
-- KEYS[1]  the revocations: a hash of `<issued before>:<effective>:<until>` by target
-- KEYS[2]  until when each is kept: a sorted set of targets
-- ARGV[1]  now; this and all other times in milliseconds since the epoch
-- ARGV[2]  for how long to keep all of it, in milliseconds
-- ARGV[3]  how many there may be
-- ARGV[4]  how many of those that are over to forget at most, if there is no room
-- ARGV     and of each revocation its target, issued before, effective, and until
--
-- Returns how many replicas follow, and the numbers, from 0, of those that are too many.

local all, ends, now, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[3])

-- `forget_revocations` has the same for a reading.
local function forget()
    local over = redis.call('ZRANGE', ends, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[4])
    if #over > 0 then
        redis.call('HDEL', all, unpack(over))
        redis.call('ZREM', ends, unpack(over))
    end
end

-- As the target is written.
local everyone = '"everyone"'
local refused = {}
for at = 5, #ARGV, 4 do
    local target, issued_before, effective, lasts = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local present = redis.call('HGET', all, target)
    local has_place = present or target == everyone
    if not has_place and redis.call('ZCARD', ends) >= most then
        forget()
    end
    if not has_place and redis.call('ZCARD', ends) >= most then
        table.insert(refused, (at - 5) / 4)
    else
        if present then
            local a, b, c = string.match(present, '^(%d+):(%d+):(%d+)$')
            if newer(a, issued_before) then issued_before = a end
            if newer(effective, b) then effective = b end
            if newer(c, lasts) then lasts = c end
        end
        redis.call('HSET', all, target, issued_before .. ':' .. effective .. ':' .. lasts)
        redis.call('ZADD', ends, lasts, target)
    end
end
if redis.call('EXISTS', all) == 1 then
    keep_at_least(all, tonumber(ARGV[2]))
    keep_at_least(ends, tonumber(ARGV[2]))
end

-- Where a server does not say, there is none.
local replicas = 0
local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' then
    for _ in string.gmatch(info, 'slave%d+:[^\r\n]*state=online') do
        replicas = replicas + 1
    end
end
return { replicas, refused }
