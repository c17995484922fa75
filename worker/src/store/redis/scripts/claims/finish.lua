-- Ends a run with what it came to. Of several runs of one message the first that ends counts.
--
-- ARGV[8]  how many bytes of answers there may be
-- ARGV[9]  what it came to; absent if that is not kept
--
-- Returns what another run came to before, if there was one and that is kept.

local theirs, is, rest = present()
if theirs and theirs ~= fingerprint then
    return
elseif is == 'answer' then
    return rest
elseif is == 'done' then
    return
end
if ARGV[9] then
    write('answer:' .. ARGV[9])
    redis.call('ZADD', answers, ARGV[5], id)
    local bytes = count(#ARGV[9])
    while bytes > tonumber(ARGV[8]) do
        -- That it was done stays known.
        local oldest = redis.call('ZRANGE', answers, 0, 0)[1]
        local its, _, text = read(oldest)
        redis.call('HSET', records, 'i:' .. oldest, its .. ':done:')
        redis.call('ZREM', answers, oldest)
        bytes = count(-#text)
    end
else
    write('done:')
end
keep()
