-- Lets a message wait outside of any worker until its time comes.
-- KEYS: unacked, unacked_index, the owner's held set, waiting, waiting messages, waiting ids
-- ARGV: delivery tag, when (seconds since the epoch), task id, entry: its place as JSON on one line, then the message
-- A message that is no longer the owner's was put here before, or another has it: nothing is done.
local call, tag = redis.call, ARGV[1]
if call('SREM', KEYS[3], tag) == 0 then return 0 end
record(tag)
call('ZREM', KEYS[2], tag)
if call('HDEL', KEYS[1], tag) == 0 then return 0 end
-- two messages with one tag would hide one another
local unique, more = tag, 0
while call('HEXISTS', KEYS[5], unique) == 1 do
    more = more + 1
    unique = tag .. ':' .. more
end
call('ZADD', KEYS[4], ARGV[2], unique)
call('HSET', KEYS[5], unique, ARGV[4])
call('HSET', KEYS[6], ARGV[3], unique)
return 1
