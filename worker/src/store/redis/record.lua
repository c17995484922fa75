-- Writes a connection's state, if it is by a newer message than what is there.
--
-- KEYS[1]  the connection's key: a hash of `by` (the message's sequence), `state`, `owner` and `heir`
-- ARGV[1]  the sequence, in decimal without leading zeros
-- ARGV[2]  the state, as text that is equal where the state is
-- ARGV[3]  for how long to keep it, in milliseconds
-- ARGV[4]  what becomes of the owner: set, clear, or keep
-- ARGV[5]  the owner to set: whoever proves the same may name an heir
--
-- Returns what became of the write: changed, unchanged or stale.

-- Lua's numbers are exact only up to 2^53. A longer numeral is the larger
-- number, and of two equally long ones the text's order is the numbers'.
local function newer(a, b)
    return #a > #b or (#a == #b and a > b)
end

local key, by, state, keep_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local present = redis.call('HMGET', key, 'by', 'state')
local present_by, present_state = present[1], present[2]

local outcome = 'changed'
if present_by and not newer(by, present_by) then
    if by == present_by and state == present_state then
        return 'changed'
    end
    return 'stale'
elseif present_by and state == present_state then
    outcome = 'unchanged'
end

redis.call('HSET', key, 'by', by, 'state', state)
if ARGV[4] == 'set' then
    redis.call('HSET', key, 'owner', ARGV[5])
elseif ARGV[4] == 'clear' then
    redis.call('HDEL', key, 'owner')
end
redis.call('PEXPIRE', key, keep_ms)
return outcome
