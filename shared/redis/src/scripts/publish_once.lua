-- Publishes messages that were not published before.
-- KEYS: the count of these calls; for each message its mark, its list, the binding of its queue, the set of queues
-- ARGV: seconds a mark is kept, then for each message what its mark holds, its text, the binding's member, its queue
-- Gives the count, then for each: 1 published, 0 was published before, or the text of an error (then it was not).
-- The mark and the message are one write: a Redis that loses one of them loses both, and the count goes back with them.
local out = {redis.call('INCR', KEYS[1])}
for i = 1, (#KEYS - 1) / 4 do
    local k, a = 1 + (i - 1) * 4, 1 + (i - 1) * 4
    if redis.call('EXISTS', KEYS[k + 1]) == 1 then
        out[i + 1] = 0
        redis.call('EXPIRE', KEYS[k + 1], ARGV[1])
    else
        local pushed = redis.pcall('LPUSH', KEYS[k + 2], ARGV[a + 2])
        if type(pushed) == 'table' and pushed.err then
            out[i + 1] = pushed.err
        else
            out[i + 1] = 1
            redis.call('SETEX', KEYS[k + 1], ARGV[1], ARGV[a + 1])
            -- without its binding the message is served all the same
            redis.pcall('SADD', KEYS[k + 3], ARGV[a + 3])
            redis.pcall('SADD', KEYS[k + 4], ARGV[a + 4])
        end
    end
end
return out
