-- Writes a connection's state, if it is by a newer message than what is there.
--
-- KEYS[1]  the connection's key: a hash of `by` (the message's sequence) and `state`;
--          of `owned_by` and `owner`, who may name a successor, or none if no one; of `successor`; and of `deserted`, if it
--          was no one's when it closed
-- ARGV[1]  the sequence, in decimal without leading zeros
-- ARGV[2]  the state, as text that is equal where the state is
-- ARGV[3]  for how long to keep it, in milliseconds
-- ARGV[4]  the owner by this message, or none if it is no one's from now on; absent if it does not say
--
-- Returns what became of the write: changed, unchanged or stale.

local key, by, state, keep_ms, owner = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local present = redis.call('HMGET', key, 'by', 'state', 'owned_by', 'owner')
local present_by, present_state, owned_by, present_owner = present[1], present[2], present[3], present[4]

local outcome = 'changed'
if present_by and not newer(by, present_by) then
    if by ~= present_by or state ~= present_state then
        outcome = 'stale'
    end
elseif present_by and state == present_state then
    outcome = 'unchanged'
end
if outcome ~= 'stale' then
    redis.call('HSET', key, 'by', by, 'state', state)
    redis.call('PEXPIRE', key, keep_ms)
end

-- A close hides who was there before it, so the owner has an order of its own:
-- a log-out that comes after the close still takes the right to resume away.
if owner and not (owned_by and not newer(by, owned_by)) then
    if owner ~= present_owner then
        redis.call('HDEL', key, 'successor')
    end
    if owner ~= '' then
        redis.call('HDEL', key, 'deserted')
    end
    redis.call('HSET', key, 'owned_by', by, 'owner', owner)
end
return outcome
