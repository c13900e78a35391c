-- KEYS: the owners, when somebody last said that it lives, a mark that claims are not to be judged
-- ARGV: this owner, milliseconds that its claim holds, milliseconds of silence that are Redis' own, milliseconds of the mark
-- Gives whether its claim had lapsed, the time in microseconds, then the owners whose claims have.
local call, owner, ttl = redis.call, ARGV[1], tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(call('SET', KEYS[2], now, 'GET') or 0)
if now - last > tonumber(ARGV[3]) then
    -- Nobody was heard: Redis was away, or stood still. Whoever lives gets the time to say so.
    for _, silent in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', now + ttl)) do
        call('ZADD', KEYS[1], now + ttl, silent)
    end
    call('SET', KEYS[3], 1, 'PX', ARGV[4])
end
local dead, lapsed = {}, 0
for _, silent in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    if silent == owner then lapsed = 1 else dead[#dead + 1] = silent end
end
if call('ZADD', KEYS[1], now + ttl, owner) == 1 then lapsed = 1 end
return {tostring(lapsed), time[1] .. string.format('%06d', time[2]), unpack(dead)}
