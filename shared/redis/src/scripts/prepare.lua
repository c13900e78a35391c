-- Prepares a place for one message that Redis gives by itself (BLMOVE), and claims it for its owner.
-- KEYS: unacked, the owners, the owner's held set, the place   ARGV: the owner, the delivery tag, the queue
-- Gives whether it is empty. May be called while Redis waits: what has come since is named and claimed.
local call = redis.call
local time = call('TIME')
-- Who holds something is on the list of those who must say that they live. Its place is struck off by the time since then.
call('ZADD', KEYS[2], 'GT', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
call('SADD', KEYS[3], ARGV[2])
local message, queue = place(ARGV[2])
if message and call('LLEN', KEYS[4]) == 1 then
    call('RPUSH', KEYS[4], ARGV[3])
elseif not message then
    if queue then call('LSET', KEYS[4], 0, ARGV[3]) else call('RPUSH', KEYS[4], ARGV[3]) end
end
return message and 0 or 1
