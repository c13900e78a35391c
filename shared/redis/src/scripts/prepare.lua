-- Prepares places for messages that Redis gives by itself (BLMOVE), one for each, and claims them for their owner.
-- KEYS: unacked, the owners, the owner's held set   ARGV: the owner, the queue, then delivery tags
-- Gives 1. May be called while Redis waits: what has come since is named and claimed.
local call, tags = redis.call, {unpack(ARGV, 3)}
if #tags == 0 then return 1 end
local time = call('TIME')
-- Who holds something is on the list of those who must say that they live. Its places are struck off by the time since then.
call('ZADD', KEYS[2], 'GT', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
call('SADD', KEYS[3], unpack(tags))
for _, tag in ipairs(tags) do
    local message, queue, key = place(tag)
    if message and call('LLEN', key) == 1 then
        call('RPUSH', key, ARGV[2])
    elseif not message then
        if queue then call('LSET', key, 0, ARGV[2]) else call('RPUSH', key, ARGV[2]) end
    end
end
return 1
