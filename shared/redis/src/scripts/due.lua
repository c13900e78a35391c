-- Messages whose time has come go to their queues, the earliest to be served first.
-- KEYS: waiting, waiting messages, waiting ids   ARGV: how many at most
-- Gives how many were due, and the seconds until the next one is ('' when none waits).
local call = redis.call
if call('EXISTS', KEYS[1]) == 0 then return {0, ''} end
local time = call('TIME')
local now = time[1] + time[2] / 1000000
local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[1])
for i = #due, 1, -1 do
    local tag = due[i]
    local entry = call('HGET', KEYS[2], tag)
    local refused = false
    if entry then
        local line = string.find(entry, '\n', 1, true)
        local place = cjson.decode(string.sub(entry, 1, line - 1))
        local pushed = redis.pcall('RPUSH', place.list, string.sub(entry, line + 1))
        if type(pushed) == 'table' and pushed.err then
            if not string.find(pushed.err, 'WRONGTYPE', 1, true) then error(pushed.err, 0) end
            -- no list: somebody else's, who may take it away
            call('ZADD', KEYS[1], now + 60, tag)
            refused = true
        elseif call('HGET', KEYS[3], place.id) == tag then
            call('HDEL', KEYS[3], place.id)
        end
    end
    if not refused then
        call('ZREM', KEYS[1], tag)
        call('HDEL', KEYS[2], tag)
    end
end
local first = call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {#due, first[2] and string.format('%.6f', math.max(0, tonumber(first[2]) - now)) or ''}
