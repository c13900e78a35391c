-- Takes a waiting message by its task's id, as if it had been fetched.
-- KEYS: unacked, unacked_index, the owner's held set, waiting, waiting messages, waiting ids   ARGV: task id
-- Gives its tag, its queue and the message; nothing when it does not wait.
local call = redis.call
local waits = call('HGET', KEYS[6], ARGV[1])
if not waits then return {} end
call('HDEL', KEYS[6], ARGV[1])
local entry = call('HGET', KEYS[5], waits)
if not entry then return {} end
local line = string.find(entry, '\n', 1, true)
local queue, message = cjson.decode(string.sub(entry, 1, line - 1)).queue, string.sub(entry, line + 1)
call('ZREM', KEYS[4], waits)
call('HDEL', KEYS[5], waits)
local tag, more = waits, 0
while call('HEXISTS', KEYS[1], tag) == 1 do
    more = more + 1
    tag = waits .. ':' .. more
end
local now = call('TIME')
call('ZADD', KEYS[2], now[1] .. '.' .. string.format('%06d', now[2]), tag)
call('HSET', KEYS[1], tag, '[' .. message .. ', "", ' .. cjson.encode(queue) .. ']')
call('SADD', KEYS[3], tag)
return {tag, queue, message}
